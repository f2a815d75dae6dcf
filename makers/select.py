"""The selection job: which candidates of a round are worth an evaluation."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jobflow import Maker, job

from godelta.analysis.duplicates import group
from godelta.makers.seeds import Stream, generator
from godelta.makers.session import Session, current_session
from godelta.search.selection import choose
from godelta.store import campaigns, rounds, structures
from godelta.store.database import Superseded
from godelta.store.documents import RoundKey, StructureDocument


@dataclass
class SelectMaker(Maker):
    """Makes the job that drops duplicates, ranks, and writes the round's selection."""

    name: str = "select"

    @job
    def make(self, campaign_id: str, chain: int, k: int, epoch: int, after: dict[str, Any]) -> dict[str, Any]:
        """Choose the candidates to evaluate; `after` only orders the jobs."""
        return run_select(current_session(), RoundKey(campaign_id, chain, k), epoch)


def run_select(session: Session, key: RoundKey, epoch: int) -> dict[str, Any]:
    """Write the round's selection: structure ids in the order of evaluation."""
    store = session.store
    round_ = rounds.get_round(store, key)
    if round_.state != "searching":
        return {"status": "done before"}
    config = session.parts(key.campaign_id).config
    # With several chains that share, what others evaluated depends on timing; alone it does not.
    seen = structures.selected_structures(store, key.campaign_id, chain=None if config.share else key.chain)
    candidates = [
        document
        for document in structures.round_candidates(store, key)
        if document.structure_hash not in {old.structure_hash for old in seen}
    ]
    settings = config.search.selection
    left = campaigns.evaluations_left(store, key.campaign_id, config.budget.evaluations)
    chosen = choose(
        energies=np.array([c.model_energy for c in candidates]),
        uncertainties=np.array([math.nan if c.uncertainty is None else c.uncertainty for c in candidates]),
        groups=_groups(candidates, seen),
        settings=settings,
        count=min(settings.evaluations_per_round, left),
        rng=generator(config.seed, key, Stream.SELECT),
    )
    selection = [candidates[i].structure_id for i in chosen]
    try:
        rounds.change_state(store, key, epoch, "searching", "selected", selection=selection)
    except Superseded:
        return {"status": "superseded"}
    return {"status": "selected", "candidates": len(candidates), "selected": len(selection)}


def _groups(candidates: list[StructureDocument], seen: list[StructureDocument]) -> np.ndarray:
    """Labels of equivalent candidates; -1 where an equivalent structure was selected before."""
    documents = [*seen, *candidates]
    if not documents:
        return np.empty(0, dtype=np.int64)
    labels = group(
        [document.atoms() for document in documents],
        np.array([document.foundation_energy for document in documents]),
    )
    old = set(labels[: len(seen)].tolist())
    new = labels[len(seen) :]
    return np.array([-1 if label in old else label for label in new.tolist()], dtype=np.int64)
