"""What the jobs of one class need in a batch job: versions, GPU, potential, engine, threads."""

import importlib
import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from godelta.campaign import CampaignConfig
from godelta.errors import GodeltaError, InputError
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.settings import FoundationSettings
from godelta.reference.settings import ReferenceSettings
from godelta.resources import Role
from godelta.settings import Settings
from godelta.store.checks import Check, CheckLine, Doubt, carry_out
from godelta.store.programs import refuse_programs
from godelta.store.workspace import Workspace

# Another version of these changes the last digits, not what documents mean; GPUs need another torch at times.
NUMERICS = frozenset({"numba", "numpy", "scipy", "torch"})
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
MODULES = {"gpaw": "gpaw", "xtb": "tblite.interface"}

_FOUNDATION: TypeAdapter[FoundationSettings] = TypeAdapter(FoundationSettings)
_REFERENCE: TypeAdapter[ReferenceSettings] = TypeAdapter(ReferenceSettings)


class Question(Settings):
    """What a batch job is asked, in a file of the workspace: paths to import are not taken from a database.

    Parameters
    ----------
    nonce
        What the submitter wrote into its database.
    workspace
        The submitter's workspace.
    versions, python
        Of the submitter's packages.
    cpus, gpu
        Cores of each task, and whether a GPU is asked for.
    config
        The campaign, where there is one.
    numbers
        Atomic numbers of all its atoms.
    weights
        What the submitter has loaded as its foundation.
    reference_hash
        Of the campaign's reference, at the submitter's.
    """

    nonce: str
    workspace: str
    role: Role
    category: str
    versions: dict[str, str]
    python: str
    cpus: int = 1
    gpu: bool = False
    config: CampaignConfig | None = None
    numbers: tuple[int, ...] = ()
    weights: FoundationIdentity | None = None
    reference_hash: str | None = None


def check_needs(workspace: Workspace, question: Question) -> list[CheckLine]:
    """Look at what the submitter's class and campaign need."""
    found = [line("versions", lambda: _versions(question)), line("threads", lambda: _threads(question))]
    config = question.config
    if config is not None:
        found.append(line("programs", lambda: _programs(config, workspace)))
        if found[-1].verdict == "no":
            return found  # what may not run is not imported either
    if question.gpu:
        found.append(line("GPU", _gpu))
    if question.role == "search":
        found.append(line("foundation", lambda: _foundation(question)))
    if question.role == "reference":
        found.append(line("reference", lambda: _reference(question)))
    return found


def line(name: str, check: Check) -> CheckLine:
    """Do a check as `carry_out`, for whatever may go wrong: the submitter has to hear of it."""

    def whole() -> str | Doubt:
        try:
            return check()
        except GodeltaError:
            raise
        except Exception as error:
            raise GodeltaError(
                described(error),
                where=socket.gethostname(),
                mend="see its output, and pre_rocket",
            ) from error

    return carry_out(name, whole)


def described(error: Exception) -> str:
    """An error that is none of ours."""
    return f"{type(error).__name__}: {error}"


def _versions(question: Question) -> str | Doubt:
    from godelta.workflows.submit import package_versions

    here = package_versions()
    both = sorted(here.keys() & question.versions.keys())
    other = {n: f"{n} {here[n]}, the submitter's {question.versions[n]}" for n in both}
    other = {name: text for name, text in other.items() if here[name] != question.versions[name]}
    mend = "let pre_rocket activate the environment that you submit from, or install the same in both"
    if other.keys() - NUMERICS:
        raise GodeltaError(
            f"versions differ: {'; '.join(other.values())}", where=f"{sys.prefix}, from here", mend=mend
        )
    if platform.python_version() != question.python:
        other["python"] = f"Python {platform.python_version()}, the submitter's {question.python}"
    if other:
        return Doubt(f"versions differ: {'; '.join(other.values())}", mend)
    return ", ".join(f"{name} {here[name]}" for name in both)


def _programs(config: CampaignConfig, workspace: Workspace) -> str:
    refuse_programs(config, workspace)
    listed = workspace.settings().programs
    return "whatever a campaign names may run" if listed is None else "what the campaign names is allowed"


def _gpu() -> str:
    mend = "see gpus_per_node in the qadapter file, and that torch is built for this node's CUDA driver"
    try:
        import torch
    except ImportError:
        raise GodeltaError("torch is not installed here", where=sys.prefix, mend=mend) from None
    if not torch.cuda.is_available():
        raise GodeltaError(
            f"torch {torch.__version__} sees no GPU; CUDA_VISIBLE_DEVICES is"
            f" {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}",
            where=socket.gethostname(),
            mend=mend,
        )
    torch.zeros(1, device="cuda")  # a driver that is too old fails here only
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"{', '.join(names)}; CUDA {torch.version.cuda}"


