"""The log of a workspace: what a line holds, and that none is lost or torn."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta

import pytest

from godelta import logs
from godelta.logs import Line, LogFolder, Place, Reader, place

log = logging.getLogger("godelta.tests")


@pytest.fixture
def folder(tmp_path):
    """A folder that this process logs to."""
    path = tmp_path / "logs"
    level = logging.getLogger(logs.ROOT).level
    logs.take_over(path)
    yield path
    logging.captureWarnings(False)
    logging.getLogger(logs.ROOT).setLevel(level)
    for handler in [item for item in logging.getLogger().handlers if isinstance(item, LogFolder)]:
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.fixture
def writer(tmp_path):
    """Make a logger of its own, with limits of its own."""
    made = []

    def make(**limits):
        logger = logging.Logger(f"godelta.writer{len(made)}", logging.DEBUG)
        logger.addHandler(LogFolder(tmp_path / "logs", **limits))
        made.append(logger)
        return logger

    yield make
    for logger in made:
        logger.handlers[0].close()


def in_process(code, *arguments, **env):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=os.environ | env, stderr=subprocess.PIPE
    )


def texts(folder):
    return [line.message for line in Reader(folder).read()]


def test_every_line_says_where_it_belongs(folder):
    log.info("outside")
    with place(campaign="a", campaign_id="1", job="run"):
        log.info("run")
        with place(chain=0, round=3, job="search"):
            log.info("search")
        with pytest.raises(RuntimeError), place(chain=1):
            raise RuntimeError
        log.info("run again")
    lines = Reader(folder).read()
    assert [line.place for line in lines] == [
        Place(),
        Place("a", "1", job="run"),
        Place("a", "1", 0, 3, "search"),
        Place("a", "1", job="run"),
    ]
    for text in next(folder.iterdir()).read_text().splitlines():
        assert {"campaign", "campaign_id", "chain", "round", "job", "pid", "host", "time", "level"} <= set(
            json.loads(text)
        )


def test_places_of_threads_do_not_mix(folder):
    both = threading.Barrier(2)

    def work(name):
        with place(campaign=name):
            for number in range(50):
                both.wait()
                log.info("%s %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    with place(campaign="mine"):
        threads += [
            threading.Thread(target=logs.carried(lambda: log.info("handed on"))),
            threading.Thread(target=log.info, args=("alone",)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = Reader(folder).read()
    assert len(lines) == 102
    for line in lines:
        expected = {"handed on": "mine", "alone": None}
        assert line.place.campaign == expected.get(line.message, line.message.partition(" ")[0])


WRITE = """
import logging, sys, threading
from pathlib import Path
from godelta.logs import LogFolder, place
logger = logging.Logger("godelta.writer", logging.DEBUG)
logger.addHandler(LogFolder(Path(sys.argv[1]), file_bytes=3000))
def write(thread):
    with place(campaign=sys.argv[2], chain=thread):
        for number in range(250):
            logger.info("%d %s", number, "x" * (number % 97))
threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_several_processes_lose_and_tear_nothing(tmp_path):
    folder = tmp_path / "logs"
    processes = [in_process(WRITE, folder, name) for name in "abcd"]
    reader, lines = Reader(folder), []
    while any(process.poll() is None for process in processes):
        lines += reader.read()
        time.sleep(0.02)
    assert [process.communicate()[1] for process in processes] == [b""] * 4
    lines += reader.read()
    assert len(list(folder.iterdir())) > 40
    for name in "abcd":
        for chain in range(2):
            own = [line.message for line in lines if (line.place.campaign, line.place.chain) == (name, chain)]
            assert own == [f"{number} {'x' * (number % 97)}" for number in range(250)]
    assert len(lines) == 4 * 2 * 250
    assert all(Line.from_json(text) for path in folder.iterdir() for text in path.read_bytes().splitlines())
    assert len(Reader(folder).read()) == len(lines)


def test_forked_children_write_whole_lines(tmp_path, writer):
    logger = writer(file_bytes=5000)
    logger.info("parent")
    children = []
    for name in "ab":
        if (pid := os.fork()) == 0:
            for number in range(300):
                logger.info("%s %d %s", name, number, "y" * 50)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    lines = Reader(tmp_path / "logs").read()
    assert len(lines) == 601
    for name, pid in zip("ab", children, strict=True):
        own = [line for line in lines if line.pid == pid]
        assert {line.message for line in own} == {f"{name} {number} {'y' * 50}" for number in range(300)}


