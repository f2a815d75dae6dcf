"""The selection job: which candidates of a round are worth an evaluation."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jobflow import Maker, job

from godelta.analysis.duplicates import distinct, group
from godelta.arrays import FloatArray, IntArray
from godelta.delta.covariance import VirtualObservations
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.explain import environments_of
from godelta.makers.joblog import logged
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

WORTH_A_SECOND = 0.02  # eV: how much lower the model has to see a better version of an evaluated structure

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
    chosen = _chosen(session, key, round_.model_id, preferred, seen, count)
    if len(chosen) < count:
        chosen += _chosen(session, key, round_.model_id, others, [*seen, *chosen], count - len(chosen))
    # The late ones last: those that are under way may be in by then.
    first = [document.structure_id for document in steps[:following]]
    selection = first + [document.structure_id for document in chosen] + late
    try:
        rounds.change_state(store, key, epoch, "searching", "selected", selection=selection)
    except Superseded:
        log.info("superseded: the round was planned anew")
        return {"status": "superseded"}
    log.info("%d of %d candidates; of former rounds: %d", len(selection), len(new), len(seen))
    return {"status": "selected", "candidates": len(new), "selected": len(selection)}


def _chosen(
    session: Session,
    key: RoundKey,
    model_id: str | None,
    candidates: list[StructureDocument],
    seen: list[StructureDocument],
    count: int,
) -> list[StructureDocument]:
    """Up to `count` candidates in the order in which they are wanted, none equivalent to another.

    None is equivalent to what failed either, whatever their energies: two of a kind would fail together.
    """
    parts = session.parts(key.campaign_id)
    settings, level = parts.config.search.selection, reference_hash(parts.config.reference)
    energies = np.array([c.model_energy for c in candidates])
    uncertainties = _that_data_would_lessen(session, model_id, candidates)
    # The bare foundation is on another scale than the reference: it promises nothing.
    promised = energies if parts.config.delta.preset != "none" else np.full_like(energies, np.inf)
    evaluated = evaluations.energies(session.store, [one.structure_hash for one in seen], level)
    known = [evaluated.get(one.structure_hash) for one in seen]
    groups = _groups(candidates, energies, promised, list(zip(seen, known, strict=True)))
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
    places = distinct([candidates[i].atoms() for i in ranked], count, known=bad)
    return [candidates[ranked[i]] for i in places]


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


def _groups(
    candidates: list[StructureDocument],
    energies: FloatArray,
    promised: FloatArray,
    seen: list[tuple[StructureDocument, float | None]],
) -> IntArray:
    """Labels of equivalent candidates; -1 where the same structure was selected before.

    A better model moves a minimum a little, and the energy there is what the campaign is after: the same
    structure again is welcome if the model sees it clearly below the lowest of its evaluations. Not if only
    E - kappa sigma is: the deviation next to an evaluation is never nothing, and the same minimum would be
    evaluated again and again. Nor if its last evaluation had been welcome too, and was no lower: a model that
    is wrong there goes on promising. One whose evaluation failed, or is still under way, is not welcome.

    Parameters
    ----------
    candidates, energies, promised
        n candidates, their model energies and what counts against earlier evaluations, (n,) in eV.
    seen
        What was selected before, with its reference energy in eV where there is one.
    """
    if not candidates:
        return np.empty(0, dtype=np.int64)
    labels = group([document.atoms() for document in candidates], energies)
    # Energies of an evaluated structure and of its better version may differ by any amount.
    both = [document.atoms() for document in [*(document for document, _ in seen), *candidates]]
    kinds = group(both, np.zeros(len(both)))
    to_beat = _to_beat(seen, kinds[: len(seen)].tolist())
    limits = np.array([to_beat.get(kind, np.inf) for kind in kinds[len(seen) :].tolist()])
    return np.asarray(np.where(promised > limits - WORTH_A_SECOND, -1, labels), dtype=np.int64)


def _to_beat(seen: list[tuple[StructureDocument, float | None]], kinds: list[int]) -> dict[int, float]:
    """By kind, the lowest energy in eV; -inf where no other evaluation is welcome."""
    to_beat: dict[int, float] = {}
    begun: dict[int, int] = {}
    for (document, energy), kind in sorted(zip(seen, kinds, strict=True), key=_by_round):
        lowest = to_beat.get(kind, np.inf)
        asked_again = document.round > begun.setdefault(kind, document.round) and document.move != FOLLOW_UP
        in_vain = asked_again and energy is not None and energy > lowest - WORTH_A_SECOND
        to_beat[kind] = -np.inf if energy is None or in_vain else min(energy, lowest)
    return to_beat


def _by_round(one: tuple[tuple[StructureDocument, float | None], int]) -> tuple[int, int, str]:
    """The order in which structures were selected."""
    document = one[0][0]
    return document.round, document.chain, document.structure_hash
