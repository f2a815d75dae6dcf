"""`godelta phase-diagram`: which surface structures are stable at which chemical potential of a gas."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from godelta.analysis.gas import DIATOMICS, Diatomic
from godelta.analysis.phases import CLEAN, Levels, Line, Phase, Stable, stable_phases, surface_line
from godelta.campaign import CampaignConfig
from godelta.cli.best import lowest
from godelta.cli.console import console, print_json, table
from godelta.cli.drawing import save_figure
from godelta.cli.longwork import interruptible
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.reference.kept import kept_energies, kept_folder, relaxed_energy
from godelta.reference.registry import reference_hash
from godelta.reference.settings import GPAWSettings, ReferenceSettings
from godelta.store import campaigns
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument
from godelta.store.query import images
from godelta.systems.lattice import equilibrium, is_fcc
from godelta.systems.packing import unpack_problem
from godelta.systems.problem import SearchProblem

if TYPE_CHECKING:
    from collections.abc import Sequence


BOX = 12.0  # Å, around a molecule
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


@dataclass(frozen=True)
class _Found:
    """The lowest structure of a campaign."""

    campaign: CampaignDocument
    problem: SearchProblem
    row: Raw

    @property
    def placed(self) -> dict[str, int]:
        return dict(Counter(chemical_symbols[int(z)] for z in self.problem.numbers))

    @property
    def phase(self) -> Phase:
        a, b = self.problem.template.cell.array[:2]
        area = float(np.linalg.norm(np.cross(a, b)))
        return Phase(self.campaign.name, float(self.row["energy"]), self.placed, area)


def show_phases(names: list[str], folder: Path | None, options: PhaseOptions) -> int:
    """Print the stable structures of campaigns on one surface, and draw them where asked to; the exit code.

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
    found = [_lowest_of(store, name) for name in dict.fromkeys(names)]
    _refuse_mixtures(found)
    gas = _gas(found, options.gas)
    kept = kept_folder(workspace.scratch, found[0].campaign.reference_hash)
    with interruptible("the same command goes on where it was") as interrupted:
        levels = _levels(found, gas, kept, options)
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


def _write_page(
    store: Store,
    found: list[_Found],
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


def _lowest_of(store: Store, name: str) -> _Found:
    document = campaigns.get_campaign(store, name)
    rows = lowest(store, document, 1)
    if not rows:
        raise InputError("it has no evaluated structure yet", where=name, mend=f"`godelta status {name}`")
    problem = unpack_problem(campaigns.load_problem(store, document.campaign_id))
    if problem.n_template == 0 or not problem.template.pbc[:2].all():
        raise InputError("it is no surface", where=name, mend="phase diagrams are of campaigns on one slab")
    return _Found(document, problem, rows[0])


def _refuse_mixtures(found: list[_Found]) -> None:
    """Energies of different reference levels, or on different slabs, have nothing to say to each other."""
    first = found[0]
    for other in found[1:]:
        if other.campaign.reference_hash != first.campaign.reference_hash:
            raise InputError(
                f"its reference is another one than that of {first.campaign.name}, and energies of different"
                " references never mix",
                where=other.campaign.name,
                mend="name campaigns with one reference; `godelta query` shows each one's",
            )
        a, b = first.problem.template, other.problem.template
        same = len(a) == len(b) and (a.numbers == b.numbers).all() and np.allclose(a.cell, b.cell, atol=1e-6)
        if not (same and np.allclose(a.positions, b.positions, atol=1e-6)):
            raise InputError(
                f"its slab is another one than that of {first.campaign.name}",
                where=other.campaign.name,
                mend="name campaigns with the same slab, whose formulas alone differ",
            )


def _gas(found: list[_Found], given: str | None) -> Diatomic:
    placed = sorted({symbol for one in found for symbol in one.placed})
    known = [symbol for symbol in placed if symbol in DIATOMICS]
    if given is None and len(known) == 1:
        return DIATOMICS[known[0]]
    if given is None or given not in known:
        raise InputError(
            f"the campaigns place {', '.join(placed)}; which of them comes from a gas is not clear",
            where="--gas",
            mend=f"name one of {', '.join(known or DIATOMICS)}",
        )
    return DIATOMICS[given]


def _levels(found: list[_Found], gas: Diatomic, kept: Path, options: PhaseOptions) -> Levels:
    first = found[0]
    reference = CampaignConfig.model_validate(first.campaign.config).reference
    if reference_hash(reference) != first.campaign.reference_hash:
        raise InputError(
            "its evaluations are of another version of the engine than is installed here",
            where=first.campaign.name,
            mend="install that version again: energies of different levels never mix",
        )
    given = dict(_solid(text) for text in options.solids)
    needed = {symbol for one in found for symbol in one.placed} - {gas.symbol}
    clean = relaxed_energy(_clean(first.problem), reference, kept)
    solids = {
        symbol: given[symbol] if symbol in given else _metal(symbol, reference, kept)
        for symbol in sorted(needed)
    }
    molecule = _half_a_molecule(gas, reference, kept) if options.gas_energy is None else options.gas_energy
    return Levels(clean, solids, gas.symbol, molecule)


def _clean(problem: SearchProblem) -> Atoms:
    from ase.constraints import FixAtoms

    slab: Atoms = problem.template.copy()
    slab.set_constraint(FixAtoms(np.flatnonzero(problem.fixed)))
    return slab


def _solid(text: str) -> tuple[str, float]:
    symbol, _, energy = text.partition("=")
    try:
        value = float(energy)
    except ValueError:
        value = float("nan")
    if symbol not in chemical_symbols or not np.isfinite(value):
        raise InputError(
            f"{text!r} is no energy of an element", where="--solid", mend="e.g. --solid Cu=-3.72"
        )
    return symbol, value


def _metal(symbol: str, reference: ReferenceSettings, kept: Path) -> float:
    """The energy in eV per atom of the fcc crystal at the reference's own lattice constant."""
    if not is_fcc(symbol):
        raise InputError(
            f"{symbol} has no fcc crystal to compare with",
            where="--solid",
            mend=f"give its energy per atom at the level of the reference: --solid {symbol}=ENERGY",
        )
    return equilibrium(symbol, kept_energies(reference, kept)).energy


def _half_a_molecule(gas: Diatomic, reference: ReferenceSettings, kept: Path) -> float:
    if isinstance(reference, GPAWSettings) and gas.spin:
        raise InputError(
            f"{gas.symbol}2 is a triplet, and these GPAW calculations have no spin",
            where="--gas-energy",
            mend=f"compute {gas.symbol}2 with spin at the same level, and give half its energy",
        )
    return 0.5 * relaxed_energy(gas.atoms(BOX), reference, kept)


def _plain(
    found: list[_Found],
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
    found: list[_Found],
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
