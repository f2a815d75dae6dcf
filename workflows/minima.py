"""The different structures that a campaign has evaluated, each with all its versions."""

from dataclasses import dataclass

import numpy as np

from godelta.analysis.duplicates import group
from godelta.analysis.unseen import Unseen, count_unseen
from godelta.arrays import IntArray
from godelta.campaign import CampaignConfig
from godelta.store import structures
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument

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
    a minimum. Of the versions of one the lowest is given.

    Returns
    -------
    list of dict
        As of `godelta.store.structures.best`, and `found`: how many evaluations found it, among the lowest
        2000 of the campaign.
    """
    asked = min(MOST_FOR_BEST, max(4 * n, 50))
    while True:
        rows = structures.best(store, campaign_id, reference_hash, asked)
        energies = np.array([row["energy"] for row in rows])
        labels = _labels(store, rows, VERSIONS_WITHIN)
        _, firsts, counts = np.unique(labels, return_index=True, return_counts=True)
        order = firsts.argsort()  # labels of lost structures are out of order
        firsts, counts = firsts[order], counts[order]
        complete = len(firsts) >= n and energies[-1] > energies[firsts[n - 1]] + VERSIONS_WITHIN
        if complete or len(rows) < asked or asked >= MOST_FOR_BEST:
            break
        asked = min(MOST_FOR_BEST, 2 * asked)
    found = zip(firsts[:n].tolist(), counts[:n].tolist(), strict=True)
    return [{**rows[i], "rank": rank, "found": count} for rank, (i, count) in enumerate(found, 1)]


def low_minima(store: Store, campaign: CampaignDocument, config: CampaignConfig) -> LowMinima | None:
    """What independent chains have found; None where chains share, or there is one.

    At most the lowest 250 evaluations are looked at: the window shrinks to what they span.
    """
    if config.share or config.budget.chains < 2:
        return None
    rows = structures.best(store, campaign.campaign_id, campaign.reference_hash, MOST_FOR_UNSEEN)
    low = [row for row in rows if row["energy"] <= rows[0]["energy"] + LOW]
    if not low:
        return None
    whole = len(low) < len(rows) or len(rows) < MOST_FOR_UNSEEN
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
