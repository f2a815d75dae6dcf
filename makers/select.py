"""The selection job: which candidates of a round are worth an evaluation."""

import logging
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from jobflow import Maker, job

from godelta.analysis.duplicates import distinct
from godelta.arrays import FloatArray, IntArray
from godelta.delta.covariance import VirtualObservations
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.explain import environments_of
from godelta.makers.joblog import logged
from godelta.makers.repeats import Selected, labels
from godelta.makers.search import saved_state
from godelta.makers.seeds import Stream, generator
from godelta.makers.session import CampaignParts, Session, current_session
from godelta.makers.told import learns_from
from godelta.reference.registry import reference_hash
from godelta.search import make_method
from godelta.search.selection import FOLLOW_UP, choose, choose_one_by_one, shared_out
from godelta.search.settings import is_plain
from godelta.search.weights import FROM_NOTHING
from godelta.store import evaluations, models, rounds, structures
from godelta.store.blobs import DamagedError
from godelta.store.budget import evaluations_left
from godelta.store.database import Superseded
from godelta.store.documents import RoundKey, StructureDocument, structure_hash
from godelta.store.failures import failed_structures
from godelta.store.retries import unfinished

# Why a candidate is not evaluated, in a round that had places left.
KNOWN = "equivalent to a selected structure"
ALIKE = "equivalent to another candidate or to one that failed"
NO_ENERGY = "no finite energy"

log = logging.getLogger(__name__)


@dataclass
class SelectMaker(Maker):
    """Makes the job that drops duplicates, ranks, and writes the round's selection."""

    name: str = "select"

    @job
    def make(self, campaign_id: str, chain: int, k: int, epoch: int, after: dict[str, Any]) -> dict[str, Any]:
        """Choose the candidates to evaluate; `after` only orders the jobs."""
        return run_select(current_session(), RoundKey(campaign_id, chain, k), epoch)


@logged("select")
def run_select(session: Session, key: RoundKey, epoch: int) -> dict[str, Any]:
    """Write the round's selection: structure ids in the order of evaluation."""
    store = session.store
    round_ = rounds.get_round(store, key)
    if round_.state != "searching":
        return {"status": "done before"}
    parts = session.parts(key.campaign_id)
    settings = parts.config.search.selection
    # With several chains that share, what others evaluated depends on timing; alone it does not.
    chain = learns_from(parts.config, key)
    # Ids hold the campaign's random id: by hash, so that the same seed selects the same structures.
    seen = _by_hash(structures.selected_structures(store, key.campaign_id, chain))
    new = _by_hash(_new_candidates(session, key, seen))
    plain = is_plain(parts.config.search)
    # Steps are evaluated as they are, whatever they are equivalent to.
    steps = sorted((c for c in new if plain or c.move == FOLLOW_UP), key=lambda c: (c.iteration, c.walker))
    candidates = [] if plain else [c for c in new if c.move != FOLLOW_UP]
    late = _late(session, key, settings.evaluations_per_round)
    left = evaluations_left(store, key.campaign_id, parts.config, key.chain)
    room = max(0, min(settings.evaluations_per_round, left) - len(late))
    following, count = shared_out(parts.config.search, len(steps), room)
    preferred, others = _by_preference(session, key, candidates)
    refused: Counter[str] = Counter()
    taken = [*seen, *steps[:following]]
    chosen = _chosen(session, key, round_.model_id, preferred, taken, count, refused)
    if len(chosen) < count:
        taken += chosen
        chosen += _chosen(session, key, round_.model_id, others, taken, count - len(chosen), refused)
    # The late ones last: those that are under way may be in by then.
    first = [document.structure_id for document in steps[:following]]
    selection = first + [document.structure_id for document in chosen] + late
    told = {"selection": selection, "statistics.refused": dict(refused)}
    try:
        rounds.change_state(store, key, epoch, "searching", "selected", **told)
    except Superseded:
        log.info("superseded: the round was planned anew")
        return {"status": "superseded"}
    why = ", ".join(f"{reason} {number}" for reason, number in refused.items()) or "none"
    log.info(
        "%d of %d candidates; of former rounds: %d; refused: %s", len(selection), len(new), len(seen), why
    )
    return {"status": "selected", "candidates": len(new), "selected": len(selection)}


def _chosen(
    session: Session,
    key: RoundKey,
    model_id: str | None,
    candidates: list[StructureDocument],
    seen: list[StructureDocument],
    count: int,
    refused: Counter[str],
) -> list[StructureDocument]:
    """Up to `count` candidates in the order in which they are wanted, none equivalent to another.

    None is equivalent to what failed either, whatever their energies: two of a kind would fail together.
    Those that may not be chosen are added to `refused`, by the reason.
    """
    parts = session.parts(key.campaign_id)
    settings, level = parts.config.search.selection, reference_hash(parts.config.reference)
    energies = np.array([c.model_energy for c in candidates])
    uncertainties = _that_data_would_lessen(session, model_id, candidates)
    # The bare foundation is on another scale than the reference: it promises nothing.
    promised = energies if parts.config.delta.preset != "none" else np.full_like(energies, np.inf)
    evaluated = evaluations.energies(session.store, [one.structure_hash for one in seen], level)
    known = [evaluated.get(one.structure_hash) for one in seen]
    places = structures.selecting_rounds(session.store, key.campaign_id)
    groups = labels(
        candidates,
        energies,
        promised,
        # What this round has taken already comes last.
        [
            Selected(one, energy, places.get(one.structure_id, (key.k, key.chain)))
            for one, energy in zip(seen, known, strict=True)
        ],
    )
    eligible = _eligible(energies, groups, refused)
    best = min((energy for energy in known if energy is not None), default=None)
    failed = _by_hash(
        failed_structures(session.store, key.campaign_id, level, learns_from(parts.config, key))
    )
    bad = [structure.atoms() for structure in failed]
    pending = [one for one, energy in zip(seen, known, strict=True) if energy is None]
    under_way = [one for one in pending if one.structure_hash not in {bad.structure_hash for bad in failed}]
    virtual = _virtual(session, parts, model_id, candidates, under_way) if settings.diverse else None
    if virtual is not None and settings.choose != "random":

        def is_new(k: int, taken: list[int]) -> bool:
            return bool(
                distinct([candidates[k].atoms()], 1, known=bad + [candidates[i].atoms() for i in taken])
            )

        order = choose_one_by_one(energies, groups, settings, count, virtual, is_new, best)
        _count_rest(refused, eligible, len(order), count)
        return [candidates[k] for k in order]
    ranked = choose(
        energies=energies,
        uncertainties=uncertainties,
        groups=groups,
        settings=settings,
        count=len(candidates),
        rng=generator(parts.config.seed, key, Stream.SELECT),
        last=np.array([c.move in FROM_NOTHING for c in candidates], dtype=np.bool_)
        if settings.choose == "random"
        else None,
        best=best,
    )
    chosen = distinct([candidates[i].atoms() for i in ranked], count, known=bad)
    _count_rest(refused, eligible, len(chosen), count)
    return [candidates[ranked[i]] for i in chosen]


