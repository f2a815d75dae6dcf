"""The evaluation job: one candidate at the reference level, in a process of its own."""

import shutil
import time
from dataclasses import asdict, dataclass
from typing import Any

from jobflow import Maker, job

from godelta.campaign import CampaignConfig
from godelta.makers.session import Session, StopRequestedError, current_session
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.registry import reference_hash
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.database import Superseded
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.evaluations import Busy, Claim, Stored

LEASE_MARGIN_S = 60.0


@dataclass
class EvaluateMaker(Maker):
    """Makes the job that evaluates one slot of a round's selection."""

    name: str = "evaluate"

    @job
    def make(
        self, campaign_id: str, chain: int, k: int, epoch: int, slot: int, after: dict[str, Any]
    ) -> dict[str, Any]:
        """Evaluate the candidate of a slot; `after` only orders the jobs."""
        return run_evaluate(current_session(), RoundKey(campaign_id, chain, k), epoch, slot)


def run_evaluate(session: Session, key: RoundKey, epoch: int, slot: int) -> dict[str, Any]:
    """Evaluate `selection[slot]`; a slot beyond the selection has nothing to do."""
    round_ = rounds.get_round(session.store, key)
    if slot >= len(round_.selection):
        return {"status": "empty"}
    if round_.state == "selected":
        try:
            rounds.change_state(session.store, key, epoch, "selected", "evaluating")
        except Superseded:  # another slot's job was first, or the round was planned anew
            if rounds.get_round(session.store, key).epoch != epoch:
                return {"status": "superseded"}
    document = structures.get_structure(session.store, round_.selection[slot])
    start = time.perf_counter()
    status = evaluate_structure(session, document)
    rounds.add_timings(session.store, key, reference_s=time.perf_counter() - start)
    return {"status": status}


def evaluate_structure(session: Session, document: StructureDocument) -> str:
    """Have one structure evaluated, by this process or by the one that is at it already."""
    config = session.parts(document.campaign_id).config
    level = reference_hash(config.reference)
    while True:
        answer = evaluations.claim(
            session.store,
            document.structure_hash,
            level,
            owner=session.owner,
            seconds=config.reference.limits.wall_seconds + LEASE_MARGIN_S,
        )
        match answer:
            case Stored():
                # Paid for by a worker that died between storing the result and settling the bill?
                campaigns.settle_evaluation(session.store, document.campaign_id, document.structure_hash)
                return f"cached {answer.status}"
            case Busy():
                if session.should_stop():
                    raise StopRequestedError
                time.sleep(0.5)
            case Claim():
                return _compute(session, document, config, answer)


def _compute(session: Session, document: StructureDocument, config: CampaignConfig, claim: Claim) -> str:
    paid = (session.store, document.campaign_id)
    key = document.structure_hash
    if not campaigns.reserve_evaluation(*paid, config.budget.evaluations, key):
        evaluations.release(session.store, claim)
        return "budget spent"
    scratch = session.workspace.scratch / f"{document.structure_hash[:24]}-{claim.token}"
    try:
        outcome = evaluate_isolated(
            document.atoms(), config.reference, scratch, should_stop=session.should_stop
        )
    except KeyboardInterrupt:
        evaluations.release(session.store, claim)
        campaigns.release_evaluation(*paid, key)
        raise
    if outcome.reason == "interrupted":  # killed from outside: no verdict on the structure
        evaluations.release(session.store, claim)
        campaigns.release_evaluation(*paid, key)
        raise StopRequestedError
    if outcome.status == "ok":
        assert outcome.energy is not None
        assert outcome.forces is not None
        evaluations.commit_ok(session.store, claim, outcome.energy, outcome.forces, asdict(outcome.cost))
    else:
        evaluations.commit_failed(
            session.store,
            claim,
            outcome.reason or "engine_error",
            outcome.message,
            outcome.log_tail,
            asdict(outcome.cost),
        )
    campaigns.settle_evaluation(*paid, key)
    shutil.rmtree(scratch, ignore_errors=True)
    return outcome.status
