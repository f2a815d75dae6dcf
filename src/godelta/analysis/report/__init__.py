"""Self-contained pages about campaigns, benchmarks and phase diagrams: functions of data."""
