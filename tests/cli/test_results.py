"""best, query: tables, JSON, exports."""

import csv
import io
from datetime import datetime

import numpy as np
import pytest
from ase.io import read

from godelta.store.query import COLUMNS

FIELDS = [
    "rank", "structure_id", "formula", "energy", "energy_per_atom", "foundation_energy", "uncertainty",
    "round", "evaluated_at", "found", "refined", "fmax",
]  # fmt: skip


@pytest.fixture
def ask(finished, workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


def test_best_json(ask):
    answer = ask("best", "done", "--format", "json")
    assert answer.code == 0
    rows = answer.json()
    assert len(rows) >= 2
    assert [list(row) for row in rows] == [FIELDS] * len(rows)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    energies = [row["energy"] for row in rows]
    assert energies == sorted(energies)
    assert rows[0]["energy_per_atom"] == pytest.approx(energies[0] / 4)
    assert datetime.fromisoformat(rows[0]["evaluated_at"]).tzinfo is not None
    assert ask("best", "done", "-n", "1", "--format", "json").json() == rows[:1]


def test_best_table(ask):
    rows = ask("best", "done", "--format", "json").json()
    answer = ask("best", "done")
    for row in rows:
        assert row["structure_id"][:8] in answer.out
        assert f"{row['energy']:.4f}" in answer.out


def test_best_lists_each_structure_once_unless_all_are_asked_for(ask):
    rows = ask("best", "done", "-n", "100", "--format", "json").json()
    every = ask("best", "done", "-n", "100", "--all", "--format", "json").json()
    assert sum(row["found"] for row in rows) == len(every)
    assert {row["found"] for row in every} == {None}
    assert {row["structure_id"] for row in rows} <= {row["structure_id"] for row in every}
    assert "--all" in ask("best", "done").out
    assert "--all" not in ask("best", "done", "--all").out


def test_exports_and_read_back(ask, tmp_path):
    for suffix in ("extxyz", "traj", "json", "xyz"):
        path = tmp_path / f"best.{suffix}"
        rows = ask("best", "done", "--format", "json", "--export", path).json()
        check_images(read(path, ":"), rows)
    path = tmp_path / "best.cif"
    assert ask("best", "done", "--export", path).code == 0
    assert len(read(path)) == 4


def check_images(images, rows):
    assert [image.get_potential_energy() for image in images] == pytest.approx(
        [row["energy"] for row in rows], abs=1e-6
    )
    from ase.calculators.emt import EMT

    for image in images:
        assert image.get_chemical_formula("hill") == "AgCu3"
        again = image.copy()
        again.calc = EMT()
        assert np.abs(again.get_forces() - image.get_forces()).max() < 1e-4


def test_exports_that_cannot_be(ask, tmp_path):
    for name, mend in (("best.nosuch", ".extxyz"), ("missing/best.extxyz", ""), ("best", ".extxyz")):
        answer = ask("best", "done", "--export", tmp_path / name)
        assert answer.code == 2
        assert str(tmp_path / name) in answer.err
        assert mend in answer.err


def test_query(ask):
    best = ask("best", "done", "--all", "--format", "json").json()
    rows = ask("query", "--format", "json").json()
    assert {row["structure_id"] for row in rows} == {row["structure_id"] for row in best}
    assert all(row["campaign"] == "done" for row in rows)
    assert list(rows[0]) == list(COLUMNS)
    assert set(FIELDS) - {"found", "refined", "fmax"} < set(COLUMNS)
    limit = best[1]["energy"]
    count = sum(row["energy"] <= limit for row in best)
    for arguments, expected in (
        (("--formula", "Cu3Ag"), len(best)),
        (("--formula", "AgCu3"), len(best)),
        (("--formula", "Cu4"), 0),
        (("--elements", "Ag,Cu"), len(best)),
        (("--elements", "Ag, S"), 0),
        (("--campaign", "done"), len(best)),
        (("--reference", "emt"), len(best)),
        (("--reference", rows[0]["reference_hash"][:8]), len(best)),
        (("--reference", "gpaw"), 0),
        (("--max-energy", limit + 1e-9), count),
        (("--limit", 1), 1),
        (("--foundation", "ase"), len(best)),
        (("--foundation", "chgnet"), 0),
        (("--tag", "none"), 0),
        (("--round", 0), sum(row["round"] == 0 for row in best)),
        (("--round", 9), 0),
        (("--above", 0), 1),
        (("--above-per-atom", 1000), len(best)),
        (("--status", "failed"), 0),
        (("--status", "pending"), 0),
        (("--campaign", "done", "--campaign", "done"), len(best)),
    ):
        assert len(ask("query", *arguments, "--format", "json").json()) == expected, arguments
    unknown = ask("query", "--campaign", "other")
    assert unknown.code == 2
    assert "there are: done" in unknown.err


def test_query_extxyz_and_table(ask, tmp_path):
    answer = ask("query", "--format", "extxyz")
    (tmp_path / "found.extxyz").write_text(answer.out)
    images = read(tmp_path / "found.extxyz", ":")
    rows = ask("query", "--format", "json").json()
    assert [image.get_potential_energy() for image in images] == pytest.approx(
        [row["energy"] for row in rows], abs=1e-6
    )
    assert "AgCu3" in ask("query").out
    assert "No structure fits" in ask("query", "--formula", "Cu9").out


def test_query_csv(ask, tmp_path):
    rows = ask("query", "--format", "json").json()
    table = list(csv.DictReader(io.StringIO(ask("query", "--format", "csv").out)))
    assert [list(line) for line in table] == [list(COLUMNS)] * len(rows)
    for line, row in zip(table, rows, strict=True):
        assert float(line["energy"]) == row["energy"]
        assert line["evaluated_at"] == row["evaluated_at"]
        assert line["reason"] == ""


def test_query_of_what_failed_or_waits(ask, opened):
    raw = opened.evaluations.find_one({"state": "ok"})
    failed = {"state": "failed", "reason": "not_converged", "energy": None, "energy_per_atom": None}
    opened.evaluations.update_one({"_id": raw["_id"]}, {"$set": failed})
    assert "not_converged" in ask("query", "--status", "failed").out
    opened.evaluations.update_one({"_id": raw["_id"]}, {"$set": {"state": "pending", "reason": None}})
    opened.rounds.update_many({}, {"$set": {"state": "evaluating"}})
    (row,) = ask("query", "--status", "pending", "--format", "json").json()
    assert (row["status"], row["energy"]) == ("pending", None)
    text = ask("query", "--status", "pending").out
    assert row["structure_id"][:8] in text
    assert f"{row['model_energy']:.4f}" in text
    assert ask("query", "--status", "pending", "--format", "extxyz").out.count("Lattice") == 1


def test_questions_that_make_no_sense(ask):
    for arguments in (
        ("query", "--formula", "Qq3"),
        ("query", "--formula", "12"),
        ("query", "--elements", "Ag,Zz"),
        ("query", "--formula", "Cu9", "--format", "extxyz"),
        ("query", "--status", "failed", "--above", "1"),
        ("query", "--campaign", "nobody"),
        ("best", "nobody"),
        ("status", "nobody"),
        ("best", "done", "--format", "xml"),
    ):
        answer = ask(*arguments)
        assert answer.code == 2, arguments
        assert answer.out == ""
        assert "rror" in answer.err
        assert "Traceback" not in answer.err
    assert "there are: done" in ask("best", "nobody").err


def test_schema(inside):
    schema = inside("schema").json()
    assert set(schema["required"]) == {"name", "system"}
    assert schema["additionalProperties"] is False
