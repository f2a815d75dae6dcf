"""A campaign's Δ-models: what they learnt from, and how right they were, from what the database holds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from godelta.analysis.calibration import calibration
from godelta.arrays import FloatArray
from godelta.store import evaluations, models
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, ModelDocument, RoundDocument


@dataclass(frozen=True)
class Proposals:
    """Errors (n,) and deviations (n,) in eV of predictions made before the evaluation, by chain and round."""

    places: list[tuple[int, int]]
    errors: FloatArray
    deviations: FloatArray

    def of(self, chosen: Sequence[bool]) -> tuple[FloatArray, FloatArray]:
        """Those that are chosen (n,)."""
        mask = np.array(chosen, dtype=np.bool_)
        return self.errors[mask], self.deviations[mask]


def proposals_of(store: Store, campaign: CampaignDocument) -> Proposals:
    """What became of predictions of foundation + Δ."""
    history = [
        row
        for row in evaluations.history(store, campaign.campaign_id, campaign.reference_hash)
        if row["status"] == "ok" and row["uncertainty"] is not None
    ]
    return Proposals(
        [(row["chain"], row["round"]) for row in history],
        np.array([row["energy"] - row["model_energy"] for row in history], dtype=np.float64),
        np.array([row["uncertainty"] for row in history], dtype=np.float64),
    )


def model_record(store: Store, round_: RoundDocument, proposals: Proposals) -> dict[str, Any]:
    """A model: what it learnt from, its leave-one-out error, and what came of the next round's proposals."""
    document: ModelDocument = models.get_model(store, str(round_.next_model_id))
    following = round_.chain, round_.k + 1
    met = calibration(*proposals.of([place == following for place in proposals.places]))
    return {
        "chain": round_.chain,
        "after_round": round_.k,
        "model_id": document.model_id,
        "evaluations": len(document.evaluation_ids),
        "failed": len(document.failed_ids),
        "metrics": document.metrics,
        "hyperparameters": document.hyperparameters,
        "created_at": document.created_at,
        "next_round": None if met is None else asdict(met),
    }


def held_out(
    store: Store, closed: list[RoundDocument], *, share: bool
) -> tuple[FloatArray, FloatArray] | None:
    """Errors and deviations of the latest model of each chain, evaluations left out one by one."""
    from godelta.delta.model import Learnt

    # Of chains that share, the last one has learnt from all of them.
    last = sorted(closed, key=lambda round_: round_.changed_at)
    latest = {0 if share else round_.chain: round_.next_model_id for round_ in last}
    parts = []
    for model_id in sorted(set(filter(None, latest.values()))):
        correction = Learnt.from_bytes(models.load_model(store, model_id)).correction
        found = None if correction is None else correction.left_out
        if found is not None:
            parts.append((found.errors[found.inside], found.deviations[found.inside]))
    if not parts:
        return None
    return np.concatenate([errors for errors, _ in parts]), np.concatenate([sigma for _, sigma in parts])