def test_old_files_make_room(tmp_path, writer):
    folder = tmp_path / "logs"
    idle, busy = writer(), writer(file_bytes=1000, folder_bytes=10_000)
    idle.info("long ago")
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    for number in range(300):
        busy.info("%d", number)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000
    left = texts(folder)
    assert left == [str(number) for number in range(300 - len(left), 300)]
    assert len(left) > 20
    # Its file is gone, but what it says now is not.
    idle.info("still here")
    assert "still here" in texts(folder)
    few = writer(file_bytes=1, folder_files=5)
    for number in range(20):
        few.info("few %d", number)
    assert len(list(folder.iterdir())) == 5
    assert texts(folder)[-1] == "few 19"


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
def test_times_are_in_utc_wherever_it_runs(tmp_path, zone):
    before = datetime.now(UTC)
    process = in_process(WRITE, tmp_path / "logs", "a", TZ=zone)
    assert process.communicate()[1] == b""
    after = datetime.now(UTC)
    path = sorted((tmp_path / "logs").iterdir())[0]
    written = json.loads(path.read_text().splitlines()[0])["time"]
    assert written.endswith("Z")
    assert before <= datetime.fromisoformat(written) <= after
    assert Reader(tmp_path / "logs").read()[0].time.utcoffset() == timedelta(0)


def test_errors_come_with_their_traceback_and_odd_text_in_one_line(folder):
    try:
        raise ValueError("the weights\nare gone")
    except ValueError as error:
        log.exception("failed: %s", error)
    log.info("odd \udc80 \u2028 \x00 ö\n")
    failed, odd = Reader(folder).read()
    assert failed.message == "failed: the weights\nare gone"
    assert failed.level == "ERROR"
    assert "Traceback" in failed.traceback
    assert "test_logs.py" in failed.traceback
    assert odd.message == "odd \udc80 \u2028 \x00 ö\n"
    assert next(folder.iterdir()).read_bytes().count(b"\n") == 2


def test_of_other_packages_only_warnings(folder, capfd):
    logging.getLogger("launchpad").info("Performing db tune-up")
    logging.getLogger("rocket.launcher").warning("Exception couldn't be serialized")
    logging.getLogger("matplotlib.font_manager").debug("findfont: score")
    warnings.warn("weights_only will change", UserWarning, stacklevel=1)
    log.debug("detail")
    lines = Reader(folder).read()
    assert [line.logger for line in lines] == ["rocket.launcher", "py.warnings", "godelta.tests"]
    assert "weights_only" in lines[1].message
    assert capfd.readouterr() == ("", "")


def test_a_library_user_is_left_alone(tmp_path, capfd):
    code = "import godelta.logs, logging; logging.getLogger('godelta.x').warning('hello')"
    assert in_process(code).communicate()[1] == b""
    code = (
        "import sys, logging; from pathlib import Path; from godelta import logs\n"
        "logs.write_to(Path(sys.argv[1]))\n"
        "logging.getLogger('godelta.x').warning('ours'); logging.getLogger('other').warning('theirs')"
    )
    assert in_process(code, tmp_path / "logs").communicate()[1].strip() == b"theirs"
    assert texts(tmp_path / "logs") == ["ours"]


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path, capfd):
    logger = logging.Logger("godelta.writer")
    logger.addHandler(LogFolder(tmp_path / "no" / "such" / "folder"))
    logger.error("unheard")
    assert not (tmp_path / "no").exists()
    assert capfd.readouterr() == ("", "")


FULL = """
import logging, resource, signal, sys
from pathlib import Path
from godelta.logs import LogFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logger = logging.Logger("godelta.writer")
logger.addHandler(LogFolder(Path(sys.argv[1])))
logger.info("before")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
for _ in range(3):
    logger.info("%s", "torn" * 50)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
logger.info("after")
"""


def test_a_full_disk_costs_the_lines_that_do_not_fit(tmp_path):
    assert in_process(FULL, tmp_path / "logs").communicate()[1] == b""
    assert texts(tmp_path / "logs") == ["before", "after"]
    (path,) = (tmp_path / "logs").iterdir()
    assert b"torn" in path.read_bytes()


def test_a_reader_waits_for_whole_lines_and_passes_over_garbage(tmp_path):
    line = Line(datetime.now(UTC), "INFO", Place("a"), "host", 1, "godelta", "hello", event="ends")
    whole = line.to_json().encode() + b"\n"
    path = tmp_path / "x-host-1-00001.jsonl"
    path.write_bytes(b"garbage\n[]\n{}\n\xff\n" + whole + whole[:20])
    reader = Reader(tmp_path)
    assert reader.read() == [line]
    assert reader.read() == []
    with path.open("ab") as stream:
        stream.write(whole[20:])
    assert reader.read() == [line]
    assert Reader(tmp_path / "none").read() == []
    assert Reader(tmp_path).read(lambda item: item.place.campaign == "b") == []


def test_a_clock_set_back_does_not_turn_a_process_around(tmp_path):
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def write(pid, moments):
        path = tmp_path / f"x-host-{pid}-00001.jsonl"
        lines = [
            Line(start + timedelta(seconds=second), "INFO", Place(), "host", pid, "godelta", f"{pid}{number}")
            for number, second in enumerate(moments)
        ]
        path.write_text("".join(line.to_json() + "\n" for line in lines))

    write(1, [10, 20, 5, 30])
    write(2, [1, 15, 25, 40])
    found = texts(tmp_path)
    assert len(found) == 8
    assert [text for text in found if text[0] == "1"] == ["10", "11", "12", "13"]
    assert found[0] == "20"
    assert found[-1] == "23"
