"""Structures whose evaluation failed: what the search keeps away from."""

from godelta.store.database import Store
from godelta.store.documents import StructureDocument
from godelta.store.structures import get_structures, selected_ids


def failed_structures(
    store: Store, campaign_id: str, reference_hash: str, chain: int | None = None
) -> list[StructureDocument]:
    """Those among the campaign's (or one chain's) selections, sorted by structure id.

    One that was opened to be tried again is not among them.
    """
    selected = {"structure_id": {"$in": selected_ids(store, campaign_id, chain)}}
    hashes = {
        raw["structure_hash"]: raw["structure_id"]
        for raw in store.structures.find(selected, {"structure_hash": 1, "structure_id": 1})
    }
    failed = store.evaluations.find(
        {"structure_hash": {"$in": list(hashes)}, "reference_hash": reference_hash, "state": "failed"},
        {"structure_hash": 1},
    )
    return get_structures(store, [hashes[raw["structure_hash"]] for raw in failed])
