"""Questions over all campaigns, against what brute force finds."""

import math
from datetime import datetime

import numpy as np
import pytest

from godelta.errors import GodeltaError, InputError
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.database import Store
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.query import COLUMNS, Query, find, images, rows

R, Q = "ab" * 32, "cd" * 32


def campaign(store: Store, name: str, level: str, tags: list[str], foundation: dict, reference: dict) -> str:
    config = {"tags": tags, "foundation": foundation, "reference": reference}
    return campaigns.create_campaign(
        store, name=name, config=config, identity={}, identity_hash=name, reference_hash=level,
        problem=b"", versions={},
    ).campaign_id  # fmt: skip


def evaluate(store: Store, document: StructureDocument, level: str, energy: float | None) -> None:
    answer = evaluations.claim(store, document.structure_hash, level, "w", 60, wanted=document)
    if isinstance(answer, evaluations.Claim) and energy is None:
        evaluations.commit_failed(store, answer, "crashed", "signal 11")
    elif isinstance(answer, evaluations.Claim):
        evaluations.commit_ok(store, answer, energy, np.full((len(document.numbers), 3), 0.25))


@pytest.fixture
def names(store: Store, make_structure) -> dict[str, str]:
    """Energies per atom: b1 -3 (AgS), a1 -2 (Ag2S), a2 -1 (Ag2S), a3 0.1 (Ag2S), b2 0.25 (AgCu, gpaw).

    af of the first campaign and bf of the second one failed, in this order; ap and bp are pending. b1 is
    of the third campaign, which has a1 as well, proposed in another round.
    """
    a = campaign(store, "first", R, ["gold", "night"], {"name": "chgnet"}, {"engine": "emt"})
    gpaw = {"engine": "gpaw", "settings": "pbe-light"}
    mine = {"name": "ase", "calculator": "my.Calculator"}
    b = campaign(store, "second", Q, ["gold"], mine, gpaw)
    c = campaign(store, "third", R, ["gold"], mine, {"engine": "emt"})
    at = [
        RoundKey(id_, chain, k)
        for id_, chain, k in [(a, 0, 0), (a, 0, 1), (b, 1, 0), (b, 1, 5), (c, 1, 0), (c, 1, 5)]
    ]
    made = {
        "a1": make_structure(at[0], 1), "a2": make_structure(at[1], 2), "a3": make_structure(at[1], 3),
        "b1": make_structure(at[4], 4, symbols="AgS"), "b2": make_structure(at[2], 5, symbols="CuAg"),
        "af": make_structure(at[0], 6), "bf": make_structure(at[2], 7), "ap": make_structure(at[1], 8),
        "bp": make_structure(at[3], 9, symbols="CuAg"), "ba1": make_structure(at[5], 1),
    }  # fmt: skip
    for key in at:
        rounds.plan_round(store, key, None)
        own = [d for d in made.values() if d.key == key]
        structures.add_candidates(store, own)
        rounds.change_state(store, key, 0, "planned", "selected", selection=[d.id for d in own])
    evaluate(store, made["a1"], R, -6.0)
    evaluate(store, made["a2"], R, -3.0)
    evaluate(store, made["a3"], R, 0.3)
    evaluate(store, made["b1"], R, -6.0)
    evaluate(store, made["b2"], Q, 0.5)
    evaluate(store, made["ba1"], R, None)  # is there already
    evaluate(store, made["af"], R, None)
    evaluate(store, made["bf"], Q, None)
    assert isinstance(
        evaluations.claim(store, made["ap"].structure_hash, R, "w", 60, wanted=made["ap"]), evaluations.Claim
    )
    return {document.id: name for name, document in made.items()}


