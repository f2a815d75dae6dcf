"""`status`: tables, JSON, --watch."""

import dataclasses
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from godelta.cli import status_tables
from godelta.cli.status_tables import MOST_LINES, MOST_ROWS, Campaigns, age, all_campaigns, one_campaign
from godelta.store.detail import (
    Best,
    Detail,
    FailedEvaluation,
    RoundStatus,
    RunningEvaluation,
    WorkerStatus,
)
from godelta.store.overview import Overview
from godelta.store.progress import ChainProgress
from godelta.workflows.overview import COLUMNS, Pilots, QueuedJob
from godelta.workflows.slurm import BatchJob
from godelta.workflows.waiting import Situation, waits

NOW = datetime(2026, 3, 2, 14, 5, tzinfo=UTC)
LONG = "silver-sulfide_on_alumina.second-attempt.with-larger-box.v12-final"[:64]
FIELDS = [
    "name", "campaign_id", "formula", "system", "state", "reason", "rounds", "closed_rounds", "budget", "ok",
    "failed", "pending", "running", "queued", "best_energy", "best_structure", "elapsed_s", "left_s",
    "worker_s", "timings", "chains", "tags", "created_at", "changed_at", "refinement",
    "queue",
]  # fmt: skip
MORE = [
    "best", "each_round", "failed_by_reason", "failed_evaluations", "running_evaluations", "workers",
    "batch_jobs", "batch_trouble", "low_minima", "ends", "waits",
]  # fmt: skip


@pytest.fixture
def ask(finished, workspace, inside):
    return lambda *arguments: inside(*arguments, "--workspace", workspace.folder)


def overview(**changes):
    return replace(
        Overview(
            name="ag8s4",
            campaign_id="0" * 24,
            formula="Ag8S4",
            system="Ag8S4 on Ag(111)",
            state="running",
            reason=None,
            rounds=40,
            closed_rounds=57,
            budget=2000,
            ok=1234,
            failed=56,
            pending=24,
            running=11,
            queued=13,
            best_energy=-12345.6789,
            best_structure="5519b8667aa7500c3517d74a",
            elapsed_s=86399.0,
            left_s=None,
            worker_s=0.0,
            timings={},
            chains=[
                ChainProgress(0, 28, "evaluating", 9, 0.25, -12345.9),
                ChainProgress(1, 27, "searching", 4),
                ChainProgress(2, None, "waiting"),
            ],
            tags=["gold", "thesis"],
            created_at=NOW - timedelta(days=20),
            changed_at=NOW - timedelta(seconds=12),
        ),
        **changes,
    )


def worker(number=0, **changes):
    return replace(
        WorkerStatus(
            name=f"compute-node-{number:04d}/0123456789ab/{number}@3.50",
            host=f"compute-node-{number:04d}.cluster",
            pid=3_000_000 + number,
            takes=["evaluate-gpaw+1a2b3c4d", "light"],
            campaign_id=None,
            batch_job=str(10_000_000 + number),
            since=NOW - timedelta(hours=3),
            seen=NOW - timedelta(seconds=8),
            alive=True,
        ),
        **changes,
    )


def round_status(chain, number, state, **changes):
    values = {"epoch": 0, "failures": 0, "selected": 10, "ok": 3, "failed": 1, "running": 2}
    rest = {"best_energy": -12345.6789, "changed_at": NOW - timedelta(minutes=5)}
    return RoundStatus(chain, number, state, **(values | rest | changes))


