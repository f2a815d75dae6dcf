import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase import Atoms

from godelta import redaction
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.process import Interrupted
from godelta.reference.settings import ASESettings, Limits

CLUSTER = Atoms("Cu3", positions=[[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]], cell=[12, 12, 12])


@pytest.fixture(autouse=True)
def _hostile_path(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path):
    """Every process that has anything to do with the test's scratch directory has to be gone."""
    yield
    assert _running(tmp_path) == []


def _running(scratch):
    found = []
    for process in psutil.process_iter():
        try:
            if str(scratch) in process.cwd() or str(scratch) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _settings(name, **limits):
    limits.setdefault("wall_seconds", 30.0)
    return ASESettings(calculator=f"hostile_calculators.{name}", limits=Limits(**limits))


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("Segfault", "crashed", "SIGSEGV"),
        ("Killed", "killed", "SIGKILL"),
        ("Terminated", "interrupted", "SIGTERM"),
        ("QuietExit", "invalid_result", "without a result"),
        ("HardExit", "crashed", "exit code 3"),
        ("Garbage", "invalid_result", "not valid"),
        ("Forged", "invalid_result", "another structure"),
        ("NotANumber", "invalid_result", "not finite"),
        ("InfiniteForce", "invalid_result", "not finite"),
        ("WrongShape", "invalid_result", "shape (2, 3)"),
        ("Ragged", "invalid_result", ""),
        ("HugeForce", "force_limit", "1192.0"),
        ("NetForce", "net_force", "1.00 eV/Å per atom"),
        ("NotConverged", "not_converged", "KohnShamConvergenceError"),
        ("EmptyMessage", "engine_error", "ZeroDivisionError"),
        ("RaisesMemoryError", "memory_limit", "MemoryError"),
        ("KillsGuard", "killed", "guards"),
        ("no_class_but_a_number", "engine_error", "no ASE calculator"),
        ("Missing", "engine_error", "has no Missing"),
    ],
)
def test_hostile_engine_is_a_failed_outcome(tmp_path, name, reason, words):
    outcome = evaluate_isolated(CLUSTER, _settings(name), tmp_path)
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert words in outcome.message
    assert outcome.energy is None
    assert outcome.forces is None


def test_log_tail_tells_what_the_engine_printed(tmp_path):
    assert "no luck" in evaluate_isolated(CLUSTER, _settings("NotConverged"), tmp_path / "a").log_tail
    segfault = evaluate_isolated(CLUSTER, _settings("Segfault"), tmp_path / "b")
    assert "Segmentation fault" in segfault.log_tail
    assert "hostile_calculators.py" in segfault.log_tail


@pytest.mark.parametrize("name", ["SpinInC", "OrphanAndHang"])
def test_wall_limit_ends_all_processes(tmp_path, name):
    started = time.monotonic()
    outcome = evaluate_isolated(CLUSTER, _settings(name, wall_seconds=1.0), tmp_path)
    assert outcome.reason == "wall_limit"
    assert time.monotonic() - started < 3.9  # without the grace
    assert outcome.cost.wall_s >= 1.0


@pytest.mark.slow
def test_a_process_deaf_to_sigterm_is_killed_after_a_grace(tmp_path):
    outcome = evaluate_isolated(CLUSTER, _settings("Hang", wall_seconds=1.0), tmp_path)
    assert outcome.reason == "wall_limit"
    assert 4.0 <= outcome.cost.wall_s < 8.0


@pytest.mark.parametrize("name", ["MemoryEater", "ChildEatsMemory"])
def test_memory_limit_counts_the_whole_tree(tmp_path, name):
    outcome = evaluate_isolated(CLUSTER, _settings(name, memory_mb=250.0), tmp_path)
    assert outcome.reason == "memory_limit"
    assert 250.0 < outcome.cost.peak_rss_mb < 2000.0


def test_orphan_is_removed_and_the_result_kept(tmp_path):
    outcome = evaluate_isolated(CLUSTER, _settings("Orphan"), tmp_path)
    assert outcome.status == "ok"


