"""The evaluation job: candidates at the reference level, each in a process of its own."""

import logging
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobflow import Maker, job

from godelta.campaign import CampaignConfig
from godelta.errors import GodeltaError
from godelta.makers.joblog import logged
from godelta.makers.session import Session, StopRequestedError, current_session
from godelta.reference.isolated import Outcome, evaluate_isolated
from godelta.reference.process import Interrupted
from godelta.reference.registry import reference_hash
from godelta.store import campaigns, evaluations, rounds, structures, workers
from godelta.store.budget import evaluation_limit
from godelta.store.database import Superseded, patiently
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.evaluations import Busy, Claim, Stored

# A living worker prolongs its lease in time; of one that is known to be gone nobody waits for the end.
LEASE_S = 120.0

log = logging.getLogger(__name__)


@dataclass
class EvaluateMaker(Maker):
    """Makes the job that evaluates some slots of a round's selection, one after the other."""

    name: str = "evaluate"

    @job
    def make(
        self, campaign_id: str, chain: int, k: int, epoch: int, slots: list[int], after: dict[str, Any]
    ) -> dict[str, Any]:
        """Evaluate the candidates of these slots; `after` only orders the jobs."""
        session, key = current_session(), RoundKey(campaign_id, chain, k)
        return dict(Counter(run_evaluate(session, key, epoch, slot) for slot in slots))


@logged("evaluate")
def run_evaluate(session: Session, key: RoundKey, epoch: int, slot: int) -> str:
    """Evaluate `selection[slot]`, and say what came of it; a slot beyond the selection is empty."""
    round_ = rounds.get_round(session.store, key)
    if slot >= len(round_.selection):
        return "empty"
    try:
        rounds.change_state(session.store, key, epoch, ("selected", "evaluating"), "evaluating")
    except Superseded:
        if not _still_wanted(session, key, epoch):
            log.info("superseded: the round was planned anew, or is closed")
            return "superseded"
    document = structures.get_structure(session.store, round_.selection[slot])
    start = time.perf_counter()
    status = evaluate_structure(session, document)
    rounds.add_timings(session.store, key, reference_s=time.perf_counter() - start)
    if status not in ("ok", "failed"):  # of these more is said where it is known
        log.info("%s: %s", _called(document), status)
    return status


def _still_wanted(session: Session, key: RoundKey, epoch: int) -> bool:
    """Whether a round was closed without waiting for its evaluations, and nobody else makes them."""
    round_ = rounds.get_round(session.store, key)
    waits = session.parts(key.campaign_id).config.resources.wait
    return not waits and round_.state == "closed" and round_.epoch == epoch


def evaluate_structure(session: Session, document: StructureDocument) -> str:
    """Have one structure evaluated, by this process or by the one that is at it already."""
    config = session.parts(document.campaign_id).config
    level = reference_hash(config.reference)
    while True:
        answer = evaluations.claim(
            session.store,
            document.structure_hash,
            level,
            owner=str(session.heartbeat.name),
            seconds=LEASE_S,
            wanted=document,
        )
        match answer:
            case Stored():
                # Paid for by a worker that died between storing the result and settling the bill?
                campaigns.settle_evaluation(
                    session.store,
                    document.campaign_id,
                    document.structure_hash,
                    answer.evaluation.cost.get("cpu_s", 0.0),
                )
                return f"cached {answer.status}"
            case Busy():
                if session.should_stop():
                    raise StopRequestedError
                if workers.is_gone(session.store, answer.owner):
                    evaluations.expire(session.store, document.structure_hash, level, answer)
                else:
                    time.sleep(0.5)
            case Claim():
                try:
                    return _compute(session, document, config, answer)
                except Superseded:  # the lease ran out, in a long sleep or outage, and another has it now
                    continue
                except _KilledError:  # an attempt lost, and counted: after a few the claim says so
                    continue


def _compute(session: Session, document: StructureDocument, config: CampaignConfig, claim: Claim) -> str:
    paid = (session.store, document.campaign_id)
    key = document.structure_hash
    limit = evaluation_limit(session.store, document.campaign_id, config)
    if not campaigns.reserve_evaluation(*paid, limit, key, cpu_hours=config.budget.cpu_hours):
        evaluations.release(session.store, claim)
        return "budget spent"
    scratch = _scratch(session, claim)
    with session.heartbeat.holding(claim) as held:
        try:
            outcome = evaluate_isolated(
                document.atoms(),
                config.reference,
                scratch[claim.token],
                former=[path for token, path in scratch.items() if token < claim.token],
                should_stop=lambda: held.lost or session.should_stop(),
            )
        except (KeyboardInterrupt, Interrupted):
            if held.lost and not session.should_stop():
                raise Superseded("the lease is in other hands", where=key) from None
            _give_back(session, document, claim)
            raise StopRequestedError from None
        except GodeltaError:  # the disk takes nothing: no verdict on the structure
            _give_back(session, document, claim)
            raise
        if outcome.reason == "interrupted":  # killed from outside: no verdict on the structure
            _give_back(session, document, claim)
            raise StopRequestedError
        patiently(lambda: _commit(session, claim, outcome))
    patiently(lambda: campaigns.settle_evaluation(*paid, key, outcome.cost.cpu_s))
    for path in scratch.values():
        shutil.rmtree(path, ignore_errors=True)
    _tell(document, outcome)
    return outcome.status


def _called(document: StructureDocument) -> str:
    return f"{document.formula} {document.structure_hash[:12]}"


def _tell(document: StructureDocument, outcome: Outcome) -> None:
    name, seconds = _called(document), outcome.cost.wall_s
    if outcome.energy is None:
        log.warning("%s: failed in %.1f s, %s: %s", name, seconds, outcome.reason, outcome.message)
    else:
        taken = ", computed by a former attempt" if outcome.adopted else ""
        log.info("%s: ok in %.1f s, %.6f eV%s", name, seconds, outcome.energy, taken)


class _KilledError(Exception):
    """The engine's processes were killed, by nobody of ours."""


def _scratch(session: Session, claim: Claim) -> dict[int, Path]:
    """Scratch directories by token: those that former attempts left on this machine, and this one's."""
    name = f"{claim.structure_hash[:24]}-{claim.reference_hash[:8]}"
    left = {
        int(path.name.rpartition("-")[2]): path
        for path in session.workspace.scratch.glob(f"{name}-*")
        if path.name.rpartition("-")[2].isdigit()
    }
    own = session.workspace.scratch / f"{name}-{claim.token}"
    return {token: path for token, path in sorted(left.items()) if token < claim.token} | {claim.token: own}


def _give_back(session: Session, document: StructureDocument, claim: Claim) -> None:
    campaigns.release_evaluation(session.store, document.campaign_id, document.structure_hash)
    evaluations.release(session.store, claim)


def _commit(session: Session, claim: Claim, outcome: Outcome) -> None:
    cost = asdict(outcome.cost)
    if outcome.status == "ok":
        assert outcome.energy is not None
        assert outcome.forces is not None
        evaluations.commit_ok(session.store, claim, outcome.energy, outcome.forces, cost)
    elif outcome.reason == "killed":
        evaluations.commit_lost(session.store, claim, outcome.message, outcome.log_tail, cost)
        raise _KilledError
    else:
        evaluations.commit_failed(
            session.store, claim, outcome.reason or "engine_error", outcome.message, outcome.log_tail, cost
        )
