"""What `godelta phase-diagram` compares: the lowest structure of each campaign."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from godelta.analysis.gas import DIATOMICS, Diatomic
from godelta.analysis.phases import Phase
from godelta.cli.best import lowest
from godelta.errors import InputError
from godelta.store import campaigns
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument
from godelta.systems.packing import unpack_problem
from godelta.systems.problem import SearchProblem


@dataclass(frozen=True)
class Found:
    """The lowest structure of a campaign."""

    campaign: CampaignDocument
    problem: SearchProblem
    row: Raw

    @property
    def placed(self) -> dict[str, int]:
        """The atoms that the search places, by symbol."""
        return dict(Counter(chemical_symbols[int(z)] for z in self.problem.numbers))

    @property
    def is_cluster(self) -> bool:
        """Whether there is nothing but what is placed."""
        return self.problem.n_template == 0

    @property
    def phase(self) -> Phase:
        """The same with the area of the cell."""
        a, b = self.problem.template.cell.array[:2]
        area = float(np.linalg.norm(np.cross(a, b)))
        return Phase(self.campaign.name, float(self.row["energy"]), self.placed, area)


def lowest_of(store: Store, document: CampaignDocument) -> Found:
    """The lowest structure of a campaign.

    Raises
    ------
    InputError
        It has no evaluated structure.
    """
    name = document.name
    rows = lowest(store, document, 1)
    if not rows:
        raise InputError("it has no evaluated structure yet", where=name, mend=f"`godelta status {name}`")
    problem = unpack_problem(campaigns.load_problem(store, document.campaign_id))
    return Found(document, problem, rows[0])


def refuse_mixed_slabs(found: list[Found]) -> None:
    """Energies on different slabs have nothing to say to each other.

    Raises
    ------
    InputError
        Two campaigns have different ones, or one has none.
    """
    for one in found:
        if one.problem.n_template == 0 or not one.problem.template.pbc[:2].all():
            raise InputError(
                "it is no surface",
                where=one.campaign.name,
                mend="phase diagrams are of campaigns on one slab, or of clusters alone",
            )
    first = found[0]
    for other in found[1:]:
        a, b = first.problem.template, other.problem.template
        same = len(a) == len(b) and (a.numbers == b.numbers).all() and np.allclose(a.cell, b.cell, atol=1e-6)
        if not (same and np.allclose(a.positions, b.positions, atol=1e-6)):
            raise InputError(
                f"its slab is another one than that of {first.campaign.name}",
                where=other.campaign.name,
                mend="name campaigns with the same slab, whose formulas alone differ",
            )


def gas_of(found: list[Found], given: str | None) -> Diatomic:
    """The gas that is meant: the one given, or the only one that the campaigns place an element of.

    Raises
    ------
    InputError
        It is not clear which one is meant.
    """
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
