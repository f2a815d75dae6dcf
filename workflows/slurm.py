"""What SLURM knows: jobs in the queue, jobs that have ended, partitions; by its own commands."""

import getpass
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from godelta.errors import GodeltaError

TIMEOUT_S = 60.0
# States in which a job's processes may still run, or will; every other one is an end.
# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
LIVE = frozenset(
    {
        "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "REQUEUED",
        "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT",
    }
)  # fmt: skip
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchJob:
    """A job of this user as squeue lists it; `reason` says why it waits, or where it runs."""

    job_id: str
    name: str
    state: str
    partition: str
    reason: str
    left: str


def is_here() -> bool:
    """Whether SLURM's commands can be found on this machine."""
    return shutil.which("squeue") is not None


def own_job() -> str | None:
    """The job that this process runs in, None outside of SLURM."""
    return os.environ.get("SLURM_JOB_ID")


def own_end() -> float | None:
    """POSIX time when SLURM ends the job that this process runs in; None where that is not to be had."""
    job_id = own_job()
    if job_id is None:
        return None
    if "SLURM_JOB_END_TIME" in os.environ:  # since SLURM 23.02
        return float(os.environ["SLURM_JOB_END_TIME"])
    try:
        text = _ask(["squeue", "--noheader", "--jobs", job_id, "--format", "%L"]).strip()
    except GodeltaError as error:
        log.warning("the end of this job is not known: %s", error)
        return None
    seconds = _seconds(text)
    return None if seconds is None else time.time() + seconds


def _seconds(text: str) -> float | None:
    """Seconds of [D-][[HH:]MM:]SS; None for UNLIMITED and the like."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (days and not days.isdigit()):
        return None
    parts = ["0"] * (3 - len(parts)) + parts
    hours, minutes, seconds = map(int, parts)
    return int(days or 0) * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds


def submit(script: Path) -> str:
    """Hand a batch script in; the job's id.

    Raises
    ------
    GodeltaError
        SLURM does not take it; the message holds what it says.
    """
    answer = _call(["sbatch", "--parsable", str(script)])
    if answer.returncode != 0:
        raise GodeltaError(
            f"sbatch refuses the job: {_complaint(answer)}",
            where=str(script),
            mend="change the qadapter file of its class in fw_config/, or `resources` of the campaign",
        )
    return answer.stdout.strip().split(";")[0]


def queue(name_start: str = "", *, timeout_s: float = TIMEOUT_S) -> list[BatchJob]:
    """List this user's jobs in the queue whose names begin so.

    Parameters
    ----------
    name_start
        The beginning of the names.
    timeout_s
        How long to wait for SLURM, s.

    Raises
    ------
    GodeltaError
        SLURM does not answer.
    """
    columns = "%i|%j|%T|%P|%L|%R"
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", columns]
    text = _ask(command, timeout_s)
    jobs = []
    for line in text.splitlines():
        job_id, name, state, partition, left, reason = line.strip().split("|", 5)
        if name.startswith(name_start):
            jobs.append(BatchJob(job_id, name, state, partition, reason, left))
    return jobs


def living(job_ids: Collection[str]) -> dict[str, bool]:
    """Which of these jobs still run or wait; those that SLURM says nothing of are left out.

    A job that squeue does not list may be over, or another user's whose jobs are hidden here: only sacct or
    scontrol can call it ended.

    Raises
    ------
    GodeltaError
        SLURM does not answer: nothing is known then.
    """
    if not job_ids:
        return {}
    listed = _ask(["squeue", "--noheader", "--all", "--format", "%i|%T"])
    states = dict(line.strip().split("|", 1) for line in listed.splitlines())
    states |= ended(sorted(set(job_ids) - states.keys()))
    return {job_id: states[job_id] in LIVE for job_id in job_ids if job_id in states}


def ended(job_ids: Sequence[str]) -> dict[str, str]:
    """The states of jobs that have left the queue, as far as sacct or scontrol knows them."""
    if not job_ids:
        return {}
    columns = ["--noheader", "--parsable2", "--allocations", "--format", "JobID,State"]
    found = _states(["sacct", *columns, "--jobs", ",".join(job_ids)])
    for job_id in set(job_ids) - found.keys():  # without accounting SLURM forgets within minutes
        found |= _states(["scontrol", "--oneliner", "show", "job", job_id])
    return found


def _states(command: list[str]) -> dict[str, str]:
    """States by job id; {} where the command has no answer, as on a cluster without accounting."""
    try:
        text = _ask(command)
    except GodeltaError:
        return {}
    pattern = r"^(\d+)\|([A-Z_]+)" if command[0] == "sacct" else r"^JobId=(\d+) .*?\bJobState=([A-Z_]+)"
    return dict(re.findall(pattern, text, flags=re.MULTILINE))


def cancel(job_ids: Sequence[str]) -> None:
    """End jobs: what runs is asked first, by SIGINT, so that nothing is lost; what waits goes.

    Raises
    ------
    GodeltaError
        SLURM does not answer.
    """
    if not job_ids:
        return
    _ask(["scancel", "--quiet", "--state", "PENDING", *job_ids])
    _ask(["scancel", "--quiet", "--signal", "INT", "--batch", *job_ids])


def end(job_ids: Sequence[str]) -> None:
    """End jobs at once, in whatever state: for those that have nothing to lose.

    Raises
    ------
    GodeltaError
        SLURM does not answer.
    """
    if job_ids:
        _ask(["scancel", "--quiet", *job_ids])


def partitions() -> list[str]:
    """Names of the partitions that are up."""
    text = _ask(["sinfo", "--noheader", "--all", "--format", "%R|%a"])
    pairs = (line.strip().split("|", 1) for line in text.splitlines())
    return sorted({name for name, up in pairs if up == "up"})


def rehearse(script: str) -> str:
    """What sbatch says of a script without submitting it: "" where it would be taken, else the complaint."""
    answer = _call(["sbatch", "--test-only"], script)
    return "" if answer.returncode == 0 else _complaint(answer)


def _ask(command: list[str], timeout_s: float = TIMEOUT_S) -> str:
    answer = _call(command, timeout_s=timeout_s)
    if answer.returncode != 0:
        raise GodeltaError(
            f"SLURM does not answer: {_complaint(answer)}",
            where=" ".join(command[:1]),
            mend="see that `sinfo` works on this machine; the same command can be given again at any time",
        )
    return answer.stdout


def _call(
    command: list[str], text: str | None = None, *, timeout_s: float = TIMEOUT_S
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise GodeltaError(
            f"there is no command {command[0]} here",
            mend="go to a machine of the cluster from which jobs are submitted",
        ) from None
    except subprocess.TimeoutExpired:
        raise GodeltaError(
            f"SLURM has not answered for {timeout_s:.0f} s",
            where=command[0],
            mend="try again when `sinfo` answers",
        ) from None


def _complaint(answer: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
    return "; ".join(lines[-3:]) or f"exit code {answer.returncode}"
