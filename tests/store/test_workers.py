"""Whether a worker is gone: its host, its boot, its pid, when it began, and its signs of life."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from godelta.store import workers
from godelta.store.serverfile import birth_time
from godelta.store.workers import WorkerName, give_sign, is_gone, sign_off

FAR = WorkerName("node1.cluster", "0123456789ab", 12, 3.5)


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def name_of(pid):
    return replace(WorkerName.own(), pid=pid, born=birth_time(pid))


def test_round_trip_and_own_process(store):
    own = WorkerName.own()
    assert own.pid == os.getpid()
    assert WorkerName.parse(str(own)) == own
    assert WorkerName.parse(str(FAR.renewed())) == replace(FAR, generation=1)
    assert not is_gone(store, str(own))


def test_killed_but_not_waited_for(store, sleeper):
    name = str(name_of(sleeper.pid))
    assert not is_gone(store, name)
    os.kill(sleeper.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not is_gone(store, name):  # a zombie still answers to signal 0
        assert time.monotonic() < deadline
    sleeper.wait()
    assert is_gone(store, name)


def test_stopped_is_not_gone(store, sleeper):
    name = str(name_of(sleeper.pid))
    os.kill(sleeper.pid, signal.SIGSTOP)
    time.sleep(0.1)
    assert not is_gone(store, name)


def test_a_pid_taken_by_another_process(store):
    own = WorkerName.own()
    assert is_gone(store, str(replace(own, born=own.born - 60)))


def test_the_same_pid_before_the_machine_was_started_again(store):
    assert is_gone(store, str(replace(WorkerName.own(), boot="000000000000")))


@pytest.mark.parametrize("text", ["", "by hand", "host", "host/12", "host/x@y", "a/b/12@3.5", "host:123"])
def test_names_of_others_are_never_gone(store, text):
    assert WorkerName.parse(text) is None
    assert not is_gone(store, text)


def test_on_another_host_silence_tells(store, monkeypatch):
    assert is_gone(store, str(FAR))  # it never signed on
    give_sign(store, FAR)
    assert not is_gone(store, str(FAR))
    monkeypatch.setattr(workers, "SILENT_AFTER", timedelta(seconds=-1))
    assert is_gone(store, str(FAR))


def test_who_signs_off_holds_nothing(store):
    give_sign(store, FAR)
    sign_off(store, FAR)
    assert is_gone(store, str(FAR))


@pytest.mark.parametrize("name", [FAR, WorkerName.own()])
def test_a_new_name_frees_what_was_taken_under_the_old_one(store, name):
    give_sign(store, name)
    renewed = name.renewed()
    give_sign(store, renewed)
    assert is_gone(store, str(name))
    assert not is_gone(store, str(renewed))
    give_sign(store, name)  # an old sign that comes late changes nothing
    assert is_gone(store, str(name))
