"""The round's workflow, the planner that grows the graph, workers and submission."""

if __name__ != "godelta.workflows":
    raise ImportError("import this package as godelta.workflows: install godelta with pip first")