def _foundation(question: Question) -> str | Doubt:
    from godelta.foundation import load_foundation

    settings = _foundation_settings(question)
    if settings is None:
        return _not_known(question.category)
    with _offline() as asked_for:
        try:
            identity = load_foundation(settings).identity
        except GodeltaError:
            raise
        except Exception as error:
            wanted = f"; it asked the internet for {', '.join(asked_for)}" if asked_for else ""
            raise GodeltaError(
                f"{settings.name} cannot be loaded here: {described(error)}{wanted}",
                where=socket.gethostname(),
                mend="install its weights where compute nodes find them, with no internet: in the environment"
                " of this class, or by loading it once on the login node where the home folder is shared",
            ) from error
    theirs = question.weights
    if theirs is not None and (identity.version, identity.weights_sha256) != (
        theirs.version,
        theirs.weights_sha256,
    ):
        raise GodeltaError(
            f"{identity.name} {identity.version} has other weights than the submitter's {theirs.version}",
            where=socket.gethostname(),
            mend="use the same environment on both sides",
        )
    found = f"{identity.name} ({identity.version}) on {identity.device}, weights without internet"
    if question.gpu and identity.device == "cpu":
        return Doubt(f"{found}; the GPU stays unused", "`foundation: {device: cuda}` in the campaign's file")
    return found


def _foundation_settings(question: Question) -> FoundationSettings | None:
    """The campaign's, else what the category's name tells."""
    if question.config is not None:
        return question.config.foundation
    try:
        settings = _FOUNDATION.validate_python({"name": question.category.partition("-")[2]})
    except ValidationError:
        return None
    return settings.model_copy(update={"device": "cuda"}) if question.gpu else settings


def _not_known(category: str) -> Doubt:
    return Doubt(f"not looked at: {category} does not tell all", "godelta check --slurm CAMPAIGN_FILE")


@contextmanager
def _offline() -> Iterator[list[str]]:
    """Have this thread reach nothing by network; the hosts that it asks for come into the list."""
    guard = _Offline(threading.get_ident(), [])
    # The hook stays for good, so it has to know when it is over; other threads talk to the database.
    sys.addaudithook(guard)
    try:
        yield guard.asked_for
    finally:
        guard.thread = 0


@dataclass
class _Offline:
    thread: int
    asked_for: list[str]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.getaddrinfo", "socket.connect") or threading.get_ident() != self.thread:
            return
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        if event == "socket.connect" and not isinstance(address, tuple):
            return  # a socket of this machine
        self.asked_for.append(str(host))
        raise OSError(f"no internet: {host}")


def _reference(question: Question) -> str | Doubt:
    from godelta.reference.registry import check_engine, name_of, reference_hash

    settings = _reference_settings(question)
    if settings is None:
        return _not_known(question.category)
    try:
        check_engine(settings, question.numbers)
        if module := MODULES.get(settings.engine):
            importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise GodeltaError(
            f"the engine {settings.engine} cannot be loaded here: {described(error)}",
            where=socket.gethostname(),
            mend="load the libraries that it needs in pre_rocket of the qadapter file",
        ) from error
    prefix = settings.limits.command_prefix
    if prefix and shutil.which(prefix[0]) is None:
        raise InputError(
            f"the command {prefix[0]}, which starts the engine, is not found",
            where=f"{socket.gethostname()}, reference.limits.command_prefix",
            mend="load its module in pre_rocket of the qadapter file",
        )
    here = reference_hash(settings)
    if question.reference_hash is not None and here != question.reference_hash:
        raise GodeltaError(
            f"{name_of(settings)} is another level here than at the submitter's: {here[:12]}, not"
            f" {question.reference_hash[:12]}",
            where=socket.gethostname(),
            mend="the engine's version or files differ: use the same environment on both sides",
        )
    atoms = " and its data for all elements" if question.numbers else ""
    return f"{name_of(settings)}{atoms}, reference hash {here[:12]}"


def _reference_settings(question: Question) -> ReferenceSettings | None:
    if question.config is not None:
        return question.config.reference
    try:
        return _REFERENCE.validate_python({"engine": question.category.partition("-")[2]})
    except ValidationError:
        return None


def _threads(question: Question) -> str | Doubt:
    given = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    wrong = [f"{name}={os.environ.get(name)}" for name in THREADS if os.environ.get(name) != str(given)]
    if given != question.cpus:
        wrong.insert(0, f"SLURM_CPUS_PER_TASK={given}, not {question.cpus}")
    if wrong:
        raise GodeltaError(
            f"threads are not the {question.cpus} cores of a task: {', '.join(wrong)}",
            where=socket.gethostname(),
            mend="remove what sets them after the batch script does; the template is slurm_batch_script.txt",
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else given
    if cores < given:
        return Doubt(
            f"{given} threads share {cores} cores",
            "SLURM binds the job to fewer cores than cpus_per_task: ask the cluster's support",
        )
    return f"{given}, as cpus_per_task"
