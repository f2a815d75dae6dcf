"""The cluster that the tests bring up behaves as SLURM does elsewhere."""

import sys
import time

import psutil
import pytest
from cluster import Cluster

STATEFUL = """
import signal, sys, time
def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(120)
"""


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def patient(cluster, tmp_path):
    """A job that leaves in order on SIGINT; its id, and what it has printed."""
    program = tmp_path / "patient.py"
    program.write_text(STATEFUL)
    out = tmp_path / "out.txt"
    script = f"#!/bin/bash\n#SBATCH --signal=B:INT@60\n#SBATCH --time=5\nexec {sys.executable} {program}\n"
    job = cluster.submit(script, f"--output={out}", folder=tmp_path)
    cluster.wait_for(job, "RUNNING")
    wait_until(lambda: out.exists() and "ready" in out.read_text())
    return job, out


@pytest.mark.parametrize("partition", ["debug", "second"])
def test_a_job_to_its_end(cluster, partition):
    job = cluster.submit("true", f"--partition={partition}")
    cluster.wait_for(job, "COMPLETED")
    wait_until(lambda: cluster.sacct(job) == "COMPLETED")
    assert job not in cluster.squeue()


def test_sigint_reaches_the_program(cluster, patient):
    job, out = patient
    cluster.cancel(job, "--batch", "--signal=INT")
    cluster.wait_for(job, "COMPLETED")
    assert out.read_text() == "ready\nasked to stop\n"


def test_cancelled(cluster, patient):
    job, _ = patient
    cluster.cancel(job)
    cluster.wait_for(job, "CANCELLED")
    wait_until(lambda: cluster.sacct(job).startswith("CANCELLED"))


def test_several_at_once(cluster):
    jobs = [cluster.submit("sleep 60") for _ in range(4)]
    wait_until(lambda: cluster.squeue() == dict.fromkeys(jobs, "RUNNING"))


def test_failure(cluster):
    job = cluster.submit("exit 3")
    cluster.wait_for(job, "FAILED")


@pytest.mark.slow
def test_the_time_limit(cluster, patient):
    job, out = patient
    deaf = cluster.submit("sleep 100")
    cluster.wait_for(deaf, "RUNNING")
    cluster.end_time(job, 60)  # limits are looked at twice a minute, and warned of in time
    cluster.end_time(deaf, 2)
    cluster.wait_for(job, "COMPLETED")
    cluster.wait_for(deaf, "TIMEOUT")
    # slurmstepd may complain there of a process that was gone when it wanted to end it.
    assert out.read_text().startswith("ready\nasked to stop\n")


def test_the_node_goes_down_and_comes_back(cluster):
    lost = cluster.submit("sleep 100", "--no-requeue")
    cluster.wait_for(lost, "RUNNING")
    cluster.node_down()
    cluster.wait_for(lost, "NODE_FAIL")
    wait_until(lambda: cluster.sacct(lost) == "NODE_FAIL")
    waiting = cluster.submit("true")
    cluster.node_up()
    cluster.wait_for(waiting, "COMPLETED")


@pytest.mark.slow
def test_the_node_loses_its_power(cluster, tmp_path):
    lost = cluster.submit(f"echo $$ > {tmp_path / 'pid'}; exec sleep 100", "--no-requeue")
    cluster.wait_for(lost, "RUNNING")
    wait_until((tmp_path / "pid").exists)
    cluster.kill_slurmd()
    wait_until(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())), 5)
    cluster.wait_for(lost, "NODE_FAIL", seconds=180)
    cluster.start_slurmd()
    waiting = cluster.submit("true")
    cluster.wait_for(waiting, "COMPLETED")


def test_the_controller_keeps_the_queue(cluster):
    jobs = [cluster.submit("sleep 60"), cluster.submit("true", "--hold")]
    cluster.wait_for(jobs[0], "RUNNING")
    cluster.stop_controller()
    cluster.start_controller()
    wait_until(lambda: cluster.squeue() == {jobs[0]: "RUNNING", jobs[1]: "PENDING"})


def test_half_a_start_leaves_nothing(slurm):
    made = Cluster()
    try:
        made.start_munged()
        made.start_mariadbd()
        (made.folder / "slurmdbd.conf").write_text("StorageType=nonsense\n")
        with pytest.raises(TimeoutError, match="slurmdbd: waited in vain"):
            made.start_accounting()
    finally:
        made.stop()
    assert not made.folder.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(made.folder) in str(p.info["cmdline"])]
