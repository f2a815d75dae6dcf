"""Evaluations: leased to one worker at a time, paid for once, shared by all campaigns.

A lease carries a token that only ever grows: whoever holds an old one cannot commit. The server's
clock decides when a lease ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from godelta.arrays import FloatArray
from godelta.errors import GodeltaError
from godelta.store import summaries
from godelta.store.database import Raw, Store, Superseded
from godelta.store.documents import (
    EvaluationDocument,
    EvaluationState,
    StructureDocument,
    evaluation_id,
)
from godelta.store.structures import get_structures, selected_ids

MAX_LOST = 3  # attempts in a row without a word, before a structure is no longer tried
LOG_CHARACTERS = 20_000
MAX_LEASE_S = 3600.0

_OVER: Raw = {"$lte": [{"$ifNull": ["$lease.until", None]}, "$$NOW"]}
# No lease is that long: the server's clock has been set back since.
_OF_ANOTHER_CLOCK: Raw = {"$gt": ["$lease.until", {"$add": ["$$NOW", round(MAX_LEASE_S * 1000)]}]}


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to compute an evaluation, and to commit as long as nobody got a later token."""

    structure_hash: str
    reference_hash: str
    token: int
    owner: str
    seconds: float
    until: datetime

    def query(self) -> Raw:
        """The filter that finds the evaluation while the claim holds."""
        return {
            "structure_hash": self.structure_hash,
            "reference_hash": self.reference_hash,
            "state": "pending",
            "token": self.token,
            "lease.token": self.token,
        }


