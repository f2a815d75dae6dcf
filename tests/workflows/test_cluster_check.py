"""Checks of a cluster: which jobs are sent, and what a worker's side finds; tests/slurm has a queue."""

import platform
import shlex
import time
from urllib.parse import quote

import pytest

from godelta.cli.init_slurm import SlurmAnswers, slurm_files
from godelta.errors import InputError
from godelta.foundation.base import FoundationIdentity
from godelta.resources import BatchResources
from godelta.store import checks
from godelta.store.workspace import Workspace
from godelta.workflows import worker_check, worker_needs
from godelta.workflows.cluster_check import SCRIPT, _command, _script, _shorter, classes, sweep
from godelta.workflows.resource_classes import class_for
from godelta.workflows.submit import package_versions
from godelta.workflows.worker_check import QUESTION, check_here, folder_of
from godelta.workflows.worker_needs import THREADS, Question, check_needs

ANSWERS = SlurmAnswers("normal", None, "gpu", "a100:1", (), "true", ("chgnet", "mace"), "gpaw", 4, "06:00:00")


@pytest.fixture
def cluster_workspace(tmp_path):
    folder = tmp_path / "a cluster's"
    for path, text in slurm_files(folder, ANSWERS).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Workspace(folder)


@pytest.fixture
def in_job(monkeypatch):
    """The environment of a batch job."""
    for name in THREADS:
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() + 600))
    monkeypatch.delenv("GODELTA_SCRATCH", raising=False)


@pytest.fixture
def question(cheap_config):
    def make(**changes):
        values = {
            "nonce": "n", "workspace": "/w", "role": "light", "category": "light", "cpus": 2,
            "versions": package_versions(), "python": platform.python_version(),
        }  # fmt: skip
        return Question.model_validate(values | changes)

    return make


def found(lines):
    return {line.name: line for line in lines}


def wrong(lines):
    return [line.name for line in lines if line.verdict == "no"]


# The submitter's side


def test_the_files_tell_the_classes(cluster_workspace):
    made = classes(cluster_workspace, None)
    assert set(made) == {"search-chgnet", "search-mace", "evaluate-gpaw", "light"}
    config = cluster_workspace.folder / "fw_config"
    (config / "light_qadapter.yaml").unlink()
    path = config / "search-mace_qadapter.yaml"
    path.write_text(path.read_text().replace("category: search-mace", "category: nonsense"))
    (config / "reference_qadapter.yaml").write_text("[")
    made = classes(cluster_workspace, None)
    assert set(made) == {"search-chgnet", "search-mace", "reference", "light"}
    assert "'nonsense'" in made["search-mace"].what
    assert made["reference"].where.startswith(str(config / "reference_qadapter.yaml"))
    assert "no qadapter file" in made["light"].what
    with pytest.raises(InputError, match="no batch jobs yet"):
        classes(Workspace(config), None)


def test_a_campaign_tells_its_own_classes(cluster_workspace, cheap_config):
    config = cheap_config(resources={"reference": {"ntasks": 2}})
    made = classes(cluster_workspace, config)
    own = next(name for name in made if name.startswith("evaluate-emt+"))
    assert set(made) == {"search-ase", own, "light"}
    assert made[own].fields()["ntasks"] == 2


@pytest.mark.parametrize(
    ("launch", "command"),
    [
        ("godelta worker --idle 6 --workspace /w", "godelta check {} --workspace /w"),
        ("sh /a/godelta.sh godelta worker -w '/a b'", "sh /a/godelta.sh godelta check {} -w '/a b'"),
        ("python -m godelta.cli.main worker", "python -m godelta.cli.main check {}"),
        ('/b/godelta worker --workspace="$A/b c" --idle 9', '/b/godelta check {} --workspace="$A/b c"'),
    ],
)  # fmt: skip
def test_a_check_in_the_workers_place(cluster_workspace, launch, command):
    class_ = class_for(cluster_workspace, "light")
    settings = class_.settings.model_copy(update={"rocket_launch": launch})
    assert _command(type(class_)("light", class_.path, settings, class_.own), "T") == command.format(
        "--from-worker T"
    )


def test_what_is_no_worker_cannot_be_checked(cluster_workspace):
    class_ = class_for(cluster_workspace, "light")
    settings = class_.settings.model_copy(update={"rocket_launch": "rlaunch rapidfire"})
    with pytest.raises(InputError, match="does not start a worker"):
        _command(type(class_)("light", class_.path, settings, class_.own), "T")


