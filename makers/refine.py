"""The refinement job: the next step of each structure that is on its way to a minimum of the reference."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobflow import Maker, job

from godelta.analysis.duplicates import distinct
from godelta.delta.model import DeltaModel
from godelta.makers.documents import candidate_document
from godelta.makers.joblog import logged
from godelta.makers.search import round_potential, saved_state
from godelta.makers.seeds import Stream, generator
from godelta.makers.session import Session, current_session
from godelta.makers.told import evaluated
from godelta.reference.registry import reference_hash
from godelta.search.proposals import structure_at
from godelta.search.refinement import Refinement, RefinementState
from godelta.search.settings import REFINEMENT
from godelta.search.state import Evaluated
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.database import Superseded
from godelta.store.documents import RoundDocument, RoundKey
from godelta.store.refining import RefinementCount
from godelta.store.retries import unfinished

log = logging.getLogger(__name__)


@dataclass
class RefineMaker(Maker):
    """Makes the job that chooses the next structures of a refinement, and selects them for evaluation."""

    name: str = "refine"

    @job
    def make(self, campaign_id: str, chain: int, k: int, epoch: int) -> dict[str, Any]:
        """Take every structure that is being refined one step further."""
        return run_refine(current_session(), RoundKey(campaign_id, chain, k), epoch)


@logged("refine")
def run_refine(session: Session, key: RoundKey, epoch: int) -> dict[str, Any]:
    """Judge the last evaluations of the refinement, begin what is to be begun, and select the next steps.

    What it is told of the evaluations is saved before the steps are computed, and these before they are
    selected: a rerun selects the same.
    """
    store = session.store
    round_ = rounds.get_round(store, key)
    if round_.state not in ("planned", "searching"):
        return {"status": "done before"}
    parts = session.parts(key.campaign_id)
    method = Refinement(parts.config.refine, parts.problem)
    try:
        round_, potential = round_potential(session, key, epoch, round_)
        # What repels failed structures lies in the way here: a step that fails is made shorter anyhow.
        model = session.learnt(round_.model_id).correction
        potential = replace(potential, potential=DeltaModel(parts.foundation, model))
        rounds.change_state(store, key, epoch, round_.state, "searching")
        saved = saved_state(session, key)
        state = method.load(saved) if saved is not None else _judged(session, method, key)
        if not state.stepped:
            rounds.save_search_state(store, key, epoch, state.to_bytes(), {})
            state, candidates = method.step(state, potential)
            documents = [candidate_document(key, one, round_.model_id) for one in candidates]
            structures.add_candidates(store, documents)
            rounds.save_search_state(store, key, epoch, state.to_bytes(), {"iteration": state.iteration})
        proposed = _proposed(session, key, state)
        waiting = [proposed[track.pending] for track in state.tracks if track.pending in proposed]
        selection = waiting[: parts.config.refine.best]
        tracks = _named(session, key, method.report(state))
        told = {
            "asked": parts.config.refine.model_dump(mode="json"),
            "running": len(selection),
            "tracks": tracks,
        }
        rounds.change_state(
            store, key, epoch, "searching", "selected", selection=selection, statistics={REFINEMENT: told}
        )
    except Superseded:
        log.info("superseded: the round was planned anew")
        return {"status": "superseded"}
    statuses = [track["status"] for track in tracks]
    log.info("%s", RefinementCount.of(statuses, len(selection), "selected", "running").told)
    return {"status": "selected", "selected": len(selection)}


def _judged(session: Session, method: Refinement, key: RoundKey) -> RefinementState:
    """The state of the round before, with what came of its evaluations, and new tracks where none runs."""
    store = session.store
    rng = generator(session.parts(key.campaign_id).config.seed, key, Stream.SEARCH)
    former = rounds.find_round(store, RoundKey(key.campaign_id, key.chain, key.k - 1))
    blob = None if former is None else saved_state(session, former.key)
    before = method.start(rng) if blob is None else method.load(blob)
    started = campaigns.get_campaign(store, key.campaign_id).updated_at
    if former is not None and started > former.changed_at:
        before = method.encourage(before)
    known = evaluated(session, key, [])
    state = method.judge(before, known, *_without_result(session, key, before, former))
    if any(track.status == "running" for track in state.tracks):
        return state
    return method.begin(state, _to_begin(session, method, key, state, known))


def _proposed(session: Session, key: RoundKey, state: RefinementState) -> dict[str, str]:
    """Structure ids of what the tracks wait for, by the search's own names."""
    documents = [
        *structures.selected_structures(session.store, key.campaign_id, key.chain),
        *structures.round_candidates(session.store, key),
    ]
    pending = {track.pending for track in state.tracks if track.pending}
    return {
        name: document.structure_id
        for document in documents
        for name in document.candidate_ids
        if name in pending
    }


def _without_result(
    session: Session, key: RoundKey, state: RefinementState, former: RoundDocument | None
) -> tuple[set[str], set[str]]:
    """What the tracks wait for and has no result, good or bad; and what of it the last round had selected.

    A round has selected more than it evaluates where `refine.best` has become smaller or larger since it
    was planned, or the budget of processor time was spent.
    """
    proposed = _proposed(session, key, state)
    level = reference_hash(session.parts(key.campaign_id).config.reference)
    missing = {one.structure_id for one in unfinished(session.store, list(proposed.values()), level)}
    waiting = {name for name, structure_id in proposed.items() if structure_id in missing}
    chosen = set() if former is None else set(former.selection)
    return waiting, {name for name in waiting if proposed[name] in chosen}


def _to_begin(
    session: Session,
    method: Refinement,
    key: RoundKey,
    state: RefinementState,
    known: Sequence[Evaluated],
) -> list[Evaluated]:
    """Of the lowest different structures those that no track began from, or has arrived at.

    Steps of refinements count as what they arrived at: one that is on its way is no structure of its own. But
    where there is no track, they are all that is left of a state that was lost.
    """
    steps = _steps(session, key) if state.tracks else set()
    ends = {track.at for track in state.tracks}
    pool = [item for item in known if ends.intersection(item.names) or not steps.intersection(item.names)]
    pool.sort(key=lambda item: item.energy)
    atoms = [structure_at(method.problem, item.positions) for item in pool]
    lowest = distinct(atoms, method.settings.best)
    starts = {track.start for track in state.tracks}
    been = [
        structure_at(method.problem, item.positions)
        for item in known
        if (starts | ends).intersection(item.names)
    ]
    new = distinct([atoms[i] for i in lowest], len(lowest), known=been)
    return [pool[lowest[i]] for i in new]


def _steps(session: Session, key: RoundKey) -> set[str]:
    """Candidate ids of all steps of the campaign's refinements."""
    ids = structures.selected_ids(session.store, key.campaign_id, key.chain)
    return {
        document.candidate_id
        for document in structures.get_structures(session.store, ids)
        if document.move == REFINEMENT
    }


def _named(session: Session, key: RoundKey, tracks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With structure ids in place of the search's own names for candidates."""
    level = reference_hash(session.parts(key.campaign_id).config.reference)
    names = {
        name: structure.structure_id
        for structure, _ in evaluations.training_set(session.store, key.campaign_id, level)
        for name in structure.candidate_ids
    }
    return [
        track | {"start": names.get(track["start"], ""), "at": names.get(track["at"], "")} for track in tracks
    ]
