"""Batch jobs for what waits: their classes, how many, what they ask for, when none is sent."""

import os
import time
from dataclasses import replace

import pytest
from pydantic import ValidationError

from godelta.cli.init_slurm import SlurmAnswers, slurm_files
from godelta.errors import InputError
from godelta.resources import BatchResources
from godelta.store import campaigns, workers
from godelta.store.workers import WorkerName
from godelta.store.workspace import Workspace
from godelta.workflows import pilots, slurm
from godelta.workflows.batch import BatchWatch
from godelta.workflows.estimate import plan
from godelta.workflows.launcher import Pilots, _workers, own_resources, ready_jobs, wanted
from godelta.workflows.launcher import pilots as count_pilots
from godelta.workflows.planner import advance
from godelta.workflows.resource_classes import class_for, pilot_prefix, read_qadapter
from godelta.workflows.round import categories
from godelta.workflows.slurm import BatchJob
from godelta.workflows.worker import Allocation

ANSWERS = SlurmAnswers(
    "normal",
    "abc123",
    "gpu",
    "a100:1",
    ("gpaw/25",),
    "true",
    ("chgnet", "mace:false"),
    "gpaw",
    32,
    "06:00:00",
)


def write(folder, answers=ANSWERS):
    for path, text in slurm_files(folder, answers).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Workspace(folder)


@pytest.fixture
def cluster_workspace(tmp_path):
    return write(tmp_path / "a cluster's")


def test_fireworks_reads_the_files_too(cluster_workspace):
    from fireworks import FWorker
    from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

    folder = cluster_workspace.folder / "fw_config"
    classes = {path.name.removesuffix("_qadapter.yaml") for path in folder.glob("*_qadapter.yaml")}
    assert classes == {"search", "search-mace", "reference", "light"}
    taken = {name: FWorker.from_file(str(folder / f"{name}_fworker.yaml")).category for name in classes}
    assert taken == {
        "search": ["search-chgnet", "light"],
        "search-mace": ["search-mace", "light"],
        "reference": ["evaluate-gpaw", "light"],
        "light": ["light"],
    }
    script = CommonAdapter.from_file(str(folder / "search-mace_qadapter.yaml")).get_script_str("/tmp")
    assert "#SBATCH --gpus-per-node=a100:1\n" in script
    assert "#SBATCH --partition=gpu\n" in script
    assert "module load gpaw/25\nfalse\n" in script
    assert script.rstrip().endswith('--idle 300 --category "search-mace"')
    assert "$$" not in script


def test_a_campaign_asks_for_more(cluster_workspace, tmp_path):
    own = BatchResources(partition="long", ntasks=64, walltime="2-00:00:00")
    class_ = class_for(cluster_workspace, "evaluate-gpaw+12345678", own)
    assert class_.path.name == "reference_qadapter.yaml"
    script = class_.script(tmp_path, "godelta.00000000.evaluate-gpaw+12345678")
    for line in (
        "partition=long",
        "ntasks=64",
        "time=2-00:00:00",
        "account=abc123",
        "signal=B:INT@120",
        "no-requeue",
    ):
        assert f"#SBATCH --{line}\n" in script
    assert "\nexec godelta worker --workspace " in script
    assert "partition=normal" not in script


@pytest.mark.parametrize(
    "bad",
    [
        {"partition": "a\nrm -rf"},
        {"account": "x y"},
        {"walltime": "soon"},
        {"mem": "$(id)"},
        {"qos": "`id`"},
        {"nodes": 0},
    ],
)
def test_what_could_be_a_command_is_no_resource(bad):
    with pytest.raises(ValidationError):
        BatchResources.model_validate(bad)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("nodes: 1", "noodles: 1", "no place for `noodles`"),
        ("_pack: 5", "_pack: none", "_pack"),
        ("CommonAdapter", "Evil", "_fw_name"),
        ("slurm_batch_script.txt", "nowhere.txt", "cannot be read"),
        ("rocket_launch: ", "# ", "rocket_launch"),
    ],
)
def test_files_that_cannot_be_used(cluster_workspace, old, new, part):
    path = cluster_workspace.folder / "fw_config" / "reference_qadapter.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=r"reference_qadapter\.yaml") as caught:
        read_qadapter(path)
    assert part in str(caught.value)
    assert caught.value.mend


def test_a_workspace_without_files(tmp_path):
    with pytest.raises(InputError, match="godelta init --slurm"):
        class_for(Workspace(tmp_path), "search-chgnet")


def test_categories_follow_resources(cheap_config):
    plain = cheap_config()
    assert categories(plain)["evaluate"] == "evaluate-emt"
    own = cheap_config(resources={"reference": {"walltime": "00:10:00"}})
    again = cheap_config(name="other", resources={"reference": {"walltime": "00:10:00"}})
    longer = cheap_config(resources={"reference": {"walltime": "00:20:00"}})
    assert categories(own) == categories(again)
    assert len({categories(c)["evaluate"] for c in (plain, own, longer)}) == 3
    assert own_resources([own])[categories(own)["evaluate"]].walltime == "00:10:00"
    assert plain.identity() == own.identity()


@pytest.mark.parametrize(
    ("ready", "there", "idle", "number"),
    [
        (0, Pilots(), 0, 0),
        (1, Pilots(), 0, 1),
        (5, Pilots(), 0, 1),
        (6, Pilots(), 0, 2),
        (6, Pilots(waiting=1), 0, 1),
        (6, Pilots(running=1, starting=1), 0, 1),
        (6, Pilots(running=2), 0, 2),
        (6, Pilots(running=2), 2, 0),
        (1000, Pilots(), 0, 10),
        (1000, Pilots(waiting=4, running=5), 0, 1),
    ],
)
def test_how_many(cluster_workspace, ready, there, idle, number):
    class_ = class_for(cluster_workspace, "evaluate-gpaw")
    assert (class_.settings.pack, class_.settings.max_pilots) == (5, 10)
    assert wanted(ready, there, idle, class_) == number


