"""Example campaigns, and calculators that they use."""