def test_deadline_is_an_interruption_not_a_verdict(tmp_path):
    outcome = evaluate_isolated(CLUSTER, _settings("SpinInC"), tmp_path, deadline=time.time() + 1.0)
    assert outcome.reason == "interrupted"


def test_stop_ends_the_processes_and_raises(tmp_path):
    started = time.monotonic()
    with pytest.raises(Interrupted):
        evaluate_isolated(
            CLUSTER, _settings("SpinInC"), tmp_path, should_stop=lambda: time.monotonic() > started + 1.0
        )
    assert time.monotonic() - started < 5.0


def test_keyboard_interrupt_ends_the_processes_and_raises(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_isolated(CLUSTER, _settings("SpinInC"), tmp_path, should_stop=_second_call(interrupt))


def _second_call(function):
    calls = []

    def ask():
        calls.append(1)
        return function() if len(calls) > 1 else False

    return ask


@pytest.mark.parametrize("name", ["SpinInC", "OrphanAndHang"])
def test_evaluation_dies_with_its_killed_worker(tmp_path, name):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from ase import Atoms\n"
        "from godelta.reference.isolated import evaluate_isolated\n"
        "from godelta.reference.settings import ASESettings\n"
        "evaluate_isolated(Atoms('Cu'), ASESettings(calculator=sys.argv[3]), Path(sys.argv[2]))\n"
    )
    scratch = tmp_path / "scratch"
    arguments = [str(Path(__file__).parent), str(scratch), f"hostile_calculators.{name}"]
    worker = subprocess.Popen([sys.executable, "-c", code, *arguments])
    _wait(lambda: len(_running(scratch)) >= 3, 20.0)  # the worker, the guard, the engine
    time.sleep(1.5)
    worker.kill()
    worker.wait()
    _wait(lambda: not _running(tmp_path), 10.0)


def _wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_valid_result_of_a_killed_attempt_is_adopted(tmp_path):
    settings = _settings("Calm")
    first = evaluate_isolated(CLUSTER, settings, tmp_path)
    assert (first.status, first.adopted) == ("ok", False)
    written = (tmp_path / "result.json").stat().st_mtime_ns
    again = evaluate_isolated(CLUSTER, settings, tmp_path)
    assert (again.status, again.adopted) == ("ok", True)
    assert (tmp_path / "result.json").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.forces, first.forces)


def test_result_of_another_structure_or_level_is_not_adopted(tmp_path):
    evaluate_isolated(CLUSTER, _settings("Calm"), tmp_path)
    moved = CLUSTER.copy()
    moved.positions[0, 0] -= 1e-9
    assert not evaluate_isolated(moved, _settings("Calm"), tmp_path).adopted
    outcome = evaluate_isolated(moved, _settings("NotANumber"), tmp_path)
    assert (outcome.reason, outcome.adopted) == ("invalid_result", False)


def test_failed_result_is_not_adopted(tmp_path):
    for _ in range(2):
        assert not evaluate_isolated(CLUSTER, _settings("EmptyMessage"), tmp_path).adopted


def test_bad_structure_starts_no_process(tmp_path):
    close = CLUSTER.copy()
    close.positions[1] = [0.5, 0, 0]
    outcome = evaluate_isolated(close, _settings("Calm"), tmp_path / "none")
    assert outcome.reason == "too_close"
    assert not (tmp_path / "none").exists()


def test_command_prefix_and_threads_reach_the_engine(tmp_path):
    settings = _settings("Calm", command_prefix=("env", "GODELTA_TEST=1"), threads=3)
    assert evaluate_isolated(CLUSTER, settings, tmp_path / "a").status == "ok"
    settings = _settings("Calm", command_prefix=("sh", "-c", "echo $OMP_NUM_THREADS threads; exit 7"))
    outcome = evaluate_isolated(CLUSTER, settings, tmp_path / "b")
    assert (outcome.reason, outcome.message) == ("crashed", "ended with exit code 7")
    assert outcome.log_tail == "1 threads"
    settings = _settings("Calm", command_prefix=("no-such-launcher",))
    outcome = evaluate_isolated(CLUSTER, settings, tmp_path / "c")
    assert outcome.reason == "crashed"
    assert "no-such-launcher" in outcome.log_tail