def asked(store: Store, names: dict[str, str], **filters: object) -> list[str]:
    found = rows(store, Query(**filters))
    assert [row["rank"] for row in found] == list(range(1, len(found) + 1))
    assert all(tuple(row) == COLUMNS for row in found)
    return [names[row["structure_id"]] for row in found]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, "b1 a1 ba1 a2 a3 b2"),
        ({"limit": None}, "b1 a1 ba1 a2 a3 b2"),
        ({"limit": 2}, "b1 a1"),
        ({"formula": "SAg2"}, "a1 ba1 a2 a3"),
        ({"formula": "Ag2S", "limit": 1}, "a1"),
        ({"elements": ("Ag", " S")}, "b1 a1 ba1 a2 a3"),
        ({"elements": ("Cu",)}, "b2"),
        ({"campaigns": ("third",)}, "b1 ba1"),
        ({"campaigns": ("second", "first")}, "a1 a2 a3 b2"),
        ({"tags": ("gold",)}, "b1 a1 ba1 a2 a3 b2"),
        ({"tags": ("night", "gold")}, "a1 a2 a3"),
        ({"tags": ("silver",)}, ""),
        ({"foundation": "chgnet"}, "a1 a2 a3"),
        ({"foundation": "ase"}, "b1 ba1 b2"),
        ({"foundation": "my.Calculator", "tags": ("gold",)}, "b1 ba1 b2"),
        ({"foundation": "mace"}, ""),
        ({"reference": "abab"}, "b1 a1 ba1 a2 a3"),
        ({"reference": "gpaw"}, "b2"),
        ({"reference": "gpaw-pbe-light"}, "b2"),
        ({"reference": "gpaw-pbe"}, ""),
        ({"reference": "emt"}, "b1 a1 ba1 a2 a3"),
        ({"round": 0}, "b1 a1 b2"),
        ({"round": 1}, "a2 a3"),
        ({"round": 5}, "ba1"),
        ({"round": 0, "campaigns": ("second", "third")}, "b1 b2"),
        ({"round": 5, "campaigns": ("first",)}, ""),
        ({"round": 0, "limit": 1}, "b1"),
        ({"max_energy": -3.0}, "b1 a1 ba1 a2"),
        ({"max_energy": -3.1, "elements": ("Ag",)}, "b1 a1 ba1"),
        ({"above": 0.0}, "b1 a1 ba1 b2"),
        ({"above": 3.0}, "b1 a1 ba1 a2 b2"),
        ({"above": 2.9}, "b1 a1 ba1 b2"),
        ({"above_per_atom": 1.0, "formula": "Ag2S"}, "a1 ba1 a2"),
        ({"above_per_atom": 1.0, "above": 2.0}, "b1 a1 ba1 b2"),
        ({"above": 100.0, "campaigns": ("first",)}, "a1 a2 a3"),
        ({"above": 1.0, "formula": "Au"}, ""),
        ({"formula": "Au"}, ""),
        ({"status": "failed"}, "bf af"),
        ({"status": "failed", "reference": "emt"}, "af"),
        ({"status": "failed", "campaigns": ("second",), "round": 0}, "bf"),
        ({"status": "failed", "round": 3}, ""),
        ({"status": "pending"}, "bp ap"),
        ({"status": "pending", "formula": "CuAg"}, "bp"),
        ({"status": "pending", "elements": ("Ag", "S")}, "ap"),
        ({"status": "pending", "tags": ("night",)}, "ap"),
        ({"status": "pending", "reference": "gpaw"}, "bp"),
        ({"status": "pending", "round": 5}, "bp"),
        ({"status": "pending", "round": 0}, ""),
        ({"status": "pending", "limit": 1}, "bp"),
    ],
)  # fmt: skip
def test_filters(store: Store, names, filters: dict[str, object], wanted: str) -> None:
    assert asked(store, names, **filters) == wanted.split()


def test_what_a_row_says(store: Store, names) -> None:
    (row,) = rows(store, Query(formula="AgCu"))
    assert isinstance(row["evaluated_at"], datetime)
    assert row == row | {
        "campaign": "second", "tags": ["gold"], "formula": "AgCu", "status": "ok", "reason": None,
        "energy": 0.5, "energy_per_atom": 0.25, "above_best": 0.0, "foundation_energy": -5.0,
        "model_energy": -5.5, "uncertainty": None, "chain": 1, "round": 0, "foundation": "my.Calculator",
        "reference": "gpaw-pbe-light", "reference_hash": Q,
    }  # fmt: skip
    gaps = {names[row["structure_id"]]: row["above_best"] for row in rows(store, Query(formula="Ag2S"))}
    assert gaps == pytest.approx({"a1": 0.0, "ba1": 0.0, "a2": 3.0, "a3": 6.3})
    failed = rows(store, Query(status="failed"))[0]
    assert (failed["reason"], failed["energy"], failed["above_best"]) == ("crashed", None, None)
    pending = rows(store, Query(status="pending"))[0]
    assert (pending["status"], pending["energy"], pending["model_energy"]) == ("pending", None, -9.5)


def test_a_table_in_pandas(store: Store, names) -> None:
    frame = find(store, Query())
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["energy"]) == [row["energy"] for row in rows(store, Query())]
    assert frame.groupby("campaign")["energy"].min().to_dict() == {
        "first": -6.0,
        "second": 0.5,
        "third": -6.0,
    }
    empty = find(store, Query(formula="Au"))
    assert (len(empty), tuple(empty.columns)) == (0, COLUMNS)
    assert all(math.isnan(value) for value in find(store, Query(status="failed"))["energy"].astype(float))