@dataclass(frozen=True, slots=True)
class Stored:
    """The evaluation is done, well or badly; there is nothing to compute."""

    evaluation: EvaluationDocument

    @property
    def status(self) -> EvaluationState:
        """Either ok or failed."""
        return self.evaluation.state


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else computes it; nobody may before `until` (UTC)."""

    until: datetime
    owner: str


def claim(
    store: Store,
    structure_hash: str,
    reference_hash: str,
    owner: str,
    seconds: float,
    *,
    wanted: StructureDocument | None = None,
    max_lost: int = MAX_LOST,
) -> Claim | Stored | Busy:
    """Ask to compute an evaluation.

    Parameters
    ----------
    structure_hash, reference_hash
        What is to be computed.
    owner
        Who asks: host, process, job.
    seconds
        Length of the lease, an hour at most.
    wanted
        The structure as its campaign knows it. The evaluation notes who asked for it before anything
        else happens: only then the campaign's results (`best`, `query`, `counts`) have it.
    max_lost
        After so many attempts in a row whose lease ran out without a word, the evaluation becomes
        failed with the reason `lost`: it kills its workers.
    """
    where = {"structure_hash": structure_hash, "reference_hash": reference_hash}
    while True:
        known = store.evaluations.find_one(where) or _insert_pending(store, where, wanted)
        if wanted is not None:
            _note_request(store, known, wanted)
        if known["state"] != "pending":
            return Stored(EvaluationDocument.from_mongo(known))
        raw = store.evaluations.find_one_and_update(
            where | {"state": "pending", "$expr": {"$or": [_OVER, _OF_ANOTHER_CLOCK]}},
            _lease(owner, seconds, max_lost),
            return_document=ReturnDocument.AFTER,
        )
        if raw is not None and raw["state"] == "pending":
            lease = raw["lease"]
            return Claim(structure_hash, reference_hash, lease["token"], owner, seconds, lease["until"])
        raw = store.evaluations.find_one(where)
        if raw is not None and raw["lease"] is not None:
            return Busy(raw["lease"]["until"], raw["lease"]["owner"])
        # Committed or released between the two reads: look again.


def get_evaluation(store: Store, structure_hash: str, reference_hash: str) -> EvaluationDocument:
    """The evaluation of a structure, whatever its state.

    Raises
    ------
    GodeltaError
        Where nobody has asked for it yet.
    """
    raw = store.evaluations.find_one({"structure_hash": structure_hash, "reference_hash": reference_hash})
    if raw is None:
        raise GodeltaError(
            "the structure has no evaluation at this reference level",
            where=structure_hash,
            mend="`godelta query` lists those that there are",
        )
    return EvaluationDocument.from_mongo(raw)


def commit_ok(
    store: Store, claim: Claim, energy: float, forces: FloatArray, cost: Mapping[str, float] | None = None
) -> None:
    """Store energy (eV) and forces (n, 3) (eV/Å).

    Raises
    ------
    Superseded
        Where the claim no longer holds. Repeating a commit that went through is no error.
    ValueError
        Where a number is not finite, or forces are not (n, 3).
    """
    array = np.asarray(forces, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
        raise ValueError(f"forces have the shape {array.shape}, not (n, 3)")
    if not (np.isfinite(energy) and np.isfinite(array).all()):
        raise ValueError("energy and forces have to be finite")
    result = {
        "energy": float(energy),
        "energy_per_atom": float(energy) / len(array),
        "forces": array.tolist(),
    }
    _commit(store, claim, "ok", result, {}, cost)


def commit_failed(
    store: Store,
    claim: Claim,
    reason: str,
    message: str,
    log_tail: str = "",
    cost: Mapping[str, float] | None = None,
) -> None:
    """Store a failure: the kind, a sentence, and the end of the engine's log.

    Raises
    ------
    Superseded
        Where the claim no longer holds.
    """
    details = {"reason": reason, "message": message}
    _commit(store, claim, "failed", details, details | {"log_tail": log_tail[-LOG_CHARACTERS:]}, cost)


def commit_lost(
    store: Store, claim: Claim, message: str, log_tail: str = "", cost: Mapping[str, float] | None = None
) -> None:
    """Record an attempt that was killed and says nothing about the structure; another one may follow.

    Raises
    ------
    Superseded
        Where the claim no longer holds.
    """
    details = {"reason": "killed", "message": message, "log_tail": log_tail[-LOG_CHARACTERS:]}
    attempt = _attempt(claim, "lost", details, cost)
    update: Raw = {
        "attempts": {"$concatArrays": ["$attempts", [attempt]]},
        "lease": None,
        "lost": {"$add": ["$lost", 1]},
    }
    if not store.evaluations.update_one(claim.query(), [{"$set": update}]).matched_count:
        raise _lost_claim(claim)


def prolong(store: Store, claim: Claim) -> Claim:
    """Renew the lease for its length from now.

    Raises
    ------
    Superseded
        Where the claim no longer holds: stop computing.
    """
    raw = store.evaluations.find_one_and_update(
        claim.query(),
        [{"$set": {"lease.until": _from_now(claim.seconds)}}],
        return_document=ReturnDocument.AFTER,
    )
    if raw is None:
        raise _lost_claim(claim)
    return replace(claim, until=raw["lease"]["until"])


def expire(store: Store, structure_hash: str, reference_hash: str, busy: Busy) -> None:
    """End the lease of a worker that is known to be gone; its attempt counts as lost."""
    store.evaluations.update_one(
        {
            "structure_hash": structure_hash,
            "reference_hash": reference_hash,
            "state": "pending",
            "lease.owner": busy.owner,
            "lease.until": busy.until,
        },
        [{"$set": {"lease.until": "$$NOW"}}],
    )


def release(store: Store, claim: Claim) -> None:
    """Give the claim back without a result; the next one may start at once."""
    store.evaluations.update_one(claim.query(), {"$set": {"lease": None}})


def reopen_failed(store: Store, structure_hashes: Iterable[str], reference_hash: str) -> int:
    """Allow failed evaluations to be tried again (an explicit restart); the number of them."""
    result = store.evaluations.update_many(
        {
            "structure_hash": {"$in": list(structure_hashes)},
            "reference_hash": reference_hash,
            "state": "failed",
        },
        {"$set": {"state": "pending", "lost": 0, "reason": None, "message": None, "evaluated_at": None}},
    )
    summaries.forget(store)
    return result.modified_count


def training_set(
    store: Store, campaign_id: str, reference_hash: str, chain: int | None = None
) -> list[tuple[StructureDocument, EvaluationDocument]]:
    """Good evaluations among the campaign's (or one chain's) selections, sorted by structure id."""
    documents = get_structures(store, selected_ids(store, campaign_id, chain))
    found = _evaluations(store, documents, reference_hash)
    return [
        (document, found[document.structure_hash])
        for document in documents
        if document.structure_hash in found and found[document.structure_hash].state == "ok"
    ]


def failed_hashes(store: Store, campaign_id: str, reference_hash: str) -> dict[str, str]:
    """Structure hashes among the campaign's selections whose evaluation failed, with the reason."""
    documents = get_structures(store, selected_ids(store, campaign_id))
    return {
        digest: evaluation.reason or ""
        for digest, evaluation in _evaluations(store, documents, reference_hash).items()
        if evaluation.state == "failed"
    }


