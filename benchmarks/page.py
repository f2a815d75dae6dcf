"""Parts that all sections of docs/benchmarks.md are made of."""

from typing import Any

JOBS = ("search", "select", "evaluate", "retrain", "planner")


def where(data: dict[str, Any]) -> str:
    machine = data["machine"]
    versions = ", ".join(
        f"{name} {number}" for name, number in data["versions"].items() if number[0].isdigit()
    )
    return (
        f"*{machine['processor']}, {machine['cores']} cores, load {machine['load_average']:.1f},"
        f" Python {machine['python']}; {versions}.*\n"
    )


def load_range(rows: list[dict[str, Any]]) -> str:
    loads = [row["load"] for row in rows]
    return f"Load average between {min(loads):.1f} and {max(loads):.1f}."


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
