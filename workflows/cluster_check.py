"""`godelta check --slurm` from the submitter's side: one small batch job per class, and what it answers."""

import contextlib
import logging
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from godelta.campaign import CampaignConfig
from godelta.errors import GodeltaError, InputError
from godelta.foundation.base import FoundationIdentity
from godelta.resources import BatchResources
from godelta.store import checks
from godelta.store.checks import CheckLine
from godelta.store.database import Store
from godelta.store.workspace import Workspace
from godelta.workflows import slurm
from godelta.workflows.launcher import own_resources
from godelta.workflows.resource_classes import FOLDER as CONFIG
from godelta.workflows.resource_classes import ROLES, ResourceClass, class_for, read_qadapter, role_of
from godelta.workflows.slurm import WAITING, BatchJob
from godelta.workflows.worker_check import ANSWER, FOLDER, QUESTION, folder_of
from godelta.workflows.worker_needs import Question

PREFIX = "godelta.check."  # no pilot's name begins so
SCRIPT = "FW_submit.script"
SHORT_MINUTES = 10
POLL_S = 1.0
GRACE_S = 15.0  # a file of another node may be seen late
RUN_S = 300.0  # after the time for waiting, for a job that has begun late
KEPT_S = 86_400.0  # folders of jobs that found something wrong
TAIL = 2000, 15  # characters and lines
WORKER = re.compile(r"(\S*godelta\S*)\s+worker(?=\s|$)")
WORKSPACE = re.compile(r"""(?:--workspace|-w)[ =](?:'[^']*'|"[^"]*"|\\.|[^\s'"])+""")

log = logging.getLogger(__name__)


@dataclass
class Probe:
    """A batch job that looks at its surroundings.

    Parameters
    ----------
    class_
        What it stands for.
    token
        Its name in the database and in the workspace.
    job_id
        SLURM's.
    missed
        When it was first not in the queue any more, by the clock of `time.monotonic`.
    """

    class_: ResourceClass
    token: str
    folder: Path
    job_id: str
    missed: float | None = None

    @property
    def category(self) -> str:
        """What its workers would take."""
        return self.class_.category


@dataclass(frozen=True)
class Asked:
    """What the jobs are asked about, beside their classes; None: no campaign."""

    config: CampaignConfig | None = None
    numbers: tuple[int, ...] = ()
    weights: FoundationIdentity | None = None
    reference_hash: str | None = None


def classes(workspace: Workspace, config: CampaignConfig | None) -> dict[str, ResourceClass | GodeltaError]:
    """The classes to check by category: a campaign's own ones, else those of the workspace's files.

    Raises
    ------
    InputError
        The workspace has no files for batch jobs.
    """
    folder = workspace.folder / CONFIG
    if not folder.is_dir():
        raise InputError(
            "the workspace has no batch jobs yet", where=str(workspace.folder), mend="godelta init --slurm"
        )
    found: dict[str, ResourceClass | GodeltaError] = {}
    if config is not None:
        for category, own in sorted((own_resources([config]) | {"light": BatchResources()}).items()):
            found[category] = _or_error(class_for, workspace, category, own)
        return found
    for path in sorted(folder.glob("*_qadapter.yaml")):
        name = path.name.removesuffix("_qadapter.yaml")
        read = _or_error(_class_of, path)
        found[name if isinstance(read, GodeltaError) else read.category] = read
    roles = {ROLES.get(name.partition("-")[0], name.partition("-")[0]) for name in found}
    for start, role in ROLES.items():
        if role not in roles:
            found[start] = _or_error(class_for, workspace, start)
    return found


def _or_error(make: Callable[..., ResourceClass], *arguments: object) -> ResourceClass | GodeltaError:
    try:
        return make(*arguments)
    except GodeltaError as error:
        return error


def _class_of(path: Path) -> ResourceClass:
    settings = read_qadapter(path)
    category = (settings.model_extra or {}).get("category")
    if not isinstance(category, str) or category.partition("-")[0] not in ROLES:
        raise InputError(
            f"no job of godelta has the category {category!r}",
            where=f"{path}, category",
            mend="it is `light`, or as `search-chgnet`: search or evaluate, and the foundation or engine",
        )
    return ResourceClass(category, path, settings, BatchResources())


