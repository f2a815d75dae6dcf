"""Candidates: idempotent storing, sightings, and the queries of the command line."""

import threading

import numpy as np
import pytest

from godelta.errors import GodeltaError, InputError
from godelta.store import rounds, structures
from godelta.store.database import Store
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.evaluations import Claim, claim, commit_ok

R = "ab" * 32
KEY = RoundKey("c", 0, 0)


def evaluate(store: Store, document: StructureDocument, energy: float, reference: str = R) -> None:
    answer = claim(store, document.structure_hash, reference, "w", 60)
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
        evaluate(store, documents[4], -1000.0)
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


@pytest.fixture
def two_campaigns(store: Store, make_campaign, make_structure):
    """Energies per atom, ascending: b1 -3 (AgS), a1 -2 (Ag2S), a2 -1 (Ag2S); b2 (AgCu) at gpaw."""
    first = make_campaign("first", reference_hash=R)
    gpaw = {"engine": "gpaw", "settings": "pbe-light"}
    second = make_campaign("second", reference_hash="cd" * 32, reference=gpaw)
    a1, a2 = (make_structure(RoundKey(first.id, 0, 0), n) for n in (1, 2))
    b1 = make_structure(RoundKey(second.id, 0, 0), 3, symbols="AgS")
    b2 = make_structure(RoundKey(second.id, 0, 0), 4, symbols="CuAg")
    structures.add_candidates(store, [a1, a2, b1, b2])
    for document, energy, reference in [(a1, -6.0, R), (a2, -3.0, R), (b1, -6.0, R), (b2, 0.5, "cd" * 32)]:
        evaluate(store, document, energy, reference)
    return {a1.id: "a1", a2.id: "a2", b1.id: "b1", b2.id: "b2"}


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, ["b1", "a1", "a2", "b2"]),
        ({"limit": 2}, ["b1", "a1"]),
        ({"formula": "SAg2"}, ["a1", "a2"]),
        ({"formula": "Ag2S", "limit": 1}, ["a1"]),
        ({"elements": ["Ag", " S"]}, ["b1", "a1", "a2"]),
        ({"elements": ["Cu"]}, ["b2"]),
        ({"campaign": "second"}, ["b1", "b2"]),
        ({"campaign": "nobody"}, []),
        ({"reference": "abab"}, ["b1", "a1", "a2"]),
        ({"reference": "gpaw"}, ["b2"]),
        ({"reference": "gpaw-pbe-light"}, ["b2"]),
        ({"reference": "gpaw-pbe"}, []),
        ({"reference": "emt"}, ["b1", "a1", "a2"]),
        ({"max_energy": -3.0}, ["b1", "a1", "a2"]),
        ({"max_energy": -3.1, "elements": ["Ag"]}, ["b1", "a1"]),
        ({"formula": "Au"}, []),
    ],
)
def test_queries(store: Store, two_campaigns, filters: dict[str, object], wanted: list[str]) -> None:
    rows = structures.query(store, **filters)
    assert [two_campaigns[row["structure_id"]] for row in rows] == wanted
    assert [row["rank"] for row in rows] == list(range(1, len(wanted) + 1))


def test_rows_of_a_query_name_campaign_and_level(store: Store, two_campaigns) -> None:
    row = structures.query(store, formula="AgCu")[0]
    assert (row["campaign"], row["reference_hash"], row["energy_per_atom"]) == ("second", "cd" * 32, 0.25)


@pytest.mark.parametrize("wrong", [{"formula": "Zz3"}, {"elements": ["ag"]}, {"elements": [""]}])
def test_queries_for_what_cannot_exist_are_the_users_error(store: Store, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        structures.query(store, **wrong)
