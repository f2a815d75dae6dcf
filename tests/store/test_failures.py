"""Which structures count as failed."""

import numpy as np
import pytest
from ase import Atoms

from godelta.store import evaluations, rounds, structures
from godelta.store.database import Store
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.failures import failed_structures


@pytest.fixture
def selected(store: Store) -> list[StructureDocument]:
    """Two chains; chain 0 selected structures 0 to 2, chain 1 structure 3, nobody structure 4."""
    keys = [RoundKey("c", 0, 0), RoundKey("c", 1, 0)]
    documents = [
        StructureDocument.from_atoms(
            Atoms("Ag2", [[0, 0, 0], [0, 0, 2.5 + 0.1 * n]]),
            campaign_id="c",
            chain=n // 3 if n < 4 else 0,
            round=0,
            foundation_energy=0.0,
            model_energy=0.0,
        )
        for n in range(5)
    ]
    structures.add_candidates(store, documents)
    ids = [document.structure_id for document in documents]
    for key, selection in zip(keys, (ids[:3], ids[3:4]), strict=True):
        rounds.plan_round(store, key, None)
        rounds.change_state(store, key, 0, "planned", "searching")
        rounds.change_state(store, key, 0, "searching", "selected", selection=selection)
    return documents


def finish(store: Store, document: StructureDocument, *, failed: bool, level: str = "r") -> None:
    claim = evaluations.claim(store, document.structure_hash, level, "test", 60.0)
    assert isinstance(claim, evaluations.Claim)
    if failed:
        evaluations.commit_failed(store, claim, "crashed", "signal 11")
    else:
        evaluations.commit_ok(store, claim, 1.0, np.zeros((2, 3)))


def test_failed_selections_of_a_campaign_or_a_chain(store: Store, selected: list[StructureDocument]) -> None:
    for document, failed in zip(selected, (True, False, True, True, True), strict=True):
        finish(store, document, failed=failed)
    ids = [document.structure_id for document in selected]

    def found(chain: int | None = None) -> list[str]:
        return [document.structure_id for document in failed_structures(store, "c", "r", chain)]

    assert found() == sorted([ids[0], ids[2], ids[3]])
    assert found(0) == sorted([ids[0], ids[2]])
    assert found(1) == [ids[3]]
    assert failed_structures(store, "c", "another level") == []
    assert failed_structures(store, "another campaign", "r") == []


def test_one_that_was_opened_again_is_not_failed(store: Store, selected: list[StructureDocument]) -> None:
    finish(store, selected[0], failed=True)
    assert len(failed_structures(store, "c", "r")) == 1
    evaluations.reopen_failed(store, [selected[0].structure_hash], "r")
    assert failed_structures(store, "c", "r") == []
