"""The tables of `godelta compare`."""

from rich.markup import escape

from godelta.cli.compare_result import Comparison, Minima
from godelta.cli.console import console, table

MEV = 1000.0


def show(result: Comparison) -> None:
    """Print the tables."""
    truth = result.truth
    console.print(
        f"{len(truth.ids)} structures of {escape(', '.join(result.campaigns))}, {len(truth.leaders)} of them"
        f" distinct, evaluated with {escape(result.reference)}\n"
    )
    _show_summaries(result)
    for minima in result.minima:
        _show_minima(result, minima)
    _show_forces(result)
    _show_bonds(result)
    for one in result.missing:
        console.print(f"\n[yellow]not shown: {escape(one.name)}[/]: {escape(str(one.error))}", soft_wrap=True)


def _show_summaries(result: Comparison) -> None:
    shown = table(
        "foundation", "structures", "energy MAE", "RMSE", "forces MAE", "RMSE", "Spearman", "Kendall"
    )  # fmt: skip
    shown.columns[0].justify = "left"
    for name, one in result.summaries.items():
        energy = ("-", "-") if one.energy is None else (MEV * one.energy.mae, MEV * one.energy.rmse)
        forces = ("-", "-") if one.forces is None else (MEV * one.forces.mae, MEV * one.forces.rmse)
        shown.add_row(
            escape(name),
            str(one.n),
            *(_number(value, 1) for value in energy),
            *(_number(value, 0) for value in forces),
            _number(one.spearman, 2),
            _number(one.kendall, 2),
        )
    console.print(shown)
    console.print(
        "[dim]energies in meV per atom, a constant for each composition taken off; components of forces on"
        " atoms that may move, meV/Å;\nrank correlations with the reference over distinct structures[/]"
    )
    if any("Δ" in name for name in result.summaries):
        console.print(
            "[dim]Δ, selected: foundation + Δ as it was when a structure was selected, before its evaluation;"
            " no Δ, selected: the foundation of the same;\nΔ, left out: the latest foundation + Δ, each"
            " structure left out of its training in turn[/]"
        )


def _show_minima(result: Comparison, minima: Minima) -> None:
    truth = result.truth
    console.print(f"\n[bold]The lowest of {minima.distinct} structures {minima.formula}[/]: ranks")
    shown = table("#", "structure", "above lowest", *map(escape, minima.ranks))
    first = truth.energies[minima.lowest[0]]
    for rank, place in enumerate(minima.lowest, 1):
        theirs = [str(known.get(place, "-")) for known in minima.ranks.values()]
        shown.add_row(str(rank), truth.ids[place][:8], f"{truth.energies[place] - first:.3f}", *theirs)
    own = [minima.choices.get(name) for name in minima.ranks]
    cells = ["-" if one is None else f"{truth.ids[one.place][:8]} +{one.above:.3f}" for one in own]
    shown.add_row("", "", "lowest", *cells, style="dim")
    console.print(shown)
    console.print(
        "[dim]rank 1 is the lowest; last row: what each puts lowest, and the reference energy of that"
        " above the lowest, eV[/]"
    )


def _show_forces(result: Comparison) -> None:
    names = [level.name for level in result.levels if level.forces is not None]
    if not names:
        return
    console.print("\n[bold]Errors of forces by surroundings[/]: MAE, meV/Å")
    shown = table("element", "surroundings", "atoms", *map(escape, names))
    for column in shown.columns[:2]:
        column.justify = "left"
    for row in result.forces:
        errors = [_number(MEV * row.errors[name].mae if name in row.errors else None, 0) for name in names]
        first = row.surroundings == "all"
        shown.add_row(
            row.element if first else "", row.surroundings, str(row.atoms), *errors,
            style="bold" if first else None,
        )  # fmt: skip
    console.print(shown)


def _show_bonds(result: Comparison) -> None:
    console.print("\n[bold]Errors of energies by bonds[/]: eV for each bond")
    shown = table("bond", *map(escape, result.bonds))
    for k, pair in enumerate(result.around.pairs):
        shown.add_row(
            pair,
            *(_with_error(fit.bonds[k].slope, fit.bonds[k].deviation) for fit in result.bonds.values()),
        )
    explained = [fit.explained for fit in result.bonds.values()]
    shown.add_row("explained", *("-" if share is None else f"{share:.0%}" for share in explained))
    console.print(shown)
    console.print(
        "[dim]foundation less reference, fitted to distinct structures with a constant for each composition;"
        " ±: standard error;\nnegative: the foundation binds it too strongly; explained: share of the"
        " variance of the errors[/]"
    )
    some = [
        k
        for k in range(len(result.around.pairs))
        if any(fit.bonds[k].difference is not None for fit in result.bonds.values())
    ]
    if not some:
        return
    shown = table("bond", "with", "without", *map(escape, result.bonds))
    for k in some:
        fits = list(result.bonds.values())
        shown.add_row(
            result.around.pairs[k],
            str(fits[0].bonds[k].present),
            str(fits[0].bonds[k].absent),
            *(_with_error(fit.bonds[k].difference, fit.bonds[k].difference_deviation) for fit in fits),
        )
    console.print("\n[bold]Mean error of structures with such bonds, less that of those without[/]: eV")
    console.print(shown)


def _number(value: float | str | None, digits: int) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.{digits}f}"


def _with_error(value: float | None, deviation: float | None) -> str:
    return "-" if value is None or deviation is None else f"{value:+.3f} ± {deviation:.3f}"
