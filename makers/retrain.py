"""The retraining job: the Δ-model learns from every evaluation there is."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from jobflow import Maker, job

from godelta.arrays import FloatArray
from godelta.delta.model import Correction, train
from godelta.makers.joblog import logged
from godelta.makers.session import Session, current_session
from godelta.reference.registry import reference_hash
from godelta.store import evaluations, models, rounds
from godelta.store.blobs import DamagedError
from godelta.store.database import Superseded
from godelta.store.documents import EvaluationDocument, RoundKey

log = logging.getLogger(__name__)


@dataclass
class RetrainMaker(Maker):
    """Makes the job that retrains the Δ-model and closes the round."""

    name: str = "retrain"

    @job
    def make(
        self, campaign_id: str, chain: int, k: int, epoch: int, after: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Retrain on the evaluations that exist by now; `after` only orders the jobs."""
        return run_retrain(current_session(), RoundKey(campaign_id, chain, k), epoch)


@logged("retrain")
def run_retrain(session: Session, key: RoundKey, epoch: int) -> dict[str, Any]:
    """Train the Δ-model for the chain's next round, store it, and close the round."""
    store = session.store
    round_ = rounds.get_round(store, key)
    if round_.state == "closed":
        return {"status": "done before"}
    start = time.perf_counter()
    model_id = train_model(session, key, round_.model_id)
    rounds.add_timings(store, key, training_s=time.perf_counter() - start)
    try:
        if rounds.get_round(store, key).state == "selected":  # nothing was selected
            rounds.change_state(store, key, epoch, "selected", "evaluating")
        rounds.change_state(store, key, epoch, "evaluating", "closed", next_model_id=model_id)
    except Superseded:
        log.info("superseded: the round was planned anew")
        return {"status": "superseded"}
    log.info("round closed; next model: %s", model_id or "none")
    return {"status": "closed", "model_id": model_id}


def train_model(session: Session, key: RoundKey, previous_id: str | None) -> str | None:
    """The id of a model trained on all evaluations; the previous one where there are none."""
    store = session.store
    parts = session.parts(key.campaign_id)
    config = parts.config
    pairs = evaluations.training_set(
        store,
        key.campaign_id,
        reference_hash(config.reference),
        chain=None if config.share else key.chain,
    )
    if not pairs:
        log.info("no evaluation to learn from")
        return previous_id
    ids = [structure.structure_id for structure, _ in pairs]
    model_id = models.model_id_for(key.campaign_id, ids, config.delta.digest())
    if models.is_whole(store, model_id):
        log.info("a model of these %d structures is there already", len(ids))
        return model_id
    start = time.perf_counter()
    # Training goes by the order of these: structure ids would bring in the campaign's random id.
    hashes = [structure.structure_hash for structure, _ in pairs]
    atoms = [structure.atoms() for structure, _ in pairs]
    correction = train(
        config.delta,
        parts.species,
        atoms,
        foundation_energies=[structure.foundation_energy for structure, _ in pairs],
        reference_energies=[float(evaluation.energy or 0.0) for _, evaluation in pairs],
        ids=hashes,
        residual_forces=_residual_forces(session, key, hashes, atoms, [e for _, e in pairs]),
        previous=_previous(session, previous_id),
        describe=session.features,
    )
    models.save_model(
        store,
        key.campaign_id,
        ids,
        config.delta.digest(),
        correction.to_bytes(),
        hyperparameters=correction.hyperparameters,
        metrics=correction.metrics,
    )
    error = correction.metrics["loo_rmse_ev"]
    log.info(
        "trained on %d structures in %.1f s, leave-one-out error %s",
        len(ids),
        time.perf_counter() - start,
        "unknown yet" if error is None else f"{error:.4f} eV",
    )
    return model_id


def _previous(session: Session, model_id: str | None) -> Correction | None:
    """The model before, whose inducing points may be kept; training needs none."""
    try:
        return session.correction(model_id)
    except DamagedError as error:
        log.warning("%s; trained without it", error.what)
        return None


def _residual_forces(
    session: Session,
    key: RoundKey,
    hashes: list[str],
    structures: list[Atoms],
    evaluated: list[EvaluationDocument],
) -> list[FloatArray] | None:
    """Reference minus foundation forces, arrays (n, 3) in eV/Å; None where energies only are learned."""
    parts = session.parts(key.campaign_id)
    if not parts.config.delta.force_directions:
        return None
    base = session.foundation_forces(parts.foundation, hashes, structures)
    return [
        np.asarray(evaluation.forces, dtype=np.float64) - forces
        for evaluation, forces in zip(evaluated, base, strict=True)
    ]