def situation(**changes):
    """A campaign of which everything is known, at great length."""
    category = "evaluate-gpaw+1a2b3c4d"
    running = [
        RunningEvaluation(
            f"{number:08x}5519b866", 0, 28, worker(number).name, worker(number).host, worker(number).pid,
            worker(number).batch_job, NOW - timedelta(minutes=45), alive=number != 1,
        )
        for number in range(3)
    ]  # fmt: skip
    failed = [
        FailedEvaluation("aaaaaaaabbbb", 0, 3, "not_converged", "SCF", 1, False, False),
        FailedEvaluation(
            "ccccccccdddd", 1, 4, "lost", "every attempt ended without a word: [it] kills", 1, True, False
        ),
        FailedEvaluation("eeeeeeeeffff", 1, 5, "memory_limit", "more than 4000 MB", 4, True, True),
    ]
    values = {
        "overview": overview(name=LONG),
        "detail": Detail(
            [
                round_status(0, 28, "evaluating", epoch=1),
                round_status(1, 27, "searching", selected=0, ok=0, failed=0, running=0),
            ],
            Best("5519b8667aa7500c3517d74a", -12345.6789, -0.5, 1, 20, NOW - timedelta(hours=5)),
            running,
            failed,
        ),
        "queue": {
            category: Counter(ready=4, running=2),
            "search-chgnet": Counter(waiting=2, refused=1),
            "light": Counter(waiting=2, fizzled=1),
        },
        "jobs": {
            (0, 28): [QueuedJob(1, "evaluate", category, "ready")] * 4,
            (1, 27): [QueuedJob(9, "search", "search-chgnet", "running", worker(7).name)],
        },
        "workers": [worker(number) for number in range(3)],
        "busy": frozenset({worker(0).name}),
        "pilots": Pilots(
            {
                category: [
                    BatchJob(
                        "4711", f"godelta.0.{category}", "PENDING", "gpu", "(AssocGrpCpuLimit)", "8:00:00"
                    )
                ]
            }
        ),
    }
    return Situation(**(values | changes))


def printed(renderable, width):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(renderable)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    return text


def words(text):
    return set(text.split())


def campaigns(rows, **changes):
    values = {
        "limit": None,
        "jobs": Counter(ready=3, running=2),
        "ready": 3,
        "workers": [worker()],
        "now": NOW,
    }
    return Campaigns(rows, **(values | changes))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_all_campaigns_keep_their_numbers(width):
    states = ("running", "created", "paused", "failed", "finished", "cancelled")
    rows = [overview(state=state, name=f"{LONG[:62]}{n:02d}") for n, state in enumerate(states)]
    text = printed(all_campaigns(campaigns(rows), width), width)
    assert {"57/120", "-12345.6789", "1234", "56", "11", "13", "2000", "12", "s", *states} <= words(text)
    names = "".join(line.split(" ")[0] for line in text.splitlines()[1:])
    assert all(row.name in names or row.name[:30] in names for row in rows)
    assert "Ag8S4 on" in text


def test_all_campaigns_wide():
    text = printed(all_campaigns(campaigns([overview()]), 160), 160)
    assert text.splitlines()[0].split() == [
        "campaign", "system", "state", "rounds", "best,", "eV", "ok", "failed", "running", "queued", "of",
        "changed",
    ]  # fmt: skip
    assert text.splitlines()[-1] == (
        "1 campaign: 1 running | evaluations: 1234 ok, 56 failed, 11 running, 13 queued |"
        " jobs: 3 ready, 2 running | workers: 1 alive"
    )


def test_hundreds_of_campaigns_stay_readable():
    rows = [overview(name=f"c{number}", system="Ag8S4") for number in range(300)]
    lines = printed(all_campaigns(campaigns(rows), 80), 80).splitlines()
    assert len(lines) < MOST_ROWS + 6
    assert f"and {300 - MOST_ROWS} more: -n 300, --state or --tag" in lines
    assert any(line.startswith("300 campaigns: 300 running") for line in lines)
    assert len(printed(all_campaigns(campaigns(rows, limit=5), 80), 80).splitlines()) < 12
    assert len(printed(all_campaigns(campaigns(rows, limit=300), 80), 80).splitlines()) > 300


def test_reasons_of_failed_campaigns():
    rows = [overview(name=f"c{n}", state="failed", reason=f"why {n}\n  mend [it]") for n in range(7)]
    text = printed(all_campaigns(campaigns(rows), 80), 80)
    assert "c4 failed: why 4" in text
    assert "why 5" not in text
    assert "and 2 more: --state failed" in text


def test_jobs_that_nobody_takes_are_told():
    text = printed(all_campaigns(campaigns([overview()], workers=[worker(alive=False)]), 160), 160)
    assert "workers: 0 alive, 1 silent or gone" in text
    assert status_tables.NOBODY in text
    assert status_tables.NOBODY not in printed(all_campaigns(campaigns([overview()], ready=0), 160), 160)


