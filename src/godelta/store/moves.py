"""What became of each kind of move and generator of a campaign, counted by the database."""

from collections import defaultdict
from dataclasses import dataclass

from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument

LOWER_BY = 1e-6  # eV; a lowest energy that is met again is no gain


@dataclass(frozen=True)
class MoveRecord:
    """Counts of one kind of move or generator, over all rounds of a campaign.

    Parameters
    ----------
    move
        Its name.
    proposed, relaxed, accepted
        Structures proposed, of which not dropped in the relaxation, of which taken up by the search.
    impossible
        Times that it could not be made, and another kind was.
    evaluated, failed
        Structures evaluated at the reference level, and of these failed.
    improved
        Evaluations lower than all before it, in the order of time; a campaign's first one is not one.
    """

    move: str
    proposed: int = 0
    relaxed: int = 0
    accepted: int = 0
    impossible: int = 0
    evaluated: int = 0
    failed: int = 0
    improved: int = 0

    @property
    def acceptance(self) -> float | None:
        """Share of the proposed that were accepted."""
        return self.accepted / self.proposed if self.proposed else None

    @property
    def success(self) -> float | None:
        """Share of the evaluated that lowered the lowest energy."""
        return self.improved / self.evaluated if self.evaluated else None


def move_records(store: Store, campaign: CampaignDocument) -> list[MoveRecord]:
    """Counts of every kind that was proposed or evaluated, the most proposed first.

    A structure counts for the move that proposed it first.
    """
    found: dict[str, Raw] = defaultdict(dict)
    for raw in store.rounds.aggregate(_searched(campaign.campaign_id)):
        found[raw["_id"]["move"]][raw["_id"]["count"]] = raw["n"]
    for raw in store.evaluations.aggregate(_evaluated(campaign.campaign_id, campaign.reference_hash)):
        found[raw.pop("_id") or "unknown"].update(raw)
    records = [MoveRecord(move, **counts) for move, counts in found.items()]
    return sorted(records, key=lambda record: (-record.proposed, -record.evaluated, record.move))


def _searched(campaign_id: str) -> list[Raw]:
    return [
        {"$match": {"campaign_id": campaign_id}},
        {"$project": {"move": {"$objectToArray": {"$ifNull": ["$statistics.moves", {}]}}}},
        {"$unwind": "$move"},
        {"$project": {"move": "$move.k", "count": {"$objectToArray": "$move.v"}}},
        {"$unwind": "$count"},
        {"$group": {"_id": {"move": "$move", "count": "$count.k"}, "n": {"$sum": "$count.v"}}},
    ]


def _evaluated(campaign_id: str, reference_hash: str) -> list[Raw]:
    before = {"$min": "$energy", "window": {"documents": ["unbounded", -1]}}
    lower = {"$lt": ["$energy", {"$subtract": ["$before", LOWER_BY]}]}
    gain = {"$and": [{"$eq": ["$state", "ok"]}, {"$ne": ["$before", None]}, lower]}
    asked = {
        "requests.campaign_id": campaign_id,
        "reference_hash": reference_hash,
        "state": {"$in": ["ok", "failed"]},
    }
    return [
        {"$match": asked},
        {"$project": {"state": 1, "energy": 1, "evaluated_at": 1, "requests": 1}},
        {"$setWindowFields": {"sortBy": {"evaluated_at": 1, "_id": 1}, "output": {"before": before}}},
        {"$unwind": "$requests"},
        {"$match": {"requests.campaign_id": campaign_id}},
        {
            "$lookup": {
                "from": "structures",
                "localField": "requests.structure_id",
                "foreignField": "structure_id",
                "pipeline": [{"$project": {"move": 1}}],
                "as": "proposal",
            }
        },
        {
            "$group": {
                "_id": {"$first": "$proposal.move"},
                "evaluated": {"$sum": 1},
                "failed": {"$sum": {"$cond": [{"$eq": ["$state", "failed"]}, 1, 0]}},
                "improved": {"$sum": {"$cond": [gain, 1, 0]}},
            }
        },
    ]
