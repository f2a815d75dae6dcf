"""The page about a phase diagram: which surface is stable where, and what each looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ase import Atoms

from godelta.analysis.gas import Diatomic
from godelta.analysis.phase_plot import phase_diagram
from godelta.analysis.phases import CLEAN, Levels, Line, Phase, Stable
from godelta.analysis.report.parts import Facts, Page, Part, Plot, Prose, Section, Shown, Table, Viewer
from godelta.analysis.report.words import time_of

MEV = 1000.0
BAR = 1e5  # Pa


@dataclass(frozen=True)
class PhaseRow:
    """A phase, its line, whether it is a minimum of the reference, and its structure."""

    phase: Phase
    line: Line
    refined: bool
    structure_id: str
    atoms: Atoms

    @property
    def placed(self) -> str:
        """What is on the clean slab."""
        return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in self.phase.placed.items())


@dataclass(frozen=True)
class PhaseData:
    """A phase diagram at one time; temperatures in K, ranges of `stable` from left to right."""

    rows: Sequence[PhaseRow]
    levels: Levels
    stable: Sequence[Stable]
    gas: Diatomic
    temperatures: Sequence[float]
    reference_hash: str
    versions: Mapping[str, str]
    read_at: datetime


def phase_page(data: PhaseData) -> Page:
    """All that a phase diagram says, for a person to read."""
    return Page(
        title=f"Surface phases over {data.gas.symbol}2",
        subtitle=", ".join(row.phase.name for row in data.rows),
        sections=[_diagram(data), _structures(data), _energies(data)],
        foot=f"Written by godelta {data.versions.get('godelta', '')} at {time_of(data.read_at)}.",
        headline=[
            ("stable phases", str(len(data.stable))),
            ("Δμ", f"{data.stable[0].low:g} to {data.stable[-1].high:g} eV"),
        ],
    )


def _diagram(data: PhaseData) -> Section:
    lines = [row.line for row in data.rows]
    figure = phase_diagram(lines, data.stable, data.gas, data.temperatures, width=4.6)
    alt = "Surface free energies over the chemical potential of the gas, with ranges of stable phases"
    columns = ["phase", "from Δμ, eV", "to Δμ, eV", *(f"from, bar at {t:g} K" for t in data.temperatures)]
    rows = [
        [
            one.name,
            f"{one.low:.3f}",
            f"{one.high:.3f}",
            *(f"{float(data.gas.pressure(one.low, t)) / BAR:.1e}" for t in data.temperatures),
        ]
        for one in data.stable
    ]
    caption = "Shaded: the stable phase. The axes below are pressures of the gas."
    table = Table("ranges of stable phases", columns, rows, frozenset({"phase"}))
    return Section("diagram", "Which is stable where", [Plot(figure, alt, caption), table])


def _structures(data: PhaseData) -> Section:
    ranges = {one.name: f"{one.low:.2f} to {one.high:.2f} eV" for one in data.stable}
    shown = [
        Shown(
            f"{row.phase.name}: {row.placed}",
            row.atoms,
            [
                ("placed", row.placed),
                ("energy", f"{row.phase.energy:.4f} eV"),
                ("stable at Δμ", ranges.get(row.phase.name, "nowhere here")),
                ("minimum of the reference", "yes" if row.refined else "not refined"),
                ("structure", row.structure_id[:8]),
            ],
        )
        for row in data.rows
    ]
    return Section("structures", "Structures", [Viewer(shown, "phases.extxyz")])


def _energies(data: PhaseData) -> Section:
    low, high = data.stable[0].low, data.stable[-1].high
    columns = ["phase", "placed", "energy, eV", "area, Å²", f"γ({low:g} eV)", f"γ({high:g} eV)", "refined"]
    rows = [[CLEAN, "", f"{data.levels.clean:.4f}", "", "0.0", "0.0", ""]]
    rows += [
        [
            row.phase.name, row.placed, f"{row.phase.energy:.4f}", f"{row.phase.area:.2f}",
            f"{MEV * float(row.line.at(low)):.1f}", f"{MEV * float(row.line.at(high)):.1f}",
            "yes" if row.refined else "no",
        ]
        for row in data.rows
    ]  # fmt: skip
    compared = [(f"½ {data.levels.gas}2", f"{data.levels.gas_energy:.4f} eV")]
    compared += [(symbol, f"{energy:.4f} eV") for symbol, energy in data.levels.solids.items()]
    parts: list[Part] = [
        Table(
            "energies", columns, rows, frozenset({"phase", "placed"}), "γ in meV/Å² against the clean slab."
        ),
        Prose("Compared with, in eV per atom at the same reference:"),
        Facts([*compared, ("reference", data.reference_hash), *data.versions.items()]),
    ]
    return Section("energies", "Energies", parts)
