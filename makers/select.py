"""The selection job: which candidates of a round are worth an evaluation."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jobflow import Maker, job

from godelta.analysis.duplicates import group
from godelta.arrays import IntArray
from godelta.makers.seeds import Stream, generator
from godelta.makers.session import Session, current_session
from godelta.search import make_method
from godelta.search.selection import choose
from godelta.store import rounds, structures
from godelta.store.budget import evaluations_left
from godelta.store.database import Superseded
from godelta.store.documents import RoundKey, StructureDocument, structure_hash

SEEN_TOLERANCE = 0.03  # Å


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
    parts = session.parts(key.campaign_id)
    settings = parts.config.search.selection
    # With several chains that share, what others evaluated depends on timing; alone it does not.
    chain = None if parts.config.share else key.chain
    seen = structures.selected_structures(store, key.campaign_id, chain)
    # Ids hold the campaign's random id: by hash, so that the same seed selects the same structures.
    candidates = sorted(_new_candidates(session, key, seen), key=lambda item: item.structure_hash)
    chosen = choose(
        energies=np.array([c.model_energy for c in candidates]),
        uncertainties=np.array([math.nan if c.uncertainty is None else c.uncertainty for c in candidates]),
        groups=_groups(candidates, seen),
        settings=settings,
        count=min(
            settings.evaluations_per_round,
            evaluations_left(store, key.campaign_id, parts.config, key.chain),
        ),
        rng=generator(parts.config.seed, key, Stream.SELECT),
        last=np.array([c.move == "random" for c in candidates], dtype=np.bool_)
        if settings.choose == "random"
        else None,
    )
    selection = [candidates[i].structure_id for i in chosen]
    try:
        rounds.change_state(store, key, epoch, "searching", "selected", selection=selection)
    except Superseded:
        return {"status": "superseded"}
    return {"status": "selected", "candidates": len(candidates), "selected": len(selection)}


def _new_candidates(
    session: Session, key: RoundKey, seen: list[StructureDocument]
) -> list[StructureDocument]:
    """The round's candidates that were never selected; drawing at random, as the papers do, walkers only."""
    parts = session.parts(key.campaign_id)
    hashes = {document.structure_hash for document in seen}
    candidates = [
        document
        for document in structures.round_candidates(session.store, key)
        if document.structure_hash not in hashes
    ]
    state = rounds.load_search_state(session.store, key)
    if parts.config.search.selection.choose == "random" and state is not None:
        method = make_method(parts.config.search, parts.problem)
        walkers = {structure_hash(walker.atoms) for walker in method.walkers(method.load(state))}
        return [c for c in candidates if c.structure_hash in walkers] or candidates
    return candidates


def _groups(candidates: list[StructureDocument], seen: list[StructureDocument]) -> IntArray:
    """Labels of equivalent candidates; -1 where nearly the same structure was selected before.

    Against earlier selections the tolerance is much tighter than within the round: a better model moves a
    minimum a little, and the energy there is what the campaign is after.
    """
    if not candidates:
        return np.empty(0, dtype=np.int64)
    labels = _labels(candidates)
    both = _labels([*seen, *candidates], distance_tolerance=SEEN_TOLERANCE)
    old = set(both[: len(seen)].tolist())
    known = np.array([label in old for label in both[len(seen) :].tolist()])
    return np.asarray(np.where(known, -1, labels), dtype=np.int64)


def _labels(documents: list[StructureDocument], **tolerance: float) -> IntArray:
    energies = np.array([document.foundation_energy for document in documents])
    return group([document.atoms() for document in documents], energies, **tolerance)