@pytest.mark.parametrize("width", [80, 160])
def test_one_campaign_keeps_what_matters(width):
    found = situation()
    text = printed(one_campaign(found, waits(found), NOW, width), width)
    flat = " ".join(text.split())
    for part in (
        LONG,
        "57 of 120 rounds closed; last change 12 s ago; run for 23:59:59",
        "best -12345.6789 eV structure 5519b866, chain 1 round 20, 5 h ago",
        "1234 ok, 56 failed (not_converged 1, lost 1, memory_limit 1), 11 running, 13 queued of 2000",
        "gold, thesis",
        "in quarantine",
        "cccccccc",
        "tried too often, for good: 1",
        "4711",
        "AssocGrpCpuLimit",
        "chain 2: its first round is not planned yet",
    ):
        assert part in flat, part
    assert f"to try again what was lost: godelta restart {LONG}" in flat
    assert f"to try others again: godelta restart {LONG} --retry not_converged" in flat
    numbers = {
        "4/10",
        "0/0",
        "28",
        "27",
        "10000000",
        "3000000",
        "3000002",
        "45",
        "PENDING",
        "evaluating",
        "attempt)",
    }
    assert numbers <= words(text)
    assert "cluster (gone)" in flat
    assert "aaaaaaaa" not in text  # not in quarantine


def test_one_campaign_says_who_is_missing():
    found = situation(workers=[], pilots=Pilots(trouble="SLURM has not answered for 4 s"))
    flat = " ".join(printed(one_campaign(found, waits(found), NOW, 80), 80).split())
    assert "nobody works on this: `godelta submit --launch`" in flat
    assert "batch jobs are not shown: SLURM has not answered for 4 s" in flat


def test_long_lists_are_cut_with_a_word():
    chains = [ChainProgress(number, 0, "evaluating") for number in range(50)]
    running = situation().detail.running * 20
    found = situation(
        overview=overview(chains=chains),
        detail=Detail([round_status(n, 0, "evaluating") for n in range(50)], None, running, []),
        workers=[worker(number) for number in range(50)],
    )
    text = printed(one_campaign(found, waits(found), NOW, 80), 80)
    assert f"and {50 - MOST_LINES} more chains" in text
    assert f"and {60 - MOST_LINES} more: --format json" in text
    assert f"and {50 - MOST_LINES} more: --format json" in text
    assert len(text.splitlines()) < 160


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "60 min"),
        (7300, "2 h"),
        (172800, "2 d"),
    ],
)
def test_ages(seconds, said):
    assert age(timedelta(seconds=seconds)) == said


def test_json(ask):
    one = ask("status", "done", "--format", "json").json()
    assert list(one) == FIELDS + MORE
    (row,) = ask("status", "--format", "json").json()
    assert list(row) == FIELDS
    assert row == {key: one[key] for key in FIELDS}
    assert (row["name"], row["state"], row["rounds"], row["budget"]) == ("done", "finished", 2, 10)
    assert (row["closed_rounds"], row["failed"], row["pending"], row["queued"]) == (2, 0, 0, 0)
    assert row["ok"] >= 2
    best = ask("best", "done", "--format", "json").json()[0]
    assert (row["best_energy"], row["best_structure"]) == (best["energy"], best["structure_id"])
    assert one["best"]["energy_per_atom"] == pytest.approx(best["energy"] / 4)
    assert [chain["round"] for chain in row["chains"]] == [1]
    assert [(r["chain"], r["round"], r["state"]) for r in one["each_round"]] == [
        (0, 0, "closed"),
        (0, 1, "closed"),
    ]
    assert sum(r["ok"] for r in one["each_round"]) == row["ok"]
    assert datetime.fromisoformat(row["changed_at"]).tzinfo is not None
    assert one["waits"] == ["finished: `godelta best done` lists what it found; a larger budget goes on"]


def test_every_field_is_documented(ask):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "status.md").read_text()
    fields = set(re.findall(r"\w+", page.partition("## JSON")[2]))
    one = ask("status", "done", "--format", "json").json()
    assert set(one) <= fields
    for shown in (
        Best,
        RoundStatus,
        FailedEvaluation,
        RunningEvaluation,
        WorkerStatus,
        BatchJob,
        ChainProgress,
    ):
        assert {field.name for field in dataclasses.fields(shown)} <= fields
    assert set(COLUMNS) | set(one["timings"]) <= fields


