"""`godelta logs`, and what a campaign's processes leave on the terminal: nothing but their own words."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest

from godelta import logs
from godelta.logs import LogFolder, Place, Reader, place

NOISE = re.compile(r"Launching Rocket|Rocket finished|Starting job|Finished job|it/s\]|\d+%\|")
DEAD = "database: {uri: 'mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100', name: gone}\n"


@pytest.fixture
def dead_workspace(tmp_path):
    """A workspace whose database does not answer, and a way to write to its log."""
    folder = tmp_path / "dead"
    (folder / ".godelta").mkdir(parents=True)
    (folder / "godelta.yaml").write_text(DEAD)
    logger = logging.Logger("godelta.tests", logging.DEBUG)
    logger.addHandler(LogFolder(folder / ".godelta" / "logs"))
    yield folder, logger
    logger.handlers[0].close()


def follow(folder, *arguments):
    command = [sys.executable, "-m", "godelta.cli.main", "logs", *arguments, "--follow", "-w", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_whole_campaign(godelta, workspace, write_campaign):
    path = write_campaign()
    answer = godelta("run", path, "-w", workspace.folder, "--plain")
    assert (answer.code, answer.err) == (0, "")
    assert not NOISE.search(answer.out)
    assert (workspace.logs / "worker-0.log").read_text() == ""

    lines = Reader(workspace.logs).read()
    # A worker that has left already may hear `run` ask it to.
    lines = [line for line in lines if line.place != Place() or "asked to stop" not in line.message]
    assert {line.place.campaign for line in lines} == {"cheap"}
    assert {line.logger.partition(".")[0] for line in lines} == {"godelta"}
    assert not any(NOISE.search(line.message) for line in lines)
    for job in ("search", "select", "evaluate", "retrain"):
        assert {(line.place.chain, line.place.round) for line in lines if line.place.job == job} == {
            (0, 0),
            (0, 1),
        }, job
    assert {line.place.job for line in lines} >= {"run", "plan", "worker"}

    (workspace.folder / "godelta.yaml").write_text(DEAD)
    answer = godelta("logs", "cheap", "-w", workspace.folder, TZ="Asia/Kolkata")
    assert answer.code == 0, answer.err
    shown = answer.out.splitlines()
    assert len(shown) == sum(line.number >= logging.INFO for line in lines)
    local = lines[0].time.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert shown[0].startswith(f"{local:%Y-%m-%d %H:%M:%S}")
    assert sum(" ok in " in line and " eV" in line for line in shown) == 4
    for part in ("round planned", "trained on 2 structures", "round 1 retrain: round closed", "is finished"):
        assert part in answer.out
    assert [line.event for line in lines if line.event] == ["begins", "ends"]

    detail = godelta("logs", lines[0].place.campaign_id, "--level", "debug", "-w", workspace.folder)
    assert "iteration 1: " in detail.out
    assert len(detail.out.splitlines()) == len(lines)
    # It has ended: there is nothing to wait for.
    again = godelta("logs", "cheap", "--follow", "--lines", "2", "-w", workspace.folder)
    assert (
        again.out.splitlines() == godelta("logs", "cheap", "-n", "2", "-w", workspace.folder).out.splitlines()
    )
    assert len(again.out.splitlines()) == 2


@pytest.mark.slow
def test_a_worker_by_hand_speaks_of_its_own_work_only(godelta, workspace, opened, cheap_config):
    from pathlib import Path

    from godelta.store import campaigns
    from godelta.workflows.submit import register

    document = register(opened, cheap_config(budget={"rounds": 1}), Path())
    campaigns.set_state(opened, document.campaign_id, "created", "running")
    plan = (
        "import sys; from pathlib import Path; from godelta.store.workspace import Workspace\n"
        "from godelta.workflows.launchpad import configure_engines, open_launchpad\n"
        "workspace = Workspace(Path(sys.argv[1])); configure_engines(workspace)\n"
        "from godelta.workflows.planner import advance\n"
        "assert advance(workspace.connect(), open_launchpad(workspace), sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", plan, str(workspace.folder), document.campaign_id],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    answer = godelta("worker", "--campaign", "cheap", "-w", workspace.folder)
    assert answer.code == 0, answer.err
    assert answer.out == ""
    told = answer.err.splitlines()
    assert "cheap worker: begins" in told[0]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO +cheap ", line) for line in told), answer.err
    assert any("cheap chain 0 round 0 evaluate: " in line for line in told)
    assert not NOISE.search(answer.err)


@pytest.mark.slow
def test_levels_lines_and_all_campaigns(godelta, dead_workspace):
    folder, logger = dead_workspace
    for name in "ab":
        with place(campaign=name, chain=1, round=4, job="evaluate"):
            logger.debug("detail")
            logger.info("first\nsecond")
            try:
                raise RuntimeError("no weights")
            except RuntimeError as error:
                logger.exception("failed: %s", error)
    logger.warning("of none")
    only = godelta("logs", "a", "--level", "error", "-w", folder)
    assert re.match(
        r"[\d-]+ [\d:]+ ERROR +chain 1 round 4 evaluate: failed: no weights\n    Traceback", only.out
    )
    assert "\n    RuntimeError: no weights\n" in only.out
    assert "first\n    second\n" in godelta("logs", "a", "-w", folder).out
    assert "detail" not in godelta("logs", "a", "-w", folder).out
    everything = godelta("logs", "-w", folder).out
    assert "b chain 1 round 4 evaluate: first" in everything
    assert "-: of none" in everything
    assert godelta("logs", "a", "-n", "0", "-w", folder).out == ""
    assert "\x1b[" not in everything


def test_a_campaign_that_is_not_in_the_logs(godelta, dead_workspace, tmp_path):
    folder, logger = dead_workspace
    answer = godelta("logs", "ghost", "-w", folder)
    assert answer.code == 2
    assert "the logs hold no line of a campaign 'ghost'" in answer.err
    assert "no campaign was run here yet" in answer.err
    with place(campaign="real"):
        logger.info("hello")
    assert "they hold lines of: real" in godelta("logs", "ghost", "-w", folder).err
    (tmp_path / "empty").mkdir()
    assert "no workspace here" in godelta("logs", "-w", tmp_path / "empty").err
    assert list((tmp_path / "empty").iterdir()) == []


def test_following_until_the_campaign_ends(dead_workspace):
    folder, logger = dead_workspace
    with place(campaign="other"):
        logger.info("ends", extra=logs.event("ends"))
    with place(campaign="a"):
        logger.info("begins", extra=logs.event("begins"))
        process = follow(folder, "a")
        assert process.stdout.readline().endswith("begins\n")
        for number in range(5):
            logger.info("line %d", number)
        assert process.stdout.readline().endswith("line 0\n")
        with place(campaign="other"):
            logger.info("ends", extra=logs.event("ends"))
        logger.info("the last word", extra=logs.event("ends"))
    out, err = process.stdout.read(), process.stderr.read()
    assert (process.wait(timeout=60), err) == (0, "")
    assert [line.rpartition("  ")[2] for line in out.splitlines()][:4] == [f"line {n}" for n in range(1, 5)]
    assert out.endswith("the last word\n")


def test_following_until_ctrl_c(dead_workspace):
    folder, logger = dead_workspace
    logger.info("of the workspace", extra=logs.event("ends"))
    process = follow(folder)
    assert "of the workspace" in process.stdout.readline()
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


@pytest.mark.slow
def test_starts_and_stops_of_the_private_server(godelta, require, tmp_path):
    require("mongod")
    godelta("init", tmp_path / "mine")
    assert godelta("db", "start", "-w", tmp_path / "mine").code == 0
    assert godelta("db", "stop", "-w", tmp_path / "mine").code == 0
    shown = godelta("logs", "-w", tmp_path / "mine").out.splitlines()
    assert [re.sub(r".*: (database server \w+): .*", r"\1", line) for line in shown] == [
        "database server started",
        "database server stopped",
    ]


def test_the_output_of_workers_stays_small(workspace):
    from godelta.workflows import local

    pool = local.LocalWorkers(workspace, "id", 1, 1)
    path = workspace.logs / "worker-0.log"
    with path.open("ab", buffering=0) as writer:  # as a worker has it open
        writer.write(b"x" * (local.OUTPUT_BYTES + 1))
        pool.start()
        try:
            writer.write(b"y")
            assert path.stat().st_size < local.OUTPUT_BYTES
            assert path.with_suffix(".log.old").stat().st_size == local.OUTPUT_BYTES + 1
            writer.write(b"x" * (local.OUTPUT_BYTES + 1))
            pool.replace_dead()
            assert path.stat().st_size < local.OUTPUT_BYTES
        finally:
            pool.stop()


def test_stored_lines_are_json(dead_workspace):
    folder, logger = dead_workspace
    with place(campaign="a", campaign_id="1", chain=0, round=2, job="search"):
        logger.info("hello")
    (path,) = (folder / ".godelta" / "logs").iterdir()
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    del line["pid"], line["host"]
    assert line == {
        "campaign": "a",
        "campaign_id": "1",
        "chain": 0,
        "round": 2,
        "job": "search",
        "level": "INFO",
        "logger": "godelta.tests",
        "message": "hello",
    }
