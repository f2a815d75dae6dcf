"""Jobflow jobs of a campaign: thin wrappers that load, call the science, and store."""

if __name__ != "godelta.makers":
    raise ImportError("import this package as godelta.makers: install godelta with pip first")