def check_class(class_: ResourceClass) -> str:
    """See that SLURM would take batch jobs of this class.

    Raises
    ------
    GodeltaError
        It would not, or a partition is down.
    """
    partition = str(class_.fields().get("queue") or "")
    up = slurm.partitions()
    down = [name for name in partition.split(",") if name and name not in up]
    if down:
        raise GodeltaError(
            f"there is no partition {', '.join(down)} that is up",
            where=str(class_.path),
            mend=f"`queue` is one of: {', '.join(up)}",
        )
    complaint = slurm.rehearse(class_.script(class_.path.parent, PREFIX + class_.category))
    if complaint:
        raise GodeltaError(
            f"sbatch refuses it: {complaint}",
            where=str(class_.path),
            mend="partition, account, qos and limits have to be those of your account: `sacctmgr show assoc"
            " user=$USER` and `scontrol show partition` list them",
        )
    asked = class_.fields()
    told = [f"{key} {asked[key]}" for key in ("queue", "account", "qos", "walltime") if asked.get(key)]
    return ", ".join([str(class_.path), *told, "sbatch would take it"])


def send(workspace: Workspace, store: Store, class_: ResourceClass, asked: Asked) -> Probe:
    """Send the batch job of a class, as its workers are sent.

    Raises
    ------
    GodeltaError
        Its folder cannot be written, or SLURM does not take it.
    """
    token = f"{role_of(class_.category)}-{secrets.token_hex(6)}"
    folder = folder_of(workspace, token)
    command = _command(class_, token)
    question = _question(workspace, class_, asked, checks.ask(store, token))
    try:
        folder.mkdir(parents=True)
        (folder / QUESTION).write_text(question.model_dump_json(), encoding="utf-8")
        (folder / SCRIPT).write_text(_script(class_, command, folder), encoding="utf-8")
    except OSError as error:
        raise GodeltaError(
            f"the batch script cannot be written: {error.strerror}",
            where=str(folder),
            mend="make room in the workspace, or lower your quota's use",
        ) from None
    return Probe(class_, token, folder, slurm.submit(folder / SCRIPT))


def _command(class_: ResourceClass, token: str) -> str:
    """What starts the class's worker, with a check in the worker's place."""
    launch = class_.settings.rocket_launch
    worker = WORKER.search(launch)
    if worker is None:
        raise InputError(
            f"it does not start a worker: {launch}",
            where=f"{class_.path}, rocket_launch",
            mend="it ends in: godelta worker --workspace FOLDER --idle 300",
        )
    workspace = WORKSPACE.search(launch, worker.end())
    words = [launch[: worker.start()] + worker[1], "check", "--from-worker", token]
    return " ".join([*words, *([workspace[0]] if workspace else [])])


def _script(class_: ResourceClass, command: str, folder: Path) -> str:
    """The class's batch script for this command, and a short time: a scheduler fits it in sooner."""
    walltime = _shorter(class_.fields().get("walltime"))
    settings = class_.settings.model_copy(update={"rocket_launch": command, "walltime": walltime})
    own = class_.own.model_copy(update={"walltime": None})
    return replace(class_, settings=settings, own=own).script(folder, PREFIX + class_.category)


def _shorter(walltime: str | int | None) -> str:
    """Ten minutes, or the class's time where it is shorter: MM, MM:SS or HH:MM:SS."""
    parts = str(walltime).split(":")
    if all(part.isdigit() for part in parts) and len(parts) <= 3:
        hours, minutes = (int(parts[0]), int(parts[1])) if len(parts) == 3 else (0, int(parts[0]))
        if hours == 0 and minutes < SHORT_MINUTES:
            return str(walltime)
    return f"00:{SHORT_MINUTES}:00"


def _question(workspace: Workspace, class_: ResourceClass, asked: Asked, nonce: str) -> Question:
    from godelta.workflows.submit import package_versions

    fields = class_.fields()
    return Question(
        nonce=nonce,
        workspace=str(workspace.folder),
        role=class_.role,
        category=class_.category,
        versions=package_versions(),
        python=platform.python_version(),
        cpus=int(fields.get("cpus_per_task") or 1),
        gpu=str(fields.get("gpus_per_node") or "0") != "0" or "gpu" in str(fields.get("gres") or ""),
        config=asked.config,
        numbers=asked.numbers,
        weights=asked.weights,
        reference_hash=asked.reference_hash,
    )