def test_the_script_is_the_classs_own_but_for_its_time(cluster_workspace, tmp_path):
    class_ = class_for(cluster_workspace, "search-chgnet", BatchResources(walltime="2-00", mem="8G"))
    command = _command(class_, "T")
    assert shlex.split(command)[-1] == str(cluster_workspace.folder)
    real = class_.script(tmp_path, "job").splitlines()
    checking = _script(class_, command, tmp_path).splitlines()
    changed = [(a, b) for a, b in zip(real, checking, strict=True) if a != b]
    assert [b for _, b in changed] == [
        "#SBATCH --job-name=godelta.check.search-chgnet",
        "#SBATCH --time=00:10:00",
        f'exec {command} --category "search-chgnet"',
    ]
    assert "#SBATCH --mem=8G" in checking


@pytest.mark.parametrize("short", ["5", "05:30", "00:09:59", 3])
def test_a_time_that_is_short_already(short):
    assert _shorter(short) == str(short)


@pytest.mark.parametrize("long", ["12:00:00", "10", "1-00", "0-00:05", None, "x", "00:10:00"])
def test_a_time_that_is_long(long):
    assert _shorter(long) == "00:10:00"


def test_former_folders_are_swept(tmp_path):
    import os

    workspace = Workspace(tmp_path)
    for token, age in (("old", 90_000), ("new", 0)):
        folder = folder_of(workspace, token)
        folder.mkdir(parents=True)
        (folder / SCRIPT).write_text("")
        os.utime(folder, (time.time() - age,) * 2)
    sweep(workspace)
    assert [path.name for path in (workspace.state / "checks").iterdir()] == ["new"]


# The worker's side


def test_the_answer_goes_into_the_submitters_database(workspace, opened, question, in_job):
    nonce = checks.ask(opened, "T")
    folder = folder_of(workspace, "T")
    folder.mkdir(parents=True)
    (folder / QUESTION).write_text(question(nonce=nonce).model_dump_json())
    lines = check_here(workspace, "T")
    assert wrong(lines) == []
    assert checks.answer_to(opened, "T") == lines
    assert list(folder.iterdir()) == [folder / QUESTION]
    checks.forget(opened, ["T"])
    assert opened.db["checks"].count_documents({}) == 0


