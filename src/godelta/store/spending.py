"""What a campaign's evaluations gave, and what had been spent by each of them."""

from bisect import bisect_right
from dataclasses import dataclass

from godelta.store import rounds
from godelta.store.database import Raw, Store
from godelta.store.documents import RoundDocument

# The stages of a round: MongoDB's times end at the millisecond, and several stages may share one.
_SEARCHED, _EVALUATED, _TRAINED = range(3)
_COSTS = ("attempts", "wall_s", "cpu_s")


@dataclass(frozen=True)
class Spending:
    """Evaluations in the order in which the campaign had them, cached ones included.

    Parameters
    ----------
    energies
        Of each, eV; None of a failed one.
    structure_ids
        Of each, the id of its structure.
    cpu_s
        Processor time in s of the whole campaign (searches, trainings, evaluations) by the end of each.
    total_cpu_s
        The same by now.
    """

    energies: tuple[float | None, ...]
    structure_ids: tuple[str, ...]
    cpu_s: tuple[float, ...]
    total_cpu_s: float


def spending(store: Store, campaign_id: str, reference_hash: str) -> Spending:
    """What a campaign has had for its processor time.

    An evaluation that another campaign had made before counts like one of its own, with its cost, from the
    time that it was selected. The search of a round counts from the round's selection, its training from the
    round's end. Of rounds that recorded no processor time, the wall time of their work counts.
    """
    every = rounds.rounds_of(store, campaign_id)
    # The first round that selected a structure; a walker may have stood on it for rounds before.
    selecting: dict[str, RoundDocument] = {}
    for round_ in sorted(every, key=lambda round_: (round_.k, round_.chain), reverse=True):
        selecting.update(dict.fromkeys(round_.selection, round_))
    found = []
    for raw in store.evaluations.find(
        {
            "requests.campaign_id": campaign_id,
            "reference_hash": reference_hash,
            "state": {"$in": ["ok", "failed"]},
        },
        {"energy": 1, "evaluated_at": 1, "requests": 1, "cost": 1},
    ):
        (request,) = (asked for asked in raw["requests"] if asked["campaign_id"] == campaign_id)
        by = selecting.get(request["structure_id"])
        since = by.selected_at if by is not None else None
        at = raw["evaluated_at"] if since is None else max(since, raw["evaluated_at"])
        when = (at, by.k if by is not None else request["round"], _EVALUATED)
        found.append((when, raw["evaluated_at"], request["structure_id"], raw))
    found.sort(key=lambda row: row[:3])
    searched = [
        ((round_.selected_at, round_.k, _SEARCHED), _searching(round_))
        for round_ in every
        if round_.selected_at is not None
    ]
    trained = [
        ((round_.changed_at, round_.k, _TRAINED), _training(round_))
        for round_ in every
        if round_.state == "closed"
    ]
    work = sorted(searched + trained)
    times, sums = [when for when, _ in work], [0.0]
    for _, seconds in work:
        sums.append(sums[-1] + seconds)
    evaluating, cpu_s = 0.0, []
    for when, _, _, raw in found:
        evaluating += (raw.get("cost") or {}).get("cpu_s", 0.0)
        cpu_s.append(sums[bisect_right(times, when)] + evaluating)
    return Spending(
        energies=tuple(raw["energy"] for *_, raw in found),
        structure_ids=tuple(structure_id for _, _, structure_id, _ in found),
        cpu_s=tuple(cpu_s),
        total_cpu_s=evaluating + sum(_searching(round_) + _training(round_) for round_ in every),
    )


@dataclass(frozen=True)
class EvaluationCost:
    """What all attempts at a campaign's evaluations took, seconds, whoever paid for them."""

    attempts: int
    wall_s: float
    cpu_s: float


def evaluation_cost(store: Store, campaign_id: str, reference_hash: str) -> EvaluationCost:
    """What a campaign's evaluations took, attempts that failed included."""
    asked = {"requests.campaign_id": campaign_id, "reference_hash": reference_hash}
    sums = {name: {"$sum": f"$attempts.cost.{name}"} for name in ("wall_s", "cpu_s")}
    pipeline: list[Raw] = [
        {"$match": asked},
        {"$project": {"attempts.cost": 1}},
        {"$unwind": "$attempts"},
        {"$group": {"_id": None, "attempts": {"$sum": 1}, **sums}},
    ]
    raw = next(iter(store.evaluations.aggregate(pipeline)), None)
    return (
        EvaluationCost(0, 0.0, 0.0) if raw is None else EvaluationCost(**{name: raw[name] for name in _COSTS})
    )


def _searching(round_: RoundDocument) -> float:
    spent = round_.timings
    return spent.get("search_cpu_s", spent.get("loading_s", 0.0) + spent.get("search_s", 0.0))


def _training(round_: RoundDocument) -> float:
    return round_.timings.get("training_cpu_s", round_.timings.get("training_s", 0.0))