def _eligible(energies: FloatArray, groups: IntArray, refused: Counter[str]) -> int:
    """How many candidates may be chosen, equivalent ones all counted; the others are added to `refused`."""
    known, odd = groups < 0, ~np.isfinite(energies)
    for reason, flags in {KNOWN: known, NO_ENERGY: odd & ~known}.items():
        if flags.any():
            refused[reason] += int(flags.sum())
    return int((~known & ~odd).sum())


def _count_rest(refused: Counter[str], eligible: int, chosen: int, wanted: int) -> None:
    """Where fewer were chosen than wanted, the rest was equivalent to something."""
    if chosen < wanted and eligible > chosen:
        refused[ALIKE] += eligible - chosen


def _virtual(
    session: Session,
    parts: CampaignParts,
    model_id: str | None,
    candidates: list[StructureDocument],
    under_way: list[StructureDocument],
) -> VirtualObservations | None:
    """Uncertainties of the candidates, as ever more of them are taken; None where nothing is learnt yet.

    What is being evaluated counts as observed.
    """
    try:
        correction = session.learnt(model_id).correction
    except DamagedError as error:
        log.warning("%s; chosen by what the candidates say themselves", error.what)
        return None
    if correction is None:
        return None
    # SOAP needs no foundation, which may not be loaded here.
    foundation = parts.foundation if isinstance(correction, EmbeddingCorrection) else None
    every = [*candidates, *under_way]
    virtual = VirtualObservations(
        correction, [environments_of(correction, foundation, document.atoms()) for document in every]
    )
    for k in range(len(candidates), len(every)):
        virtual.observe(k)
    return virtual


def _new_candidates(
    session: Session, key: RoundKey, seen: list[StructureDocument]
) -> list[StructureDocument]:
    """The round's candidates that were never selected."""
    hashes = {document.structure_hash for document in seen}
    return [
        document
        for document in structures.round_candidates(session.store, key)
        if document.structure_hash not in hashes
    ]


def _by_preference(
    session: Session, key: RoundKey, candidates: list[StructureDocument]
) -> tuple[list[StructureDocument], list[StructureDocument]]:
    """Candidates to choose from first, and those for the places that are left then.

    Walkers come first where the settings say so: they may all stand on structures that are known already.
    Where it is drawn at random, as in the papers, others are no choice at all.
    """
    parts = session.parts(key.campaign_id)
    choose = parts.config.search.selection.choose
    state = saved_state(session, key) if choose in ("walkers", "random") else None
    if state is None:
        return candidates, []
    method = make_method(parts.config.search, parts.problem)
    walkers = {structure_hash(walker.atoms) for walker in method.walkers(method.load(state))}
    preferred = [c for c in candidates if c.structure_hash in walkers]
    if choose == "random":
        return preferred or candidates, []
    return preferred, [c for c in candidates if c.structure_hash not in walkers]


def _that_data_would_lessen(
    session: Session, model_id: str | None, candidates: list[StructureDocument]
) -> FloatArray:
    """Predicted deviations (n,) in eV without what the kernel cannot express; NaN where nothing is known.

    That part is the same everywhere. It would promise a gain from what has been evaluated already.
    """
    total = np.array([math.nan if c.uncertainty is None else c.uncertainty for c in candidates])
    known = models.get_model(session.store, model_id).hyperparameters if model_id is not None else {}
    discrepancy = float(known.get("discrepancy", 0.0))
    sizes = np.array([len(c.numbers) for c in candidates])
    return np.asarray(np.sqrt(np.maximum(total**2 - sizes * discrepancy**2, 0.0)), dtype=np.float64)


def _by_hash(documents: list[StructureDocument]) -> list[StructureDocument]:
    return sorted(documents, key=lambda document: document.structure_hash)


def _late(session: Session, key: RoundKey, most: int) -> list[str]:
    """What the chain's former rounds closed without, and failures to be tried again; by hash.

    Where rounds do not wait, what the last one selected is not late: its jobs are at it.
    """
    config = session.parts(key.campaign_id).config
    former = set(structures.selected_ids(session.store, key.campaign_id, key.chain))
    if not config.resources.wait and key.k > 0:
        before = rounds.get_round(session.store, RoundKey(key.campaign_id, key.chain, key.k - 1))
        former -= set(before.selection)
    level = reference_hash(config.reference)
    return [missing.structure_id for missing in unfinished(session.store, sorted(former), level)][:most]
