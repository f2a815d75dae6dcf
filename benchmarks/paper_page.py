"""Section of docs/benchmarks.md on campaigns of the papers' kind."""

import json
from typing import Any

from page import table, where
from record import RESULTS

IMAGES = RESULTS.parent.parent / "docs" / "images"
HEAD = """\
## Campaigns of the papers' kind (`paper_runs.py`)

Whole campaigns with the files in `benchmarks/papers/`, one seed each: examples, not statistics. Ranks are those that a level
gives to the lowest structures of the reference; *own lowest* is how far above the reference's lowest the structure lies
that the level calls lowest. Errors per bond are slopes of the energy's error on the numbers of bonds, with their standard
errors. *Δ, left out*: what the Δ-model says of each structure when it has not learnt from that one.
"""


def paper_section() -> str:
    """Every campaign that has been run; "" where none has."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("paper_*.json"))]
    return "\n".join([HEAD, *map(_one, found)]) if found else ""


def _one(result: dict[str, Any]) -> str:
    name = str(result["benchmark"]).removeprefix("paper_")
    parts = [f"### {name}", "", f"`benchmarks/papers/{result['file']}`", "", _lowest(result)]
    if "compare" in result:
        parts += ["", _levels(result["compare"])]
    for suffix, text in (("", "errors of levels"), ("-phases", "phase diagram")):
        picture = IMAGES / f"paper-{name}{suffix}.png"
        if picture.exists():
            parts += ["", f"![{text}](images/{picture.name})"]
    if "phases" in result:
        parts += ["", _phases(result["phases"])]
    if "single_points" in result:
        parts += ["", _single_points(result)]
    return "\n".join([*parts, "", where(result), ""])


def _lowest(result: dict[str, Any]) -> str:
    rows = []
    for status in result["status"]:
        best = result["best"][status["name"]]
        rows.append(
            [
                status["name"],
                f"{best[0]['energy']:.4f}" if best else "-",
                "yes" if best and best[0]["refined"] else "no",
                f"{status['ok']} + {status['failed']} failed",
            ]
        )
    return table(["campaign", "lowest, eV", "refined", "evaluations"], rows)


def _levels(compared: dict[str, Any]) -> str:
    pairs = sorted(
        {bond["pair"] for level in compared["levels"].values() for bond in level["bonds"]["bonds"]}
    )
    rows = []
    for name, level in compared["levels"].items():
        slopes = {bond["pair"]: bond for bond in level["bonds"]["bonds"]}
        above = [
            minima["choices"][name]["above"] for minima in compared["minima"] if name in minima["choices"]
        ]
        rows.append(
            [
                name,
                level["n"],
                f"{1000 * level['energy']['mae']:.0f}",
                f"{1000 * level['forces']['mae']:.0f}" if level["forces"] else "",
                f"{level['spearman']:.2f}",
                ", ".join(f"{value:.2f}" for value in above),
                *(_slope(slopes.get(pair)) for pair in pairs),
            ]
        )
    head = [
        "level",
        "structures",
        "energy MAE, meV/atom",
        "forces MAE, meV/Å",
        "Spearman",
        "own lowest above, eV",
    ]
    return table([*head, *(f"{pair}, eV a bond" for pair in pairs)], rows)


def _slope(bond: dict[str, Any] | None) -> str:
    if bond is None or bond["slope"] is None:
        return "-"
    return f"{bond['slope']:+.2f} ± {bond['deviation']:.2f}"


def _phases(phases: dict[str, Any]) -> str:
    levels = phases["levels"]
    gas = levels["gas"]
    rows = [[row["name"], f"{row['low']:.2f} to {row['high']:.2f}"] for row in phases["stable"]]
    solids = ", ".join(f"{symbol} {energy:.4f}" for symbol, energy in levels["solids"].items())
    text = f"Compared with ½ {gas}2 {levels['gas_energy']:.4f} and {solids} eV per atom."
    return table(["stable", f"Δμ of {gas}, eV"], rows) + "\n\n" + text


def _single_points(result: dict[str, Any]) -> str:
    """The best structures at another reference; of three, the middle one against the mixture of the others."""
    other = result["single_points"]
    own = {name: best[0]["energy"] for name, best in result["best"].items()}
    columns = {"the campaigns' reference": own, f"`{json.dumps(other['reference'])}`": other["energies"]}
    rows = [[name, *(f"{energies[name]:.4f}" for energies in columns.values())] for name in own]
    if len(own) == 3:
        first, middle, last = own
        excess = [e[middle] - (e[first] + e[last]) / 2 for e in columns.values()]
        label = f"{middle} less the mean of {first} and {last}"
        rows.append([label, *(f"{value:+.3f}" for value in excess)])
    return "Single points of the lowest structures, eV:\n\n" + table(["campaign", *columns], rows)