def test_tables(ask):
    row = ask("status", "done", "--format", "json").json()
    text = ask("status").out
    for part in ("done", "Cu3Ag", "finished", "2/2", f" {row['ok']} ", f"{row['best_energy']:.4f}"):
        assert part in text
    assert f"{row['best_energy']:.4f} eV" in ask("status", "done").out
    assert "godelta best done" in ask("status", "done").out


def test_filters(ask, opened):
    assert "done" in ask("status", "--state", "finished", "--state", "paused").out
    assert ask("status", "--state", "paused").out == "No campaign fits.\n"
    assert ask("status", "--tag", "thesis").out == "No campaign fits.\n"
    opened.campaigns.update_one({}, {"$set": {"config.tags": ["thesis", "x"]}})
    assert "done" in ask("status", "--tag", "thesis", "--tag", "x").out
    assert ask("status", "--state", "running", "--format", "json").json() == []
    wrong = ask("status", "--state", "asleep")
    assert (wrong.code, wrong.out) == (2, "")
    assert "there are: running, created" in wrong.err


def test_failed_evaluations_and_quarantine(ask, opened):
    assert "quarantine" not in ask("status", "done").out
    first, second, *_ = opened.evaluations.find({"state": "ok"}).sort("structure_hash", 1)
    for raw, reason in ((first, "lost"), (second, "not_converged")):
        opened.evaluations.update_one(
            {"_id": raw["_id"]}, {"$set": {"state": "failed", "reason": reason, "energy": None}}
        )
    text = ask("status", "done").out
    assert "lost 1" in text
    assert "not_converged 1" in text
    assert text.count(first["requests"][0]["structure_id"][:8]) == 1
    assert second["requests"][0]["structure_id"][:8] not in text
    one = ask("status", "done", "--format", "json").json()
    assert one["failed_by_reason"] == {"lost": 1, "not_converged": 1}
    assert {f["reason"]: f["in_quarantine"] for f in one["failed_evaluations"]} == {
        "lost": True,
        "not_converged": False,
    }


def test_an_empty_workspace(inside, workspace):
    answer = inside("status", "--workspace", workspace.folder)
    assert answer.code == 0
    assert "No campaign yet" in answer.out
    assert inside("status", "--workspace", workspace.folder, "--format", "json").json() == []


def test_watching_what_has_ended_is_one_look(ask):
    assert ask("status", "done", "--watch").out.startswith("done finished | round 2 of 2 | evaluations")
    lines = ask("status", "done", "--watch", "--format", "json").out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["finished"]


@pytest.fixture
def watch(workspace):
    """Begin `godelta status --watch` as a process; its output is a pipe."""
    started = []

    def begin(*arguments):
        command = [
            sys.executable, "-m", "godelta.cli.main", "status", "--watch", "--every", "0.2",
            "--workspace", workspace.folder, *arguments,
        ]  # fmt: skip
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_watching_in_a_pipe_until_ctrl_c(finished, opened, watch):
    opened.campaigns.update_one({}, {"$set": {"state": "running"}})
    process = watch("done")
    assert process.stdout.readline().startswith("done running | round 2 of 2")
    time.sleep(0.5)
    opened.campaigns.update_one({}, {"$set": {"state": "paused"}})
    assert process.stdout.readline().startswith("done paused")  # nothing in between: nothing was new
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_watching_all_until_ctrl_c(finished, opened, watch):
    process = watch("--format", "json")
    assert [row["name"] for row in json.loads(process.stdout.readline())] == ["done"]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_watching_in_a_terminal_draws_the_tables(finished, opened, workspace, monkeypatch):
    """In this process, in a terminal of rich's own; Ctrl-C comes at the second look."""
    from godelta.cli import status

    opened.campaigns.update_one({}, {"$set": {"state": "running"}})
    terminal = Console(width=80, file=io.StringIO(), force_terminal=True, highlight=False)
    monkeypatch.setattr(status, "console", terminal)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        opened.campaigns.update_one({}, {"$set": {"state": "paused"}})
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "sleep", sleep)
    status.show_status("done", workspace.folder, "table", status.StatusOptions(every=0.3))
    assert looks == [0.3, 0.3]
    text = terminal.file.getvalue()
    assert "nobody works on this" in text
    assert "paused: `godelta resume done`" in text
