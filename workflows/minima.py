"""The different structures that a campaign has evaluated, each with all its versions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from godelta.analysis.duplicates import group
from godelta.analysis.unseen import Unseen, count_unseen
from godelta.arrays import IntArray
from godelta.campaign import CampaignConfig
from godelta.search.selection import FOLLOW_UP
from godelta.search.settings import is_plain
from godelta.store import structures
from godelta.store.database import Raw, Store
from godelta.store.documents import REFINEMENT_CHAIN, CampaignDocument
from godelta.store.refining import STATUSES, RefinementSteps, refinement_steps

VERSIONS_WITHIN = 0.2  # eV: evaluations of one minimum, relaxed with one model or the next
LOW = 1.0  # eV above the best: what counts as a low minimum
MOST_FOR_BEST = 2000  # evaluations, from the lowest
MOST_FOR_UNSEEN = 250  # evaluations, from the lowest: a status has to be quick


@dataclass(frozen=True)
class LowMinima:
    """What independent chains have found among low energies, up to `window` eV above the best."""

    window: float
    unseen: Unseen


def best_minima(store: Store, campaign_id: str, reference_hash: str, n: int = 10) -> list[Raw]:
    """The campaign's lowest structures, equivalent ones only once.

    Equivalent is what `godelta.analysis.duplicates.group` calls so, within 0.2 eV: a better model moves
    a minimum. Of the versions of one the lowest is given. A structure that is refined, and all steps of that,
    count as where it stands.

    Returns
    -------
    list of dict
        As of `godelta.store.structures.best`; `found`: how many evaluations of the search found it, among
        the lowest 2000 of the campaign; `refinement`: converged, running, spent, stuck or failed of what is
        refined, else None.
    """
    steps = refinement_steps(store, campaign_id)
    asked = min(MOST_FOR_BEST, max(4 * n, 50))
    while True:
        rows = structures.best(store, campaign_id, reference_hash, asked)
        energies = np.array([row["energy"] for row in rows])
        labels = _joined(rows, _labels(store, rows, VERSIONS_WITHIN), steps)
        _, firsts = np.unique(labels, return_index=True)
        firsts.sort()  # labels of lost structures are out of order
        complete = len(firsts) >= n and energies[-1] > energies[firsts[n - 1]] + VERSIONS_WITHIN
        if complete or len(rows) < asked or asked >= MOST_FOR_BEST:
            break
        asked = min(MOST_FOR_BEST, 2 * asked)
    searched = np.array([row["structure_id"] not in steps.before for row in rows], dtype=np.bool_)
    best = []
    for rank, first in enumerate(firsts[:n].tolist(), 1):
        own = labels == labels[first]
        members = {row["structure_id"] for row, mine in zip(rows, own.tolist(), strict=True) if mine}
        found = int(np.count_nonzero(own & searched))
        status = status_of(members, steps.tracks)
        best.append({**rows[first], "rank": rank, "found": found, "refinement": status})
    return best


def status_of(structure_ids: Collection[str], tracks: Sequence[Mapping[str, Any]]) -> str | None:
    """How far the refinement of a structure is that has these versions; None where it is not refined."""
    found = {track["status"] for track in tracks if track["at"] in structure_ids}
    return next((status for status in STATUSES if status in found), None)


def _joined(rows: list[Raw], labels: IntArray, steps: RefinementSteps) -> IntArray:
    """Labels (n,) with the steps of a refinement, and what it began from, taken together."""
    joined = labels.copy()
    first_of: dict[str, int] = {}
    starts = {track["start"] for track in steps.tracks}
    for i, row in enumerate(rows):
        start = steps.start_of(row["structure_id"])
        if start in starts:
            first = first_of.setdefault(start, i)
            joined[joined == joined[i]] = joined[first]
    return joined


def low_minima(store: Store, campaign: CampaignDocument, config: CampaignConfig) -> LowMinima | None:
    """What independent chains have found; None where chains share, or there is one.

    None for searches in the reference too: most of what they evaluate are steps towards a minimum. At most
    the lowest 250 evaluations are looked at: the window shrinks to what they span.
    """
    if config.share or config.budget.chains < 2 or is_plain(config.search):
        return None
    rows = structures.best(store, campaign.campaign_id, campaign.reference_hash, MOST_FOR_UNSEEN)
    # Refinement, and steps down from what was evaluated, go on from what chains have found: no discoveries.
    found = structures.get_structures(store, {row["structure_id"] for row in rows})
    steps = {document.structure_id for document in found if document.move == FOLLOW_UP}
    searched = [row for row in rows if row["chain"] != REFINEMENT_CHAIN and row["structure_id"] not in steps]
    if not searched:
        return None
    low = [row for row in searched if row["energy"] <= searched[0]["energy"] + LOW]
    whole = len(low) < len(searched) or len(rows) < MOST_FOR_UNSEEN
    window = LOW if whole else low[-1]["energy"] - low[0]["energy"]
    chains = np.array([row["chain"] for row in low], dtype=np.int64)
    return LowMinima(window, count_unseen(_labels(store, low, np.inf), chains))


def _labels(store: Store, rows: list[Raw], within: float) -> IntArray:
    """Labels (n,) of equivalent structures, in the order of the rows; energies `within` eV of each other.

    One whose structure a damaged database has lost stands for itself.
    """
    found = structures.get_structures(store, {row["structure_id"] for row in rows})
    atoms = {document.structure_id: document.atoms() for document in found}
    known = np.array([row["structure_id"] in atoms for row in rows], dtype=np.bool_)
    whole = [row for row, there in zip(rows, known.tolist(), strict=True) if there]
    labels = -1 - np.arange(len(rows))
    labels[known] = group(
        [atoms[row["structure_id"]] for row in whole],
        np.array([row["energy"] for row in whole]),
        energy_tolerance=within,
    )
    return labels