def test_batch_jobs_are_told_by_their_names():
    jobs = [
        BatchJob("1", "godelta.aa.search-chgnet", "PENDING", "p", "Priority", "1:00"),
        BatchJob("2", "godelta.aa.search-chgnet", "RUNNING", "p", "n1", "1:00"),
        BatchJob("3", "godelta.aa.search-chgnet", "RUNNING", "p", "n2", "1:00"),
        BatchJob("4", "godelta.aa.light", "CONFIGURING", "p", "n2", "1:00"),
    ]
    found = count_pilots(jobs, "godelta.aa.", {"3"})
    assert found == {"search-chgnet": Pilots(waiting=1, running=2, starting=1), "light": Pilots(waiting=1)}


def test_only_jobs_of_running_campaigns_count(opened, launchpad, start):
    one, two = start("one"), start("two")
    for campaign_id in (one, two):
        advance(opened, launchpad, campaign_id)
    assert ready_jobs(launchpad, [one, two]) == {"search-ase": 2}
    campaigns.set_state(opened, two, "running", "paused")
    assert ready_jobs(launchpad, [one]) == {"search-ase": 1}
    assert pilot_prefix(opened) == pilot_prefix(opened)


def test_workers_without_a_job(opened, launchpad):
    own = WorkerName.own()
    idle, busy, silent = (replace(own, host=f"node{number}") for number in range(3))
    for name, job in ((idle, "7"), (busy, "8"), (silent, "9")):
        workers.sign_on(opened, name, takes=["search-ase", "light"], batch_job=job)
    launchpad.launches.insert_one({"state": "RUNNING", "fworker": {"name": str(busy)}})
    opened.workers.update_one(
        {"name": silent.process}, [{"$set": {"seen": {"$subtract": ["$seen", 600_000]}}}]
    )
    found, jobs = _workers(opened, launchpad)
    assert found == {"search-ase": 1, "light": 1}
    assert jobs == {"7", "8"}


def test_batch_jobs_that_never_work_are_sent_at_longer_intervals(tmp_path):
    workspace = Workspace(tmp_path)

    def end(category="light", at=0.0, works=False):
        folder = pilots.make_folder(workspace, category)
        pilots.note_sent(folder, f"{at}")
        (folder / "1.out").write_text("no such environment\n")
        if works:
            pilots.note_at_work(workspace, folder)
        for path in folder.iterdir():
            os.utime(path, (at, at))

    assert pilots.stillborn(workspace, "light", [], 0.0) is None
    now = time.time()
    end(at=now - 300)
    end(at=now, works=True)
    end("light+12345678", at=now)
    first = pilots.stillborn(workspace, "light", [], 0.0)
    assert first is not None
    assert (first.count, first.until) == (1, now - 240)
    end(at=now)
    second = pilots.stillborn(workspace, "light", [], 0.0)
    assert second is not None
    assert (second.count, second.until) == (2, now + 120)
    assert "no such environment" in str(second.error())
    for number in range(20):
        end(at=now - number)
    many = pilots.stillborn(workspace, "light", [], 0.0)
    assert many is not None
    assert many.until == now + 3600
    assert pilots.stillborn(workspace, "light", [], now + 1) is None  # a new launcher begins anew
    assert pilots.stillborn(workspace, "light", [f"{now - n}" for n in [*range(20), 300, 0]], 0.0) is None


def test_time_for_one_more_job():
    assert Allocation(None).fits()
    now = time.time()
    assert Allocation(now + 1000).fits()
    assert not Allocation(now + 50, began=now - 10_000).fits()
    assert Allocation(now + 50, began=now - 10).fits()  # short allocations have a short margin
    assert not Allocation(now + 1000, longest=900).fits()
    assert Allocation(now + 1200, longest=900).fits()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-02:03:04", 93784),
        ("2:59", 179),
        ("59", 59),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("NOT_SET", None),
    ],
)
def test_times_of_slurm(text, seconds):
    assert slurm._seconds(text) == seconds


def test_without_slurm(monkeypatch, tmp_path, opened):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm.is_here()
    workers.sign_on(opened, WorkerName.own(), batch_job="1")
    watch = BatchWatch(opened)
    assert watch("1") is None
    assert watch.trouble
    with pytest.raises(Exception, match="no command squeue") as caught:
        slurm.queue()
    assert caught.value.mend


def test_the_estimate_is_of_what_was_measured(tmp_path, opened, cheap_config, start, launchpad, take_jobs):
    workspace = write(tmp_path / "w", replace(ANSWERS, foundations=("ase",), reference="emt", ranks=2))
    config = cheap_config(budget={"evaluations": 10})
    before = plan(config, workspace, opened)
    assert before.jobs == {"search-ase": 2, "light": 2, "evaluate-emt": 1}
    assert not before.costs["reference"].known
    assert before.costs["reference"].cpu_hours == pytest.approx(10 * 600 * 2 / 3600)
    assert "search" not in before.costs
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    take_jobs(campaign_id=campaign_id)
    after = plan(config, workspace, opened)
    assert after.costs["reference"].known
    assert 0 < after.costs["reference"].cpu_hours < 1
    assert after.costs["search"].known
    assert after.costs["search"].gpu_hours > 0