def watch(
    store: Store, probes: Sequence[Probe], seconds: float, tell: Callable[[Probe, BatchJob], None]
) -> Iterator[tuple[Probe, list[CheckLine]]]:
    """Wait for the answers, and hand each out as it comes; what does not come becomes a line too.

    Parameters
    ----------
    seconds
        How long a job may wait in the queue.
    tell
        Called at every look with each job that is still in the queue.
    """
    began = time.monotonic()
    left = list(probes)
    while left:
        jobs = {job.job_id: job for job in slurm.queue(PREFIX)}
        waited = time.monotonic() - began
        for probe in tuple(left):
            lines = _answer(store, probe) or _fate(probe, jobs.get(probe.job_id), waited, seconds)
            if lines:
                left.remove(probe)
                yield probe, lines
            elif probe.job_id in jobs:
                tell(probe, jobs[probe.job_id])
        if left:
            time.sleep(POLL_S)


def _answer(store: Store, probe: Probe) -> list[CheckLine] | None:
    """What the job has found: from the database, or from its file where it has another or none."""
    if lines := checks.answer_to(store, probe.token):
        return lines
    try:
        text = (probe.folder / ANSWER).read_bytes()
        return TypeAdapter(list[CheckLine]).validate_json(text)
    except (OSError, ValidationError):
        return None


def _fate(probe: Probe, job: BatchJob | None, waited: float, seconds: float) -> list[CheckLine] | None:
    """What became of a job that has not answered; None while there is hope."""
    if job is None:
        if probe.missed is None:
            probe.missed = time.monotonic()
        return _ended(probe) if time.monotonic() - probe.missed > GRACE_S else None
    if job.state in WAITING and waited > seconds:
        slurm.end([probe.job_id])
        return [
            CheckLine(
                name="batch job",
                verdict="no",
                what=f"job {probe.job_id} has not begun within {seconds:g} s and is cancelled; SLURM says:"
                f" {job.reason.strip('()')}",
                where=f"partition {job.partition}",
                mend="where the queue is only long, wait longer: --seconds 3600; else see what"
                f" {probe.class_.path} asks for",
            )
        ]
    if job.state not in WAITING and waited > seconds + RUN_S:
        slurm.end([probe.job_id])
        what = f"job {probe.job_id} runs, but has not answered, and is cancelled"
        return [_silent(probe, what)]
    return None


def _ended(probe: Probe) -> list[CheckLine]:
    state = slurm.ended([probe.job_id]).get(probe.job_id, "in a state that SLURM does not tell")
    return [_silent(probe, f"job {probe.job_id} ended without an answer: {state}")]


def _silent(probe: Probe, what: str) -> CheckLine:
    """A job that has not answered, with the end of what it printed."""
    outputs = sorted(probe.folder.glob("*.out"))
    printed = outputs[-1].read_text(errors="replace")[-TAIL[0] :].strip() if outputs else ""
    if not printed:
        return CheckLine(
            name="batch job",
            verdict="no",
            what=f"{what}; it printed nothing",
            where=str(probe.folder),
            mend="does the workspace lie on a file system that the compute nodes share? Else see"
            " pre_rocket in"
            f" {probe.class_.path}",
        )
    told = "\n".join(f"       {line}" for line in printed.splitlines()[-TAIL[1] :])
    return CheckLine(
        name="batch job",
        verdict="no",
        what=f"{what}; it printed:\n{told}",
        where=str(outputs[-1]),
        mend=f"see pre_rocket and rocket_launch in {probe.class_.path}",
    )


def clean(store: Store, probes: Sequence[Probe], silent: Sequence[Probe], fine: Sequence[Probe]) -> None:
    """Leave nothing of these jobs: those that are silent are ended, folders of fine ones are removed."""
    try:
        slurm.end([probe.job_id for probe in silent])
    finally:
        checks.forget(store, [probe.token for probe in probes])
        for probe in fine:
            shutil.rmtree(probe.folder, ignore_errors=True)


def sweep(workspace: Workspace) -> None:
    """Remove folders of former checks."""
    for folder in (workspace.state / FOLDER).glob("*"):
        with contextlib.suppress(OSError):  # another check removes them too
            if folder.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)
