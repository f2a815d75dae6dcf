"""`godelta moves`."""

import pytest


@pytest.fixture
def ask(workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


def test_what_became_of_each_kind(finished, ask, workspace):
    rows = ask("moves", "done", "--format", "json").json()
    by_name = {row["move"]: row for row in rows}
    evaluated = ask("best", "done", "-n", "100", "--all", "--format", "json").json()
    assert sum(row["evaluated"] - row["failed"] for row in rows) == len(evaluated)
    assert by_name["random"]["proposed"] >= by_name["random"]["relaxed"] >= by_name["random"]["evaluated"] > 0
    assert all(row["improved"] <= row["evaluated"] for row in rows)
    table = ask("moves", "done").out
    assert str(by_name["random"]["proposed"]) in table
    assert "improved" in table


def test_nothing_yet(finished, ask, workspace):
    store = workspace.connect()
    store.rounds.update_many({}, {"$set": {"statistics": {}}})
    store.evaluations.delete_many({})
    assert "no move yet" in ask("moves", "done").out
    assert ask("moves", "unknown").code == 2
