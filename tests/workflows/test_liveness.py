"""Whether a worker lives: its host, its pid, and when it began."""

import os
import signal
import subprocess
import sys
import time

import pytest

from godelta.workflows.liveness import WorkerName


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def name_of(pid):
    import psutil

    return WorkerName(WorkerName.own().host, pid, psutil.Process(pid).create_time())


def test_round_trip_and_own_process():
    own = WorkerName.own()
    assert own.pid == os.getpid()
    parsed = WorkerName.parse(str(own))
    assert (parsed.host, parsed.pid) == (own.host, own.pid)
    assert not parsed.gone()


def test_killed_but_not_waited_for(sleeper):
    name = name_of(sleeper.pid)
    assert not name.gone()
    os.kill(sleeper.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not name.gone():  # a zombie still answers to signal 0
        assert time.monotonic() < deadline
    sleeper.wait()
    assert name.gone()


def test_stopped_is_not_gone(sleeper):
    name = name_of(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    time.sleep(0.1)
    assert not name.gone()


def test_a_pid_taken_by_another_process():
    own = WorkerName.own()
    assert WorkerName(own.host, own.pid, own.started - 60).gone()


@pytest.mark.parametrize("text", ["", "by hand", "host", "host/12", "host/x@y", "a/b/12@3.5"])
def test_names_of_others_are_never_gone(text):
    assert not WorkerName.parse(text).gone()


def test_a_host_with_slashes_or_dots():
    assert WorkerName.parse("node1.cluster/12@3.5") == WorkerName("node1.cluster", 12, 3.5)