def test_images_have_energies_and_forces(store: Store, names) -> None:
    found = rows(store, Query(limit=None))
    atoms = images(store, found)
    assert [image.get_potential_energy() for image in atoms] == [row["energy"] for row in found]
    assert all((image.get_forces() == 0.25).all() for image in atoms)
    assert [image.info["campaign"] for image in atoms] == [row["campaign"] for row in found]
    (pending,) = images(store, rows(store, Query(status="pending", limit=1)))
    assert pending.calc is None
    store.structures.delete_one({"structure_id": found[0]["structure_id"]})
    with pytest.raises(GodeltaError, match="no such structure"):
        images(store, found)


def test_a_campaign_that_is_not_there_yet_has_no_rows(store: Store, names) -> None:
    """As while it is being imported; the limit counts what is left."""
    store.campaigns.delete_many({"name": {"$ne": "first"}})
    assert asked(store, names, limit=2) == ["a1", "a2"]
    assert asked(store, names, status="failed") == ["af"]
    assert asked(store, names, status="pending") == ["ap"]


def test_a_round_that_is_closed_leaves_nothing_pending(store: Store, names) -> None:
    for raw in store.rounds.find():
        key = RoundKey(raw["campaign_id"], raw["chain"], raw["k"])
        rounds.change_state(store, key, 0, "selected", "closed")
    assert asked(store, names, status="pending") == ["ap"]  # somebody computes it


@pytest.mark.parametrize(
    "wrong",
    [
        {"formula": "Zz3"}, {"elements": ("ag",)}, {"elements": ("",)}, {"campaigns": ("nobody",)},
        {"status": "failed", "max_energy": 1.0}, {"status": "pending", "above": 1.0},
    ],
)  # fmt: skip
def test_questions_for_what_cannot_exist_are_the_users_error(store: Store, names, wrong) -> None:
    with pytest.raises(InputError):
        rows(store, Query(**wrong))


@pytest.mark.parametrize("seed", range(4))
def test_any_filters_find_what_brute_force_finds(store: Store, make_structure, seed: int) -> None:
    rng = np.random.default_rng(seed)
    every: list[dict] = []
    for number in range(4):
        level = (R, Q)[number % 2]
        name = f"c{number}"
        id_ = campaign(store, name, level, [f"t{number % 3}"], {"name": f"f{number // 2}"}, {})
        for n in range(30):
            key = RoundKey(id_, 0, int(rng.integers(4)))
            symbols = ("Ag2S", "CuAg", "Ag3")[rng.integers(3)]
            document = make_structure(key, 30 * number + n, symbols=symbols)
            structures.add_candidates(store, [document])
            energy = float(np.round(rng.normal(), 2))
            evaluate(store, document, level, energy)
            every.append(
                {"id": document.id, "formula": document.formula, "energy": energy, "level": level,
                 "name": name, "tag": f"t{number % 3}", "foundation": f"f{number // 2}", "round": key.k,
                 "size": len(document.numbers)}
            )  # fmt: skip
    for _ in range(25):
        on = rng.random(8) < 0.35
        level, name, gap = (R, Q)[rng.integers(2)], f"c{rng.integers(4)}", float(rng.random())
        tag, foundation, round_ = f"t{rng.integers(3)}", f"f{rng.integers(2)}", int(rng.integers(4))
        wanted = every
        filters: dict = {"limit": None}
        if on[0]:
            filters["formula"], wanted = "SAg2", [row for row in wanted if row["formula"] == "Ag2S"]
        if on[1]:
            filters["elements"], wanted = ("Ag", "Cu"), [row for row in wanted if "Cu" in row["formula"]]
        if on[2]:
            filters["reference"], wanted = level, [row for row in wanted if row["level"] == level]
        if on[3]:
            filters["campaigns"], wanted = (name,), [row for row in wanted if row["name"] == name]
        if on[4]:
            filters["tags"], wanted = (tag,), [row for row in wanted if row["tag"] == tag]
        if on[5]:
            filters["foundation"] = foundation
            wanted = [row for row in wanted if row["foundation"] == foundation]
        if on[6]:
            filters["round"], wanted = round_, [row for row in wanted if row["round"] == round_]
        if on[7]:
            filters["above_per_atom"] = gap
            wanted = [row for row in wanted if row["energy"] - lowest(every, row) <= gap * row["size"] + 1e-9]
        found = rows(store, Query(**filters))
        assert {row["structure_id"] for row in found} == {row["id"] for row in wanted}, filters
        energies = [row["energy_per_atom"] for row in found]
        assert energies == sorted(energies)


def lowest(every: list[dict], like: dict) -> float:
    same = ("formula", "level")
    return min(row["energy"] for row in every if all(row[key] == like[key] for key in same))
