"""What `godelta compare` has found, and as JSON and CSV."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from godelta.analysis.bonds import BondFit, Surroundings, error_per_bond, surroundings
from godelta.analysis.parity import (
    Choice,
    ForceClass,
    Level,
    Summary,
    Truth,
    choice,
    energy_errors,
    forces_by_surroundings,
    lowest,
    ranks,
    summarise,
)
from godelta.cli.compare_foundations import Missing
from godelta.errors import InputError
from godelta.foundation.base import FoundationIdentity


@dataclass(frozen=True)
class Minima:
    """The lowest distinct structures of one formula, and what each potential makes of them."""

    formula: str
    distinct: int
    lowest: list[int]
    ranks: dict[str, dict[int, int]]
    choices: dict[str, Choice]


@dataclass(frozen=True)
class Comparison:
    """All that is told; lists and mappings go by the names of the levels."""

    campaigns: list[str]
    truth: Truth
    levels: list[Level]
    around: Surroundings
    summaries: dict[str, Summary]
    minima: list[Minima]
    forces: list[ForceClass]
    bonds: dict[str, BondFit]
    reference: str = ""
    identities: tuple[FoundationIdentity, ...] = ()
    missing: tuple[Missing, ...] = ()

    @classmethod
    def of(cls, truth: Truth, levels: list[Level], campaigns: list[str], count: int) -> "Comparison":
        """Compute everything; `count` low minima of each formula."""
        around = surroundings(truth.structures)
        return cls(
            campaigns,
            truth,
            levels,
            around,
            {level.name: summarise(truth, level) for level in levels},
            [_minima(truth, levels, label, count) for label in np.unique(truth.compositions).tolist()],
            forces_by_surroundings(truth, levels, around),
            {level.name: _bonds(truth, level, around) for level in levels},
        )

    def told(
        self, reference: str, identities: Sequence[FoundationIdentity], missing: Sequence[Missing]
    ) -> "Comparison":
        """The same, with the reference's name, the foundations' identities, and those that are missing."""
        return replace(self, reference=reference, identities=tuple(identities), missing=tuple(missing))


def _minima(truth: Truth, levels: list[Level], label: int, count: int) -> Minima:
    low = lowest(truth, label, count)
    choices = {level.name: choice(truth, level, label) for level in levels}
    return Minima(
        truth.structures[low[0]].symbols.get_chemical_formula("hill"),
        int((truth.compositions[truth.leaders] == label).sum()),
        low.tolist(),
        {level.name: ranks(truth, level, label) for level in levels},
        {name: one for name, one in choices.items() if one is not None},
    )


def _bonds(truth: Truth, level: Level, around: Surroundings) -> BondFit:
    errors = energy_errors(truth, level)
    own = truth.leaders[np.isfinite(errors[truth.leaders])]
    return error_per_bond(errors[own], around.bonds[own], truth.compositions[own], around.pairs)


def as_dict(result: Comparison) -> dict[str, Any]:
    """Everything as plain values; energies in eV, forces in eV/Å."""
    truth = result.truth
    return {
        "campaigns": result.campaigns,
        "reference": result.reference,
        "structures": len(truth.ids),
        "distinct": len(truth.leaders),
        "foundations": [identity.model_dump(mode="json") for identity in result.identities],
        "missing": [
            {"name": one.name, "what": one.error.what, "mend": one.error.mend} for one in result.missing
        ],
        "levels": {
            name: asdict(summary) | {"bonds": asdict(result.bonds[name])}
            for name, summary in result.summaries.items()
        },
        "minima": [
            {
                "formula": minima.formula,
                "distinct": minima.distinct,
                "lowest": [
                    {
                        "structure_id": truth.ids[place],
                        "energy": float(truth.energies[place]),
                        "ranks": {name: known.get(place) for name, known in minima.ranks.items()},
                    }
                    for place in minima.lowest
                ],
                "choices": {
                    name: {"structure_id": truth.ids[one.place], "above": one.above}
                    for name, one in minima.choices.items()
                },
            }
            for minima in result.minima
        ],
        "forces": [asdict(row) for row in result.forces],
    }


def export_csv(result: Comparison, path: Path) -> None:
    """One line for each structure: energies in eV, errors with the constant taken off, numbers of bonds.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    truth = result.truth
    errors = {level.name: energy_errors(truth, level) for level in result.levels}
    leaders = set(truth.leaders.tolist())
    columns = ["structure_id", "formula", "atoms", "distinct", "reference"]
    columns += [f"{what} {name}" for name in errors for what in ("energy", "error")]
    columns += [f"bonds {pair}" for pair in result.around.pairs]
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            for k, atoms in enumerate(truth.structures):
                numbers = [v for level in result.levels for v in (level.energies[k], errors[level.name][k])]
                writer.writerow(
                    [truth.ids[k], atoms.symbols.get_chemical_formula("hill"), len(atoms), int(k in leaders)]
                    + [float(truth.energies[k])]
                    + ["" if np.isnan(value) else float(value) for value in numbers]
                    + result.around.bonds[k].tolist()
                )
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(path), mend="choose another file"
        ) from None