def test_nothing_of_the_submitter_is_there(workspace, opened, in_job, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = found(check_here(workspace, "T"))
    assert lines["workspace"].verdict == "no"
    assert "share" in lines["workspace"].mend
    assert {"same database", "versions"}.isdisjoint(lines)


def test_a_user_that_may_only_read(workspace, opened, mongod_uri, in_job):
    user, password = "reader", "only-reading-4711"
    opened.db.command("createUser", user, pwd=password, roles=["read"])
    try:
        host = mongod_uri.rpartition("@")[2].partition("/")[0]
        uri = f"mongodb://{user}:{quote(password)}@{host}/?authSource={opened.db.name}"
        settings = workspace.folder / "godelta.yaml"
        settings.write_text(f"database: {{uri: '{uri}', name: {opened.db.name}}}\n")
        lines = found(check_here(workspace, "T"))
    finally:
        opened.db.command("dropUser", user)
    assert lines["database"].verdict == "no"
    assert "cannot be written with a majority" in lines["database"].what
    assert "readWrite" in lines["database"].mend
    assert password not in str(lines)


def test_a_database_far_away(workspace, opened, in_job, monkeypatch):
    monkeypatch.setattr(worker_check, "SLOW_MS", 0.0)
    lines = found(check_here(workspace, "T"))
    assert lines["database"].verdict == "doubt"
    assert "round trip" in lines["database"].what


@pytest.mark.parametrize(("ahead", "verdict"), [(2.0, "ok"), (-20.0, "doubt"), (90.0, "no"), (-90.0, "no")])
def test_clocks(workspace, opened, in_job, monkeypatch, ahead, verdict):
    clock = time.time
    monkeypatch.setattr("godelta.workflows.worker_check.time.time", lambda: clock() + ahead)
    line = found(check_here(workspace, "T"))["clock"]
    assert line.verdict == verdict
    told = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database server's"
    assert told in line.what


def test_scratch_that_is_full_or_read_only(workspace, opened, in_job, tmpfs, monkeypatch):
    monkeypatch.setenv("GODELTA_SCRATCH", str(tmpfs.folder))
    lines = found(check_here(workspace, "T"))
    assert "No space left" in lines["scratch"].what
    assert "GODELTA_SCRATCH" in lines["scratch"].mend
    tmpfs.read_only()
    assert "Read-only" in found(check_here(workspace, "T"))["scratch"].what
    monkeypatch.setenv("GODELTA_SCRATCH", "here")
    assert "whole path" in found(check_here(workspace, "T"))["scratch"].what


def test_little_room(workspace, opened, in_job, monkeypatch):
    monkeypatch.setattr(worker_check, "MIN_FREE", 1e30)
    assert found(check_here(workspace, "T"))["scratch"].verdict == "doubt"


def test_outside_of_a_batch_job(workspace, opened, in_job, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID")
    assert "does not know" in found(check_here(workspace, "T"))["end of the job"].what


def test_versions(workspace, question, in_job):
    same = package_versions()
    for changes, verdict in (
        ({"versions": same | {"numpy": "0"}}, "doubt"),
        ({"python": "2.7"}, "doubt"),
        ({"versions": same | {"godelta": "9", "numpy": "0"}}, "no"),
        ({"versions": {"godelta": same["godelta"], "not-here": "1"}}, "ok"),
    ):
        line = found(check_needs(workspace, question(**changes)))["versions"]
        assert line.verdict == verdict, line
    assert found(check_needs(workspace, question(python="2.7")))["versions"].what.endswith("submitter's 2.7")


def test_threads(workspace, question, in_job, monkeypatch):
    assert found(check_needs(workspace, question()))["threads"].verdict in (
        "ok",
        "doubt",
    )  # as many cores as here
    line = found(check_needs(workspace, question(cpus=4)))["threads"]
    assert (line.verdict, "SLURM_CPUS_PER_TASK=2, not 4" in line.what) == ("no", True)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert "MKL_NUM_THREADS=1" in found(check_needs(workspace, question()))["threads"].what
    for name in THREADS:
        monkeypatch.setenv(name, "5000")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5000")
    assert found(check_needs(workspace, question(cpus=5000)))["threads"].verdict == "doubt"


def test_a_gpu_that_is_not_there(workspace, question, in_job, require, monkeypatch):
    require("chgnet")
    import torch

    if torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = found(check_needs(workspace, question(gpu=True)))["GPU"]
    assert "sees no GPU" in line.what
    assert "gpus_per_node" in line.mend


def test_a_gpu_that_stays_unused(workspace, question, in_job, cheap_config):
    asked = question(
        role="search", category="search-ase", gpu=True, config=cheap_config().model_dump(mode="json")
    )
    line = found(check_needs(workspace, asked))["foundation"]
    assert line.verdict == "doubt"
    assert "device: cuda" in line.mend


def test_weights_and_references_that_differ(workspace, question, in_job, cheap_config):
    config = cheap_config().model_dump(mode="json")
    weights = FoundationIdentity(
        name="x", version="0", weights_sha256="y", dtype="float32", device="cpu", energy_scale="z"
    )
    asked = question(role="search", category="search-ase", config=config, weights=weights)
    assert "other weights" in found(check_needs(workspace, asked))["foundation"].what
    asked = question(role="reference", category="evaluate-emt", config=config, reference_hash="0" * 64)
    assert "another level" in found(check_needs(workspace, asked))["reference"].what


def test_engines_that_cannot_be_used(workspace, question, in_job, cheap_config, monkeypatch):
    config = cheap_config(reference={"limits": {"command_prefix": ["no-such-srun"]}}).model_dump(mode="json")
    asked = question(role="reference", category="evaluate-emt", config=config, numbers=(29, 47))
    assert "no-such-srun" in found(check_needs(workspace, asked))["reference"].what
    config = cheap_config().model_dump(mode="json")
    asked = question(role="reference", category="evaluate-emt", config=config, numbers=(92,))
    assert "cannot do U" in found(check_needs(workspace, asked))["reference"].what
    monkeypatch.setitem(worker_needs.MODULES, "emt", "no_such_library")
    line = found(check_needs(workspace, question(role="reference", category="evaluate-emt")))["reference"]
    assert "cannot be loaded here: ModuleNotFoundError" in line.what


def test_weights_that_would_come_from_the_internet(
    workspace, question, in_job, cheap_config, tmp_path, monkeypatch
):
    (tmp_path / "needs_internet.py").write_text(
        "import urllib.request\n"
        "class Potential:\n"
        "    def __init__(self):\n"
        "        urllib.request.urlopen('http://weights.example.org/a.pt', timeout=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    foundation = {"name": "ase", "calculator": "needs_internet.Potential"}
    config = cheap_config(foundation=foundation).model_dump(mode="json")
    asked = question(role="search", category="search-ase", config=config)
    line = found(check_needs(workspace, asked))["foundation"]
    assert line.verdict == "no"
    assert "weights.example.org" in line.what
    with worker_needs._offline() as asked_for:
        pass
    assert asked_for == []


def test_what_nobody_foresaw_is_a_line(workspace, question, in_job, monkeypatch):
    def broken():
        raise RuntimeError("mongodb://me:secret-word@host/ is broken")

    line = worker_needs.line("thing", broken)
    assert (line.verdict, line.what) == ("no", "RuntimeError: mongodb://***@host/ is broken")
