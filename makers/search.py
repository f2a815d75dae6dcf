"""The search job: a chain's walkers advance on foundation + Δ for one round."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from jobflow import Maker, job

from godelta.makers.documents import candidate_document
from godelta.makers.joblog import logged
from godelta.makers.retrain import train_model
from godelta.makers.seeds import Stream, generator
from godelta.makers.session import Session, WatchedPotential, current_session
from godelta.makers.told import evaluated
from godelta.search import SearchMethod, make_method
from godelta.search.state import InformedMethod, StepResult
from godelta.store import rounds, structures
from godelta.store.blobs import DamagedError
from godelta.store.database import Superseded
from godelta.store.documents import REFINEMENT_CHAIN, RoundDocument, RoundKey

TELL_EVERY_S = 60.0

log = logging.getLogger(__name__)


@dataclass
class SearchMaker(Maker):
    """Makes the job that searches for one round; all it hands on is a summary."""

    name: str = "search"

    @job
    def make(self, campaign_id: str, chain: int, k: int, epoch: int) -> dict[str, Any]:
        """Advance the chain's walkers by one round."""
        return run_search(current_session(), RoundKey(campaign_id, chain, k), epoch)


@logged("search")
def run_search(session: Session, key: RoundKey, epoch: int) -> dict[str, Any]:
    """Advance the chain's walkers by one round, saving candidates and state after every step.

    A rerun continues after the last saved step; a round that has been searched is left alone.
    """
    store = session.store
    round_ = rounds.get_round(store, key)
    if round_.state not in ("planned", "searching"):
        return {"status": "done before"}
    parts = session.parts(key.campaign_id)
    loading, cpu = time.perf_counter(), time.process_time()
    method = make_method(parts.config.search, parts.problem)
    try:
        round_, potential = round_potential(session, key, epoch, round_)
        rounds.add_timings(store, key, loading_s=time.perf_counter() - loading)
        rounds.change_state(store, key, epoch, round_.state, "searching")
        state = _open_state(session, method, key, epoch, potential)
        progress = _Progress()
        while not method.finished(state):
            start, worked = time.perf_counter(), potential.seconds
            step = method.step(state, potential)
            structures.add_candidates(
                store, [candidate_document(key, item, round_.model_id) for item in step.candidates]
            )
            state = step.state
            rounds.save_search_state(store, key, epoch, state.to_bytes(), step.statistics.to_dict())
            rounds.add_timings(
                store,
                key,
                search_s=time.perf_counter() - start,
                potential_s=potential.seconds - worked,
                search_cpu_s=time.process_time() - cpu,
            )
            cpu = time.process_time()
            progress.add(step)
    except Superseded:
        log.info("superseded: the round was planned anew")
        return {"status": "superseded"}
    progress.end(potential)
    return {"status": "searched", "potential_calls": potential.calls}


def round_potential(
    session: Session, key: RoundKey, epoch: int, round_: RoundDocument
) -> tuple[RoundDocument, WatchedPotential]:
    """Foundation + Δ; where the Δ-model is damaged, one trained anew on what has been evaluated by now.

    So is the first one of a campaign that learns from others before its first round, and of a refinement.
    """
    first = session.parts(key.campaign_id).config.delta.pretrain_from or key.chain == REFINEMENT_CHAIN
    try:
        if round_.model_id is not None or not first:
            return round_, session.potential(key.campaign_id, round_.model_id)
    except DamagedError as error:
        log.warning("%s; it is trained anew", error.what)
    model_id = train_model(session, key, None)
    round_ = rounds.change_state(session.store, key, epoch, round_.state, round_.state, model_id=model_id)
    return round_, session.potential(key.campaign_id, model_id)


def saved_state(session: Session, key: RoundKey) -> bytes | None:
    """A round's saved walkers; None where nothing is saved, or what is has been damaged."""
    try:
        return rounds.load_search_state(session.store, key)
    except DamagedError as error:
        log.warning("%s", error.what)
        return None


@dataclass
class _Progress:
    """What is told of a search: each step in detail, a summary now and then and at the end."""

    steps: int = 0
    candidates: int = 0
    best: float | None = None
    begun: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def add(self, step: StepResult[Any]) -> None:
        """Tell of a step."""
        said = step.statistics
        self.steps += 1
        self.candidates += len(step.candidates)
        if said.best_energy is not None:
            self.best = said.best_energy if self.best is None else min(self.best, said.best_energy)
        now = time.monotonic()
        log.log(
            logging.INFO if now - self.told > TELL_EVERY_S else logging.DEBUG,
            "iteration %d: %d candidates, lowest of the model %s, dropped %s",
            said.iteration,
            len(step.candidates),
            _shown(said.best_energy),
            said.dropped or "none",
        )
        if now - self.told > TELL_EVERY_S:
            self.told = now

    def end(self, potential: WatchedPotential) -> None:
        """Tell of the whole search."""
        log.info(
            "done: %d steps, %d candidates, lowest of the model %s, %.1f s (potential %.1f s)",
            self.steps,
            self.candidates,
            _shown(self.best),
            time.monotonic() - self.begun,
            potential.seconds,
        )


def _shown(energy: float | None) -> str:
    return "none" if energy is None else f"{energy:.4f} eV"


def _open_state(
    session: Session, method: SearchMethod[Any], key: RoundKey, epoch: int, potential: WatchedPotential
) -> Any:
    """The round's saved state, else the one that follows from the round before, else a new one."""
    saved = saved_state(session, key)
    if saved is not None:
        return method.load(saved)
    rng = generator(session.parts(key.campaign_id).config.seed, key, Stream.SEARCH)
    blob = saved_state(session, RoundKey(key.campaign_id, key.chain, key.k - 1)) if key.k > 0 else None
    before = method.load(blob) if blob is not None else None
    state = method.start(potential, rng) if before is None else method.next_round(before, potential, rng)
    if not isinstance(method, InformedMethod):
        return state
    walkers = method.walkers(before) if before is not None else []
    state = method.inform(state, evaluated(session, key, walkers), potential)
    # Saved before the first step: a rerun later, when more has been evaluated, goes on with the same.
    rounds.save_search_state(session.store, key, epoch, state.to_bytes(), {})
    return state
