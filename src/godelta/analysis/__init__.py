"""Functions of data: duplicates, plots."""
