"""`godelta init --slurm`: the files that tell which batch jobs to send."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from godelta.cli.console import console
from godelta.cli.init import make_workspace
from godelta.errors import InputError
from godelta.resources import BatchResources

TEMPLATE = "slurm_batch_script.txt"
IDLE = {"search": 300, "reference": 300, "light": 60}


URI_FILE = "~/.config/godelta/mongodb_uri"
SETTINGS_TEXT = """\
# Settings of this workspace. Campaigns are kept in a MongoDB server that every node reaches. Its URI holds a
# password, so it stands elsewhere: in a file that only you can read (uri_file), or in an environment variable
# (uri_env) that batch jobs get too.
database:
  {where}
  name: godelta
# Calculators and commands that campaigns may name beside godelta's own: who writes to the database could name
# others.
programs: [srun, mpirun, mpiexec]
"""


@dataclass(frozen=True)
class SlurmAnswers:
    """What the files are filled in with; None: not said yet.

    Parameters
    ----------
    partition, account
        For every class.
    gpu_partition, gpus
        For searches, where they run on GPUs: partition, and number or type and number of a node's GPUs.
    modules
        Modules to load first, one line each.
    environment
        Folder of the environment with godelta, or a line of shell that activates it.
    foundations
        Names of the foundations, each with an environment of its own after a colon where it needs one.
    reference
        Engine of the reference.
    ranks
        MPI ranks of the reference.
    walltime
        HH:MM:SS of searches and evaluations.
    """

    partition: str | None = None
    account: str | None = None
    gpu_partition: str | None = None
    gpus: str | None = None
    modules: Sequence[str] | None = None
    environment: str | None = None
    foundations: Sequence[str] | None = None
    reference: str | None = None
    ranks: int | None = None
    walltime: str | None = None

    def asked(self) -> "SlurmAnswers":
        """With everything that was not said asked for, or a default where nobody can be asked."""
        ask = _ask if sys.stdin.isatty() and sys.stdout.isatty() else _take_default
        found: dict[str, Any] = {}
        for name, (question, default) in QUESTIONS.items():
            if getattr(self, name) is None:
                answer = ask(question, str(default))
                found[name] = _converted(name, answer)
        return replace(self, **found)


def make_cluster_workspace(
    folder: Path, answers: SlurmAnswers, uri_env: str | None, uri_file: str | None
) -> None:
    """Write a workspace for a cluster, and say what is left to do.

    Raises
    ------
    InputError
        A walltime, partition or the like that SLURM would not understand.
    """
    answers = answers.asked()
    check(answers)
    make_workspace(folder, slurm_files(folder, answers), slurm_settings(uri_env, uri_file))
    step = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    where = f"the variable {uri_env}" if uri_env else f"the file {uri_file or URI_FILE} (mode 0600)"
    console.print(
        f"\nThe database's URI is read from {where}.\nLook at fw_config/*_qadapter.yaml, then:"
        f" [bold]{step}godelta check --slurm && godelta submit FILE --launch[/]",
        soft_wrap=True,  # it is to be copied
    )


def check(answers: SlurmAnswers) -> None:
    """See that the answers can stand in a batch script.

    Raises
    ------
    InputError
        One of them cannot.
    """
    words = {"partition": answers.partition, "account": answers.account, "gpus_per_node": answers.gpus}
    try:
        for partition in (answers.partition, answers.gpu_partition):
            given = words | {"partition": partition, "walltime": answers.walltime, "ntasks": answers.ranks}
            BatchResources.model_validate({key: value for key, value in given.items() if value})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['input']!r}" for e in error.errors())
        raise InputError(
            f"SLURM would not understand {problems}",
            where="godelta init --slurm",
            mend="a wall time is HH:MM:SS or D-HH:MM:SS, GPUs are a number or type:number",
        ) from None


QUESTIONS: dict[str, tuple[str, str]] = {
    "partition": ("Partition (empty: SLURM's default)", ""),
    "account": ("Account to charge (empty: your default)", ""),
    "gpu_partition": ("Partition with GPUs for the searches (empty: they run on CPUs)", ""),
    "gpus": ("GPUs of each search, number or type:number (empty: none)", ""),
    "modules": ("Modules to load, separated by spaces", ""),
    "environment": ("Environment with godelta: a folder, or a line of shell", ""),
    "foundations": ("Foundations, separated by spaces", "chgnet"),
    "reference": ("Engine of the reference", "gpaw"),
    "ranks": ("MPI ranks of the reference", "16"),
    "walltime": ("Wall time of batch jobs, HH:MM:SS", "12:00:00"),
}


def _ask(question: str, default: str) -> str:
    return str(typer.prompt(question, default=default, show_default=bool(default)))


def _take_default(_: str, default: str) -> str:
    return default


def _converted(name: str, answer: str) -> Any:
    if name in ("modules", "foundations"):
        return tuple(answer.split())
    if name == "ranks":
        return int(answer) if answer.isdigit() and int(answer) else 1
    return answer.strip()


def slurm_files(folder: Path, answers: SlurmAnswers) -> dict[Path, str]:
    """The files of a workspace on a cluster, by path; nothing in them is secret."""
    target = folder.resolve() / "fw_config"
    made = {target / TEMPLATE: _read(TEMPLATE)}
    first, *others = answers.foundations or ("chgnet",)
    gpus = answers.gpus or ("1" if answers.gpu_partition else None)
    search: dict[str, object] = {
        "partition": answers.gpu_partition or answers.partition, "gpus": gpus, "cpus": 4, "ntasks": 1,
        "pack": 4, "mem": "16G", "walltime": answers.walltime,
    }  # fmt: skip
    reference: dict[str, object] = {
        "partition": answers.partition, "ntasks": answers.ranks, "pack": 5, "walltime": answers.walltime,
    }  # fmt: skip
    light: dict[str, object] = {
        "partition": answers.partition, "pack": 50, "max_pilots": 2, "mem": "4G", "walltime": "01:00:00",
    }  # fmt: skip
    classes: list[tuple[str, str, str, dict[str, object]]] = [
        ("search", f"search-{_name(first)}", "searches and Δ-training", search),
        *((f"search-{_name(n)}", f"search-{_name(n)}", f"searches with {_name(n)}", search) for n in others),
        ("reference", f"evaluate-{answers.reference}", "evaluations at the reference level", reference),
        ("light", "light", "jobs that take a moment, where no other worker is there to take them", light),
    ]
    environments = {f"search-{_name(n)}": n.partition(":")[2] for n in (first, *others)}
    for name, category, about, values in classes:
        environment = environments.get(category) or answers.environment
        made[target / f"{name}_qadapter.yaml"] = _qadapter(
            folder, name, category, about, values, answers, environment
        )
        taken = category if category == "light" else f"{category}, light"
        made[target / f"{name}_fworker.yaml"] = _read("slurm_fworker.txt").format(name=name, categories=taken)
    return made


def _qadapter(
    folder: Path,
    name: str,
    category: str,
    about: str,
    values: dict[str, object],
    answers: SlurmAnswers,
    environment: str | None,
) -> str:
    role = name.partition("-")[0]
    shown: dict[str, object] = {
        "partition": None, "account": answers.account, "qos": None, "walltime": None, "nodes": 1, "ntasks": 1,
        "cpus": 1, "gpus": None, "mem": None, "pack": 10, "max_pilots": 10,
    } | values  # fmt: skip
    lines = [f"module load {module}" for module in answers.modules or ()]
    lines += activation(environment)
    workspace = shlex.quote(str(folder.resolve()))
    return _read("slurm_qadapter.txt").format(
        name=name,
        about=about,
        role=role,
        category=category,
        template=folder.resolve() / "fw_config" / TEMPLATE,
        command=f"godelta worker --workspace {workspace} --idle {IDLE[role]}",
        prepare="\n".join(f"  {line}" for line in lines),
        **{key: "null" if value in (None, "") else value for key, value in shown.items()},
    )


def slurm_settings(uri_env: str | None, uri_file: str | None) -> str:
    """Text of godelta.yaml: where the database's URI is to be had, never the URI itself."""
    where = f"uri_env: {uri_env}" if uri_env else f"uri_file: {uri_file or URI_FILE}"
    return SETTINGS_TEXT.format(where=where)


def activation(environment: str | None) -> list[str]:
    """Lines of shell that make `godelta` known in a batch job: of the environment named, or of this one."""
    if environment:
        script = Path(environment).expanduser() / "bin" / "activate"
        return [f"source {shlex.quote(str(script.resolve()))}"] if script.is_file() else [environment]
    if sys.prefix != sys.base_prefix:
        return [f"source {shlex.quote(str(Path(sys.prefix) / 'bin' / 'activate'))}"]
    if conda := os.environ.get("CONDA_PREFIX"):
        return ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(conda)}"]
    found = shutil.which("godelta")
    return [f'export PATH={shlex.quote(str(Path(found).parent))}:"$PATH"'] if found else []


def _name(foundation: str) -> str:
    return foundation.partition(":")[0]


def _read(name: str) -> str:
    return (files("godelta.fw_config") / name).read_text(encoding="utf-8")
