"""Templates of FireWorks and jobflow configuration files."""
