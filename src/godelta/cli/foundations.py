"""`godelta foundations`: which potentials there are, and what of them is on this machine."""

from typing import TYPE_CHECKING, Any

from godelta.cli.options import FormatOption

if TYPE_CHECKING:
    from godelta.foundation.catalogue import Entry, Found


def foundations(output: FormatOption = "table") -> None:
    """List the foundation potentials: installed or not, weights, licence, elements, energy scale."""
    from godelta.cli.console import print_json
    from godelta.foundation.catalogue import CATALOGUE, look

    rows = [(entry, look(entry)) for entry in CATALOGUE]
    if output == "json":
        print_json([_plain(entry, found) for entry, found in rows])
    else:
        _show(rows)


def _plain(entry: "Entry", found: "Found") -> dict[str, Any]:
    missing = found.missing
    return {
        "name": entry.name,
        "foundation": entry.settings.model_dump(mode="json"),
        "package": entry.package,
        "installed": found.installed,
        "usable": missing is None,
        "weights": None if found.weights is None else str(found.weights),
        "weights_sha256": found.sha256,
        "missing": None if missing is None else missing.what,
        "mend": None if missing is None else missing.mend,
        "licence": entry.licence,
        "elements": list(entry.elements),
        "energy_scale": entry.energy_scale,
        "environment": entry.environment,
    }


def _show(rows: "list[tuple[Entry, Found]]") -> None:
    from godelta.cli.console import console, table

    shown = table("foundation", "installed", "weights", "licence", "elements", "energy scale", "environment")
    for column in shown.columns:
        column.justify = "left"
    for entry, found in rows:
        weights = "missing" if found.weights is None else (found.sha256 or "found")[:12]
        shown.add_row(
            entry.name,
            f"{entry.package} {found.installed}" if found.installed else "no",
            weights,
            entry.licence,
            _elements(entry),
            entry.energy_scale,
            entry.environment or "either",
        )
    console.print(shown)
    wanting: dict[tuple[str, str], list[str]] = {}
    for entry, found in rows:
        if found.missing is not None:
            message = (found.missing.what, found.missing.mend or "")
            wanting.setdefault(message, []).append(entry.name)
    for (what, mend), names in wanting.items():
        console.print(f"\n{', '.join(names)}: {what}", markup=False, soft_wrap=True)
        console.print(f"  {mend}", markup=False, soft_wrap=True)


def _elements(entry: "Entry") -> str:
    """Number of elements and their ranges: 89: H-Bi, Ac-Pu."""
    from ase.data import atomic_numbers

    numbers = [atomic_numbers[symbol] for symbol in entry.elements]
    breaks = [place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1]
    pieces = zip([0, *breaks], [*breaks, len(numbers)], strict=True)
    ranges = [f"{entry.elements[first]}-{entry.elements[end - 1]}" for first, end in pieces]
    return f"{len(numbers)}: {', '.join(ranges)}"