def test_only_the_first_rank_writes(tmp_path, monkeypatch):
    # The worker may be a rank of srun itself, which says nothing about the evaluation.
    monkeypatch.setenv("SLURM_PROCID", "3")
    settings = _settings("Calm", command_prefix=("env", "GODELTA_TEST=1"))
    assert evaluate_isolated(CLUSTER, settings, tmp_path / "a").status == "ok"
    settings = _settings("Calm", command_prefix=("env", "PMI_RANK=1"))
    outcome = evaluate_isolated(CLUSTER, settings, tmp_path / "b")
    assert outcome.message == "the evaluation ended without a result"


def test_relative_python_path_of_the_worker_still_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", Path(os.path.relpath(Path(__file__).parent)).as_posix())
    settings = _settings("Calm", command_prefix=("sh", "-c", 'echo "$PYTHONPATH"; exit 1'))
    assert evaluate_isolated(CLUSTER, settings, tmp_path).log_tail == str(Path(__file__).parent)


def test_segfault_under_a_launcher_is_seen(tmp_path):
    settings = _settings("Segfault", command_prefix=("sh", "-c", '"$@"; exit $?', "sh"))
    outcome = evaluate_isolated(CLUSTER, settings, tmp_path)
    assert (outcome.reason, outcome.message) == ("crashed", "ended by SIGSEGV")


def test_cost_is_measured(tmp_path):
    cost = evaluate_isolated(CLUSTER, _settings("Calm"), tmp_path).cost
    assert 0.01 < cost.cpu_s < 20.0
    assert 10.0 < cost.peak_rss_mb < 1000.0
    assert json.loads((tmp_path / "result.json").read_text())["wall_s"] <= cost.wall_s


def test_ctrl_c_at_the_terminal_does_not_reach_the_engine(tmp_path):
    """A signal to the worker's group or session must not turn into a failed evaluation."""
    code = "import os; print(os.getpgid(0), os.getsid(0))"
    settings = _settings("Calm", command_prefix=("sh", "-c", f"{sys.executable} -c '{code}'; exit 1"))
    group, session = evaluate_isolated(CLUSTER, settings, tmp_path).log_tail.split()
    assert int(group) != os.getpgid(0)
    assert int(session) != os.getsid(0)


@pytest.mark.parametrize("jump", [1e6, -1e6])
def test_a_clock_that_is_set_changes_no_deadline(tmp_path, monkeypatch, jump):
    real, calls = time.time, []

    def clock():
        calls.append(None)
        return real() + (jump if len(calls) > 1 else 0.0)

    deadline = real() + 60.0
    monkeypatch.setattr("godelta.reference.process.time.time", clock)
    outcome = evaluate_isolated(CLUSTER, _settings("Calm"), tmp_path, deadline=deadline)
    assert (outcome.status, outcome.reason) == ("ok", None)
    assert calls


def test_engines_know_nothing_of_the_database(tmp_path, monkeypatch):
    monkeypatch.setattr(redaction, "_known", {"a-long-password"})
    monkeypatch.setenv("GODELTA_MONGODB_URI", "mongodb://me:in-the-uri@h/")
    monkeypatch.setenv("MY_PASSWORD", "a-long-password")
    monkeypatch.setenv("KEPT_AS_IT_IS", "mongodb://h/")
    outcome = evaluate_isolated(CLUSTER, _settings("Talkative"), tmp_path)
    printed = (tmp_path / "log.txt").read_text()
    assert "KEPT_AS_IT_IS" in printed
    assert "GODELTA_MONGODB_URI" not in printed
    assert "MY_PASSWORD" not in printed
    assert outcome.reason == "engine_error"
    for text in (outcome.message, outcome.log_tail):
        assert "mongodb://***@h/" in text
        assert "found-elsewhere" not in text
