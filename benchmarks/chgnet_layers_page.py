"""The section of docs/benchmarks.md on the factorised CHGNet."""

from typing import Any

from page import table, where


def chgnet_layers(data: dict[str, Any]) -> str:
    rows = []
    for name, row in data["rows"].items():
        ratios = row["ratio"]
        rows.append(
            [
                f"{name}, {row['atoms']} atoms",
                *(f"{row['ms'][way]:.1f}" for way in row["ms"]),
                *(f"{middle:.2f} ({low:.2f}-{high:.2f})" for low, middle, high in ratios.values()),
                f"{row['energy_difference_ev']:.0e}",
                f"{row['force_difference_ev_per_angstrom']:.0e}",
                row["n"],
            ]
        )
    head = [
        "system", "CHGNet's calculator, ms", "its layers in our call, ms", "factorised, ms", "calculator over ours",
        "layers over ours", "energies differ, eV", "forces differ, eV/Å", "n",
    ]  # fmt: skip
    return (
        "## CHGNet's layers (`chgnet_layers.py`)\n\nEnergy and forces of ten different structures on their way down, CPU ms"
        " per structure, medians; the calculator of the package takes one after the other, the other two take all in one"
        " call. Ratios with p10 and p90. Differences, at most, between the package's layers and the factorised ones in"
        f" float32.\n\n{table(head, rows)}\n{where(data)}"
    )
