"""The retraining job: the Δ-model learns from every evaluation there is."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from jobflow import Maker, job

from godelta.arrays import FloatArray
from godelta.delta.embedding import EmbeddingCorrection, train_embedding, with_features
from godelta.delta.failures import Failures, fit_repulsion
from godelta.delta.model import AnyCorrection, Correction, Learnt, train
from godelta.delta.repulsion import Repulsion
from godelta.makers.joblog import logged
from godelta.makers.session import CampaignParts, Session, current_session
from godelta.makers.told import learns_from
from godelta.reference.registry import reference_hash
from godelta.search.settings import is_plain
from godelta.store import campaigns, evaluations, models, pretraining, rounds
from godelta.store.blobs import DamagedError
from godelta.store.database import Superseded
from godelta.store.documents import REFINEMENT_CHAIN, EvaluationDocument, RoundKey, StructureDocument
from godelta.store.failures import failed_structures
from godelta.store.pretraining import Pair

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
    start, cpu = time.perf_counter(), time.process_time()
    model_id = train_model(session, key, round_.model_id)
    rounds.add_timings(
        store, key, training_s=time.perf_counter() - start, training_cpu_s=time.process_time() - cpu
    )
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
    """The id of a model of all evaluations, good and failed; the previous one where there are none.

    None for a campaign that learns nothing.
    """
    store = session.store
    config = session.parts(key.campaign_id).config
    plain = is_plain(config.search) and key.chain != REFINEMENT_CHAIN
    if plain or config.delta.preset == "none":
        return None
    level, chain = reference_hash(config.reference), learns_from(config, key)
    pairs = _with_pretraining(
        session, key, evaluations.training_set(store, key.campaign_id, level, chain=chain)
    )
    failed = failed_structures(store, key.campaign_id, level, chain)
    if not pairs and not failed:
        log.info("no evaluation to learn from")
        return previous_id
    ids = [structure.structure_id for structure, _ in pairs]
    failed_ids = [structure.structure_id for structure in failed]
    model_id = models.model_id_for(key.campaign_id, ids, config.delta.digest(), failed_ids)
    if models.is_whole(store, model_id):
        log.info("a model of these %d structures is there already", len(ids) + len(failed))
        return model_id
    correction = _correction(session, key, pairs, previous_id) if pairs else None
    repulsion = _repulsion(session, key, failed, [structure for structure, _ in pairs], correction)
    models.save_model(
        store,
        key.campaign_id,
        ids,
        config.delta.digest(),
        Learnt(correction, repulsion).to_bytes(),
        failed_ids=failed_ids,
        hyperparameters=correction.hyperparameters if correction else None,
        metrics=correction.metrics if correction else None,
    )
    return model_id


def _with_pretraining(session: Session, key: RoundKey, own: list[Pair]) -> list[Pair]:
    """Own evaluations, and those of other campaigns that the campaign has been given to start from."""
    kept = campaigns.get_campaign(session.store, key.campaign_id).pretraining
    known = {structure.structure_hash for structure, _ in own}
    others = pretraining.load(session.store, kept)
    return own + [pair for pair in others if pair[0].structure_hash not in known]


def _correction(
    session: Session,
    key: RoundKey,
    pairs: list[tuple[StructureDocument, EvaluationDocument]],
    previous_id: str | None,
) -> AnyCorrection:
    """The Δ-model of good evaluations."""
    parts = session.parts(key.campaign_id)
    start = time.perf_counter()
    # Training goes by the order of these: structure ids would bring in the campaign's random id.
    hashes = [structure.structure_hash for structure, _ in pairs]
    atoms = [structure.atoms() for structure, _ in pairs]
    learn: Callable[..., AnyCorrection]
    previous = _previous(session, previous_id)
    if parts.config.delta.descriptor == "embedding":
        source = with_features(parts.foundation)
        learn = partial(
            train_embedding,
            foundation=source,
            previous=previous if isinstance(previous, EmbeddingCorrection) else None,
            embed=partial(session.embeddings, source),
            differentiate=session.slopes,
        )
    else:
        before = previous if isinstance(previous, Correction) else None
        learn = partial(train, previous=before, describe=session.features)
    correction = learn(
        parts.config.delta,
        parts.species,
        atoms,
        foundation_energies=[structure.foundation_energy for structure, _ in pairs],
        reference_energies=[float(evaluation.energy or 0.0) for _, evaluation in pairs],
        ids=hashes,
        residual_forces=_residual_forces(session, key, hashes, atoms, [e for _, e in pairs]),
    )
    error = correction.metrics["loo_rmse_ev"]
    log.info(
        "trained on %d structures in %.1f s, leave-one-out error %s",
        len(pairs),
        time.perf_counter() - start,
        "unknown yet" if error is None else f"{error:.4f} eV",
    )
    return correction


def _repulsion(
    session: Session,
    key: RoundKey,
    failed: list[StructureDocument],
    good: list[StructureDocument],
    correction: AnyCorrection | None,
) -> Repulsion | None:
    """What keeps the search away from failed structures; None where there are none."""
    if not failed:
        return None
    parts = session.parts(key.campaign_id)
    raised = np.array([structure.model_energy - structure.foundation_energy for structure in failed])
    repulsion = fit_repulsion(
        parts.config.delta,
        parts.species,
        Failures([s.atoms() for s in failed], [s.structure_hash for s in failed], raised),
        [structure.atoms() for structure in good],
        [structure.structure_hash for structure in good],
        partial(_learnt_energies, correction, parts),
        session.features,
    )
    log.info("%d failed structures are repelled by %s", len(failed), repulsion)
    return repulsion


def _learnt_energies(
    correction: AnyCorrection | None, parts: CampaignParts, structures: Sequence[Atoms]
) -> FloatArray:
    """E_Δ (B,) in eV of structures."""
    if correction is None:
        return np.zeros(len(structures))
    if isinstance(correction, EmbeddingCorrection):
        return correction.energies(parts.foundation, structures)
    return np.array([correction.predict(atoms).energy for atoms in structures])


def _previous(session: Session, model_id: str | None) -> AnyCorrection | None:
    """The model before, whose inducing points may be kept; training needs none."""
    try:
        return session.learnt(model_id).correction
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
