"""Reference energies: engines and their isolation."""