def evaluated(store: Store, structure_hashes: Sequence[str], reference_hash: str) -> list[EvaluationDocument]:
    """The evaluations of these structures that have ended, well or badly."""
    query = {"structure_hash": {"$in": list(structure_hashes)}, "reference_hash": reference_hash}
    cursor = store.evaluations.find({**query, "state": {"$ne": "pending"}})
    return [EvaluationDocument.from_mongo(raw) for raw in cursor]


def energies(store: Store, structure_hashes: Sequence[str], reference_hash: str) -> dict[str, float]:
    """Energies in eV of those of these structures whose evaluation is good, by hash."""
    query = {"structure_hash": {"$in": list(structure_hashes)}, "reference_hash": reference_hash}
    cursor = store.evaluations.find({**query, "state": "ok"}, {"structure_hash": 1, "energy": 1})
    return {raw["structure_hash"]: raw["energy"] for raw in cursor}


def count_done(store: Store, structure_hashes: Sequence[str], reference_hash: str) -> int:
    """How many of these structures (each once) have been evaluated, well or badly."""
    query = {"structure_hash": {"$in": list(structure_hashes)}, "reference_hash": reference_hash}
    return store.evaluations.count_documents({**query, "state": {"$ne": "pending"}})


def counts(store: Store, campaign_id: str, reference_hash: str) -> dict[EvaluationState, int]:
    """How many of the campaign's selected structures are ok, failed, and still pending."""
    asked = {"requests.campaign_id": campaign_id, "reference_hash": reference_hash}
    ok, failed = (store.evaluations.count_documents({**asked, "state": state}) for state in ("ok", "failed"))
    # Of those that are selected and not yet asked for there is no evaluation.
    pending = max(0, len(selected_ids(store, campaign_id)) - ok - failed)
    return {"ok": ok, "failed": failed, "pending": pending}


def history(store: Store, campaign_id: str, reference_hash: str) -> list[Raw]:
    """The campaign's evaluations in the order in which they ended.

    Returns
    -------
    list of dict
        structure_id, chain, round, status (ok or failed), reason, energy (eV, None where failed),
        foundation_energy, model_energy and uncertainty (eV, before the evaluation; the uncertainty is
        None where there was no Δ), evaluated_at.
    """
    pipeline: list[Raw] = [
        {
            "$match": {
                "requests.campaign_id": campaign_id,
                "reference_hash": reference_hash,
                "state": {"$in": ["ok", "failed"]},
            }
        },
        {"$project": {"_id": 0, "state": 1, "reason": 1, "energy": 1, "evaluated_at": 1, "requests": 1}},
    ]
    rows: list[Raw] = []
    for raw in store.evaluations.aggregate(pipeline, batchSize=10_000):
        (request,) = (asked for asked in raw["requests"] if asked["campaign_id"] == campaign_id)
        rows.append(
            {
                "structure_id": request["structure_id"],
                "chain": request["chain"],
                "round": request["round"],
                "status": raw["state"],
                "reason": raw["reason"],
                "energy": raw["energy"],
                "foundation_energy": request["foundation_energy"],
                "model_energy": request["model_energy"],
                "uncertainty": request["uncertainty"],
                "evaluated_at": raw["evaluated_at"],
            }
        )
    return sorted(rows, key=lambda row: (row["evaluated_at"], row["structure_id"]))


def _evaluations(
    store: Store, documents: list[StructureDocument], reference_hash: str
) -> dict[str, EvaluationDocument]:
    hashes = [document.structure_hash for document in documents]
    cursor = store.evaluations.find({"structure_hash": {"$in": hashes}, "reference_hash": reference_hash})
    return {raw["structure_hash"]: EvaluationDocument.from_mongo(raw) for raw in cursor}


def _insert_pending(store: Store, where: Mapping[str, str], wanted: StructureDocument | None) -> Raw:
    known = {} if wanted is None else _known(wanted) | {"requests": (wanted.request(),)}
    document = EvaluationDocument(
        evaluation_id=evaluation_id(where["structure_hash"], where["reference_hash"]),
        created_at=store.now(),
        **where,
        **known,
    ).to_mongo()
    try:
        store.evaluations.insert_one(document)
    except DuplicateKeyError:
        # Another worker was first; both go on to ask for the lease.
        found = store.evaluations.find_one(where)
        assert found is not None
        return found
    return document


