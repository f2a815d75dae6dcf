"""`godelta phase-diagram`: surface structures over the chemical potential of a gas; energies of clusters."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from godelta.analysis.cluster_energies import Cluster, element_energies
from godelta.analysis.gas import DIATOMICS, Diatomic
from godelta.analysis.phases import CLEAN, Levels, Line, Stable, stable_phases, surface_line
from godelta.cli.console import console, print_json, table
from godelta.cli.drawing import save_figure
from godelta.cli.longwork import interruptible
from godelta.cli.phase_found import (
    Found,
    gas_of,
    lowest_of,
    refuse_mixed_slabs,
)
from godelta.cli.phase_levels import free_atom, level_of, levels_of, solid_energy
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.query import images
from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence


MEV = 1000.0


@dataclass(frozen=True)
class PhaseOptions:
    """What the command line said.

    Parameters
    ----------
    gas
        Symbol of the gas' element.
    gas_energy
        Of half a molecule, eV.
    solids
        SYMBOL=ENERGY of solid elements, eV per atom.
    temperatures
        Of the axes of pressure, K.
    span
        Range of Δμ, eV.
    plot
        File to draw to.
    page
        File to write a report to.
    output
        table or json.
    """

    gas: str | None = None
    gas_energy: float | None = None
    solids: tuple[str, ...] = ()
    temperatures: tuple[float, ...] = (300.0, 600.0, 900.0)
    span: tuple[float, float] = (-3.0, 0.0)
    plot: Path | None = None
    page: Path | None = None
    output: str = "table"


def show_phases(names: list[str], folder: Path | None, options: PhaseOptions) -> int:
    """Print which structures of campaigns on one surface, or of clusters, are stable; the exit code.

    Raises
    ------
    InputError
        The campaigns cannot be compared, or an energy to compare with is missing.
    GodeltaError
        An evaluation of the clean slab, a crystal or a molecule failed.
    """
    low, high = options.span
    if not low < high:
        raise InputError(
            f"from {low:g} to {high:g} eV is no range", where="--from", mend="e.g. --from -3 --to 0"
        )
    workspace = open_existing(folder)
    store = workspace.connect(start=True)
    documents = campaigns.named(store, names)
    campaigns.refuse_mixed_references(documents)
    found = [lowest_of(store, document) for document in documents]
    if all(one.is_cluster for one in found):
        return _show_clusters(found, workspace, options)
    refuse_mixed_slabs(found)
    gas = gas_of(found, options.gas)
    with interruptible("the same command goes on where it was") as interrupted:
        levels = levels_of(found, gas, workspace, options)
    if interrupted:
        return 130
    lines = [surface_line(one.phase, levels) for one in found]
    stable = stable_phases(lines, *options.span)
    if options.plot is not None:
        from godelta.analysis.phase_plot import phase_diagram

        save_figure(phase_diagram(lines, stable, gas, options.temperatures), options.plot)
    if options.page is not None:
        _write_page(store, found, (levels, lines, stable, gas), options)
    if options.output == "json":
        print_json(_plain(found, levels, lines, stable, options))
    else:
        _show(found, levels, lines, stable, options)
    return 0


def _show_clusters(found: list[Found], workspace: Workspace, options: PhaseOptions) -> int:
    from godelta.cli.cluster_energies import show_cluster_energies

    if options.page is not None:
        raise InputError(
            "reports of phase diagrams are of surfaces",
            where="--report",
            mend="for clusters take --plot, or `godelta report` for each campaign",
        )
    clusters = [Cluster(one.campaign.name, one.placed, float(one.row["energy"])) for one in found]
    elements = dict(solid_energy(text) for text in options.solids)
    missing = {symbol for one in clusters for symbol in one.atoms} - elements.keys()
    pure = element_energies(clusters)
    atomic = set() if missing <= pure.keys() else missing  # one kind of zero for all: they are compared
    elements |= {symbol: pure[symbol] for symbol in missing - atomic}
    if atomic:
        reference, kept = level_of(found[0], workspace)
        with interruptible("the same command goes on where it was") as interrupted:
            elements |= {symbol: free_atom(symbol, reference, kept) for symbol in sorted(atomic)}
        if interrupted:
            return 130
    refined = {one.campaign.name: bool(one.row["refined"]) for one in found}
    show_cluster_energies(clusters, refined, elements, atomic, options)
    return 0


def _write_page(
    store: Store,
    found: list[Found],
    diagram: tuple[Levels, list[Line], list[Stable], Diatomic],
    options: PhaseOptions,
) -> None:
    from godelta.analysis.report.page import render
    from godelta.analysis.report.phases import PhaseData, PhaseRow, phase_page
    from godelta.cli.report import write_page

    assert options.page is not None
    levels, lines, stable, gas = diagram
    atoms = images(store, [one.row for one in found])
    data = PhaseData(
        rows=[
            PhaseRow(one.phase, line, bool(one.row["refined"]), str(one.row["structure_id"]), shown)
            for one, line, shown in zip(found, lines, atoms, strict=True)
        ],
        levels=levels,
        stable=stable,
        gas=gas,
        temperatures=options.temperatures,
        reference_hash=found[0].campaign.reference_hash,
        versions=found[0].campaign.versions,
        read_at=store.now(),
    )
    write_page(options.page, render(phase_page(data)))


def _plain(
    found: list[Found],
    levels: Levels,
    lines: "Sequence[Line]",
    stable: "Sequence[Stable]",
    options: PhaseOptions,
) -> dict[str, Any]:
    gas = DIATOMICS[levels.gas]
    return {
        "levels": {
            "clean": levels.clean,
            "solids": dict(levels.solids),
            "gas": levels.gas,
            "gas_energy": levels.gas_energy,
        },
        "phases": [
            {
                "name": one.campaign.name,
                "placed": one.placed,
                "structure_id": one.row["structure_id"],
                "energy": one.row["energy"],
                "refined": one.row["refined"],
                "area": one.phase.area,
                "intercept": line.intercept,
                "slope": line.slope,
            }
            for one, line in zip(found, lines, strict=True)
        ],
        "stable": [{"name": row.name, "low": row.low, "high": row.high} for row in stable],
        "pressures": {
            f"{temperature:g}": [
                [float(gas.pressure(row.low, temperature)), float(gas.pressure(row.high, temperature))]
                for row in stable
            ]
            for temperature in options.temperatures
        },
    }


def _show(
    found: list[Found],
    levels: Levels,
    lines: "Sequence[Line]",
    stable: "Sequence[Stable]",
    options: PhaseOptions,
) -> None:
    low, high = options.span
    ranges = {row.name: row for row in stable}
    shown = table(
        "campaign", "placed", "energy, eV", f"γ({low:g} eV)", f"γ({high:g} eV)", "stable at Δμ, eV", "refined"
    )
    clean = ranges.get(CLEAN)
    shown.add_row(CLEAN, "", f"{levels.clean:.4f}", "0.0", "0.0", _span(clean), "")
    for one, line in zip(found, lines, strict=True):
        shown.add_row(
            one.campaign.name,
            "".join(f"{symbol}{n}" for symbol, n in one.placed.items()),
            f"{one.row['energy']:.4f}",
            f"{MEV * float(line.at(low)):.1f}",
            f"{MEV * float(line.at(high)):.1f}",
            _span(ranges.get(one.campaign.name)),
            "yes" if one.row["refined"] else "no",
        )
    console.print(shown)
    solids = ", ".join(f"{symbol} {energy:.4f}" for symbol, energy in levels.solids.items())
    compared = f"½ {levels.gas}2 {levels.gas_energy:.4f}" + (f", {solids}" if solids else "")
    console.print(
        f"[dim]γ in meV/Å² against the clean slab; eV per atom of what it is made of: {compared}[/]"
    )
    gas = DIATOMICS[levels.gas]
    for before, after in pairwise(stable):
        pressures = ", ".join(
            f"{float(gas.pressure(after.low, temperature)) / 1e5:.1e} bar at {temperature:g} K"
            for temperature in options.temperatures
        )
        console.print(f"{before.name} | {after.name}: Δμ {after.low:.3f} eV, {pressures}")
    if not all(one.row["refined"] for one in found):
        console.print("[dim]What is not refined is no minimum of the reference: take `refine: {best: 1}`.[/]")


def _span(row: Stable | None) -> str:
    return "-" if row is None else f"{row.low:.2f} to {row.high:.2f}"
