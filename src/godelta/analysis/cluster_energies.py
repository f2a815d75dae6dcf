"""How stable clusters of different size and composition are: formation energies, hull, second differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cluster:
    """The lowest structure of one formula: its atoms by symbol, and its energy in eV."""

    name: str
    atoms: Mapping[str, int]
    energy: float

    @property
    def size(self) -> int:
        """Number of atoms."""
        return sum(self.atoms.values())


@dataclass(frozen=True, slots=True)
class Stability:
    """What is told about one cluster.

    formation
        Energy of formation from the elements, eV per atom.
    above_hull
        Energy above the convex hull of all clusters and the elements, eV per atom.
    units
        How often the formula of the series is in it; None where the clusters are no series of one formula.
    second_difference
        E(n + 1) + E(n - 1) - 2 E(n), eV: positive where n is more stable than its neighbours; None where one
        of them is missing.
    """

    cluster: Cluster
    formation: float
    above_hull: float
    units: int | None
    second_difference: float | None


def element_energies(clusters: Sequence[Cluster]) -> dict[str, float]:
    """Energy in eV per atom of each element that a cluster consists of alone: the lowest."""
    found: dict[str, float] = {}
    for cluster in clusters:
        if len(cluster.atoms) == 1:
            (symbol,) = cluster.atoms
            energy = cluster.energy / cluster.size
            found[symbol] = min(energy, found.get(symbol, energy))
    return found


def stabilities(clusters: Sequence[Cluster], elements: Mapping[str, float]) -> list[Stability]:
    """Formation energies, distances to the hull and second differences of clusters, smallest first.

    Parameters
    ----------
    clusters
        One or more; of the same formula the lowest counts for second differences.
    elements
        Energy in eV per atom of every element: the zero of the formation energy.

    Raises
    ------
    KeyError
        An element of a cluster is not among `elements`.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

    ordered = sorted(clusters, key=lambda one: (one.size, one.name))
    entries = [PDEntry(dict(one.atoms), one.energy) for one in ordered]
    present = {symbol for one in ordered for symbol in one.atoms}
    diagram = PhaseDiagram([*entries, *(PDEntry(symbol, elements[symbol]) for symbol in sorted(present))])
    units = _units(ordered)
    lowest: dict[int, float] = {}
    for n, one in zip(units, ordered, strict=True):
        if n is not None:
            lowest[n] = min(one.energy, lowest.get(n, one.energy))
    return [
        Stability(
            one,
            (one.energy - sum(n * elements[symbol] for symbol, n in one.atoms.items())) / one.size,
            _above_hull(diagram, entry),
            n,
            _second_difference(lowest, n),
        )
        for one, entry, n in zip(ordered, entries, units, strict=True)
    ]


def _above_hull(diagram: Any, entry: Any) -> float:
    above = diagram.get_e_above_hull(entry, allow_negative=True)
    assert above is not None  # pymatgen raises, unless it is asked not to
    return float(above)


def _units(clusters: Sequence[Cluster]) -> list[int | None]:
    """How many units of one formula each cluster is, where all are of the same."""
    from pymatgen.core.composition import Composition

    parts = [Composition(dict(one.atoms)).get_integer_formula_and_factor() for one in clusters]
    if len({formula for formula, _ in parts}) > 1:
        return [None] * len(parts)
    return [round(factor) for _, factor in parts]


def _second_difference(lowest: Mapping[int, float], n: int | None) -> float | None:
    if n is None or n - 1 not in lowest or n + 1 not in lowest:
        return None
    return lowest[n + 1] + lowest[n - 1] - 2.0 * lowest[n]
