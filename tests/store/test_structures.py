"""Candidates: idempotent storing, sightings, and the queries of the command line."""

import threading

import numpy as np
import pytest

from godelta.errors import GodeltaError
from godelta.store import rounds, structures
from godelta.store.database import Store
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.evaluations import Claim, claim, commit_ok

R = "ab" * 32
KEY = RoundKey("c", 0, 0)


def evaluate(store: Store, document: StructureDocument, energy: float, reference: str = R) -> None:
    answer = claim(store, document.structure_hash, reference, "w", 60, wanted=document)
    assert isinstance(answer, Claim)
    commit_ok(store, answer, energy, np.zeros((len(document.numbers), 3)))


def test_storing_again_changes_nothing(store: Store, make_structure) -> None:
    documents = [make_structure(KEY, number) for number in range(5)]
    structures.add_candidates(store, documents)
    before = list(store.structures.find())
    structures.add_candidates(store, [make_structure(KEY, n, model_energy=7.0) for n in range(5)])
    structures.add_candidates(store, [])
    assert list(store.structures.find()) == before
    assert {item.id for item in structures.round_candidates(store, KEY)} == {item.id for item in documents}


def test_a_round_sees_what_it_proposed_again_with_its_own_energies(store: Store, make_structure) -> None:
    later = RoundKey("c", 1, 3)
    first = make_structure(KEY, 1, model_energy=-1.0, move="rattle")
    again = make_structure(later, 1, model_energy=-2.0, uncertainty=0.3, model_id="m", move="swap", walker=4)
    structures.add_candidates(store, [first])
    for _ in range(2):
        structures.add_candidates(store, [again, make_structure(later, 2)])
    assert structures.round_candidates(store, KEY)[0].model_energy == -1.0
    seen = {item.id: item for item in structures.round_candidates(store, later)}
    assert len(seen) == 2
    found = seen[first.id]
    assert (found.model_energy, found.uncertainty, found.model_id, found.key) == (-2.0, 0.3, "m", later)
    assert (found.move, found.walker) == ("swap", 4)
    assert len(structures.get_structure(store, first.id).sightings) == 1
    assert structures.get_structure(store, first.id).model_energy == -1.0
    assert structures.round_candidates(store, RoundKey("c", 0, 3)) == []
    assert structures.round_candidates(store, RoundKey("other", 1, 3)) == []


def test_many_writers_of_the_same_candidates_agree(store: Store, make_structure) -> None:
    documents = [make_structure(RoundKey("c", 0, k), n) for k in (0, 1) for n in range(20)]
    failures: list[Exception] = []

    def write() -> None:
        try:
            structures.add_candidates(store, documents)
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.structures.count_documents({}) == 20
    assert len(structures.round_candidates(store, RoundKey("c", 0, 1))) == 20
    assert all(len(raw["sightings"]) == 1 for raw in store.structures.find())


def test_unknown_structures(store: Store, make_structure) -> None:
    with pytest.raises(GodeltaError, match="no such structure"):
        structures.get_structure(store, "x")
    assert structures.get_structures(store, ["x"]) == []


def test_best_is_what_brute_force_finds(store: Store, make_campaign, make_structure) -> None:
    campaign = make_campaign("first", reference_hash=R)
    rng = np.random.default_rng(5)
    energies: dict[str, float] = {}
    for k in range(3):
        key = RoundKey(campaign.id, 0, k)
        rounds.plan_round(store, key, None)
        documents = [make_structure(key, 100 * k + n, uncertainty=0.2) for n in range(6)]
        structures.add_candidates(store, documents)
        rounds.change_state(
            store, key, 0, "planned", "selected", selection=[item.id for item in documents[:4]]
        )
        for document in documents[:3]:
            energies[document.id] = float(rng.normal())
            evaluate(store, document, energies[document.id])
        unasked = claim(store, documents[4].structure_hash, R, "w", 60)
        assert isinstance(unasked, Claim)
        commit_ok(store, unasked, -1000.0, np.zeros((3, 3)))
        evaluate(store, documents[3], -1000.0, reference="q" * 64)
    rows = structures.best(store, campaign.id, R, 5)
    wanted = sorted(energies, key=energies.__getitem__)[:5]
    assert [row["structure_id"] for row in rows] == wanted
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    top = rows[0]
    document = structures.get_structure(store, wanted[0])
    assert top == {
        "rank": 1,
        "structure_id": wanted[0],
        "campaign_id": campaign.id,
        "formula": "Ag2S",
        "energy": energies[wanted[0]],
        "energy_per_atom": energies[wanted[0]] / 3,
        "foundation_energy": document.foundation_energy,
        "model_energy": document.model_energy,
        "uncertainty": 0.2,
        "chain": 0,
        "round": document.round,
        "evaluated_at": top["evaluated_at"],
        "reference_hash": R,
    }
    assert structures.best(store, "nobody", R) == []
    assert len(structures.selected_structures(store, campaign.id)) == 12
