"""The section of docs/benchmarks.md on what became of selected structures."""

import json
from typing import Any

from page import table, where
from record import RESULTS


def selected_section() -> str:
    files = sorted(RESULTS.glob("selected_*.json"))
    if not files:
        return ""
    parts = [
        "## What searches select (`selected.py`)\n\nStructures that were evaluated again although they were known, by how often they had been evaluated before;"
        " *lower* is by more than 0.02 eV, *refused now* are those whose last repetition had not been. Then promises: corrections that the Δ-model predicted below every one seen until then, and where they were in truth"
        " (medians, eV below the lowest seen; negative: above it).\n"
    ]
    for path in files:
        parts += _one(json.loads(path.read_text()))
    return "\n".join(parts)


def _one(data: dict[str, Any]) -> list[str]:
    repeats = [
        [
            ("once", "twice", "more often")[row["before"] - 1],
            row["n"],
            row["lower"],
            "-" if row["median_ev"] is None else f"{row['median_ev']:.3f}",
            f"{row['refused']} ({row['refused_and_lower']})",
        ]
        for row in data["repeats"]
    ]
    promises = [
        [
            _range(row["rounds"]),
            _range(row["beyond"]),
            row["n"],
            f"{row['promised_ev']:.2f}",
            f"{row['true_ev']:.2f}",
        ]
        for row in data["promises"]
    ]
    return [
        f"### {data['name']}: {data['evaluations']} evaluations of {data['campaigns']} campaigns\n",
        table(["evaluated before", "again", "lower", "lower by, median, eV", "refused now (lower)"], repeats),
        table(["rounds", "eV beyond", "n", "promised", "true"], promises),
        where(data),
    ]


def _range(ends: list[Any]) -> str:
    first, last = ends
    return f"from {first:g}" if last is None else f"{first:g} to {last:g}"