def _note_request(store: Store, raw: Raw, wanted: StructureDocument) -> None:
    """Add a campaign to those that asked for an evaluation; once is enough."""
    if any(request["structure_id"] == wanted.structure_id for request in raw.get("requests", ())):
        return
    store.evaluations.update_one(
        {"_id": raw["_id"], "requests.structure_id": {"$ne": wanted.structure_id}},
        {"$push": {"requests": wanted.request().model_dump(mode="python")}, "$set": _known(wanted)},
    )


def _known(structure: StructureDocument) -> Raw:
    return {"formula": structure.formula, "elements": structure.elements}


def _from_now(seconds: float) -> Raw:
    return {"$add": ["$$NOW", round(seconds * 1000)]}


def _lease(owner: str, seconds: float, max_lost: int) -> list[Raw]:
    """The update that gives a lease; a lease that ran out becomes an attempt that was lost."""
    lapsed = {"$ne": [{"$ifNull": ["$lease", None]}, None]}
    attempt: Raw = {
        "token": "$lease.token",
        "owner": "$lease.owner",
        "outcome": "lost",
        "started_at": "$lease.started_at",
        "ended_at": "$$NOW",
        "reason": "lost",
        "message": "the lease ran out without a word from the worker",
        "log_tail": None,
        "cost": {},
    }
    count_lost: Raw = {
        "attempts": {"$cond": [lapsed, {"$concatArrays": ["$attempts", [attempt]]}, "$attempts"]},
        "lost": {"$cond": [lapsed, {"$add": ["$lost", 1]}, "$lost"]},
    }
    hopeless = {"$gte": ["$lost", max_lost]}
    lease = {
        "token": {"$add": ["$token", 1]},
        "owner": {"$literal": owner},
        "started_at": "$$NOW",
        "until": _from_now(seconds),
    }
    decide: Raw = {
        "state": {"$cond": [hopeless, "failed", "pending"]},
        "reason": {"$cond": [hopeless, "lost", None]},
        "message": {"$cond": [hopeless, "every attempt ended without a word: it kills its workers", None]},
        "evaluated_at": {"$cond": [hopeless, "$$NOW", None]},
        "lease": {"$cond": [hopeless, None, lease]},
        "token": {"$cond": [hopeless, "$token", {"$add": ["$token", 1]}]},
    }
    return [{"$set": count_lost}, {"$set": decide}]


def _commit(
    store: Store,
    claim: Claim,
    state: EvaluationState,
    result: Mapping[str, Any],
    details: Mapping[str, Any],
    cost: Mapping[str, float] | None,
) -> None:
    attempt = _attempt(claim, state, details, cost)
    update: Raw = {
        "state": state,
        "attempts": {"$concatArrays": ["$attempts", [attempt]]},
        "lease": None,
        "lost": 0,
        "cost": attempt["cost"],
        "evaluated_at": "$$NOW",
        **{name: {"$literal": value} for name, value in result.items()},
    }
    if store.evaluations.update_one(claim.query(), [{"$set": update}]).matched_count:
        return
    done = store.evaluations.find_one(
        {
            "structure_hash": claim.structure_hash,
            "reference_hash": claim.reference_hash,
            "attempts": {"$elemMatch": {"token": claim.token, "outcome": state}},
        }
    )
    if done is None:
        raise _lost_claim(claim)


def _attempt(claim: Claim, outcome: str, details: Mapping[str, Any], cost: Mapping[str, float] | None) -> Raw:
    return {
        "token": claim.token,
        "owner": {"$literal": claim.owner},
        "outcome": outcome,
        "started_at": "$lease.started_at",
        "ended_at": "$$NOW",
        "cost": {"$literal": {name: float(value) for name, value in (cost or {}).items()}},
        # Text from outside may begin with a dollar sign.
        **{name: {"$literal": details.get(name)} for name in ("reason", "message", "log_tail")},
    }


def _lost_claim(claim: Claim) -> Superseded:
    return Superseded(f"the lease {claim.token} no longer holds", where=claim.structure_hash)
