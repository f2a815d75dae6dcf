"""Nothing of the database is run but godelta's own jobs: real documents, a real LaunchPad, a real worker."""

import copy
from pathlib import Path

import pytest

from godelta.store import campaigns
from godelta.workflows.planner import advance
from godelta.workflows.trust import SPEC_KEYS, UntrustedError, check_job, check_output, refused_jobs

SCRIPT = "{{fireworks.user_objects.firetasks.script_task.ScriptTask}}"
PYTHON = "{{fireworks.user_objects.firetasks.script_task.PyTask}}"


@pytest.fixture
def trace(tmp_path):
    """A file that is there as soon as anything foreign has run."""
    return tmp_path / "was-here"


@pytest.fixture
def round_jobs(start, opened, launchpad):
    """The stored jobs of a planned round by name, and its campaign."""
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    return campaign_id, {raw["name"]: raw for raw in launchpad.fireworks.find().sort("fw_id")}


def touching(trace):
    """Documents that would touch a file, were anything built from them: the change to a good job by name."""

    def tasks(*given):
        return lambda raw: raw["spec"].update(_tasks=list(given))

    def job(**changes):
        return lambda raw: raw["spec"]["_tasks"][0]["job"].update(changes)

    def argument(value):
        return job(function_args=[value])

    def spec(**changes):
        return lambda raw: raw["spec"].update(changes)

    path, touch = str(trace), f"touch {trace}"
    script = {"_fw_name": SCRIPT, "script": [touch], "use_shell": True}
    system = {"@module": "os", "@callable": "system", "@bound": None}
    popen = {"@module": "subprocess", "@class": "Popen", "@version": None, "args": ["touch", path]}
    return {
        "a script": tasks(script),
        "a short name": tasks(script | {"_fw_name": "ScriptTask"}),
        "a python task": tasks({"_fw_name": PYTHON, "func": "os.system", "args": [touch]}),
        "a script within": spec(extra={"deep": [script]}),
        "a background task": spec(_background_tasks=[{"_fw_name": "BackgroundTask", "tasks": [script]}]),
        "os.system as the job": job(function=system, function_args=[touch]),
        "os.system by way of godelta": job(
            function={"@module": "godelta.workflows.slurm", "@callable": "os.system", "@bound": None},
            function_args=[touch],
        ),
        "what godelta imported": job(
            function={"@module": "godelta.workflows.worker", "@callable": "contextlib.chdir", "@bound": None},
            function_args=["/"],
        ),
        "a helper of godelta": job(
            function={
                "@module": "godelta.workflows.launchpad",
                "@callable": "_write_private",
                "@bound": None,
            },
            function_args=[path, "x"],
        ),
        "a class of jobflow": argument(
            {"@module": "jobflow.settings", "@class": "JobflowSettings", "CONFIG_FILE": path}
        ),
        "a file as an argument": argument({"@module": "pathlib", "@class": "Path", "args": [path]}),
        "a process as an argument": argument({"deep": [[popen]]}),
        "a process in the maker": lambda raw: raw["spec"]["_tasks"][0]["job"]["function"]["@bound"].update(
            name=popen
        ),
        "another maker": lambda raw: raw["spec"]["_tasks"][0]["job"]["function"].update({"@bound": popen}),
        "the inner parts of a maker": lambda raw: raw["spec"]["_tasks"][0]["job"]["function"].update(
            {"@callable": "SearchMaker.__init__"}
        ),
        "a schema": job(output_schema={"@module": "subprocess", "@callable": "Popen"}),
        "a store": lambda raw: raw["spec"]["_tasks"][0].update(store={"docs_store": {"path": path}}),
        "another folder": spec(_launch_dir=path),
        "files to copy": spec(_files_in={"a": path}, _files_prev={"a": "/etc/hostname"}),
        "files to look at": spec(_trackers=[{"filename": "/etc/hostname", "nlines": 1}]),
        "a recovery": spec(_recovery={"_prev_dir": "/etc", "_mode": "cp", "_task_n": 0}),
        "a search for duplicates": spec(_dupefinder={"_fw_name": "DupeFinderExact"}),
    }


def poisoned(launchpad, fw_id, change):
    """Change a stored job."""
    raw = launchpad.fireworks.find_one({"fw_id": fw_id})
    change(raw)
    launchpad.fireworks.replace_one({"fw_id": fw_id}, raw)


def test_jobs_of_real_rounds_pass(round_jobs, launchpad, take_jobs):
    campaign_id, jobs = round_jobs
    assert list(jobs) == ["search", "select", "evaluate", "retrain", "advance_campaign"]
    take_jobs(campaign_id=campaign_id)
    documents = [*launchpad.fireworks.find(), *launchpad.launches.find()]
    assert len(documents) == 20
    for raw in documents:
        check_job(raw)
    for raw in launchpad.db.job_outputs.find():
        check_output(raw)
    assert {key for raw in launchpad.fireworks.find() for key in raw["spec"] if key[0] == "_"} <= SPEC_KEYS


@pytest.mark.parametrize("name", touching(Path("x")))
def test_foreign_documents_are_refused(round_jobs, trace, name):
    raw = copy.deepcopy(round_jobs[1]["search"])
    touching(trace)[name](raw)
    with pytest.raises(UntrustedError):
        check_job(raw)
    assert not trace.exists()


def test_fireworks_alone_would_have_run_them(round_jobs, launchpad, trace, tmp_path, monkeypatch):
    from fireworks import FWorker, LaunchPad
    from fireworks.core.rocket_launcher import launch_rocket

    monkeypatch.chdir(tmp_path)
    poisoned(launchpad, round_jobs[1]["search"]["fw_id"], touching(trace)["os.system as the job"])
    launch_rocket(LaunchPad(**launchpad.to_dict()), FWorker(name="plain"))
    assert trace.exists()


def test_foreign_jobs_are_set_aside_and_the_others_go_on(round_jobs, launchpad, take_jobs, opened, trace):
    campaign_id, jobs = round_jobs
    for number, change in enumerate(touching(trace).values(), start=100):
        raw = copy.deepcopy(jobs["search"])
        del raw["_id"]
        raw |= {"fw_id": number, "created_on": "2000-01-01T00:00:00+00:00"}  # before all others
        del raw["spec"]["godelta_campaign"]  # the planner clears away what is of a campaign, but of no round
        change(raw)
        launchpad.fireworks.insert_one(raw)
    take_jobs(idle_seconds=1.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert not trace.exists()
    foreign = list(launchpad.fireworks.find({"fw_id": {"$gte": 100}}))
    assert {raw["state"] for raw in foreign} == {"DEFUSED"}
    assert not any(raw["launches"] for raw in foreign)
    reasons = {number: reason for number, _, reason in refused_jobs(opened.db)}
    assert set(reasons) == {raw["fw_id"] for raw in foreign}
    assert "ScriptTask" in reasons[100]


def test_workflows_that_fireworks_itself_added(launchpad, take_jobs, trace, opened):
    from fireworks import Firework, PyTask, ScriptTask, Workflow

    parent = Firework([ScriptTask.from_str(f"touch {trace}")], name="script")
    child = Firework([PyTask(func="os.system", args=[f"touch {trace}"])], parents=[parent], name="python")
    launchpad.add_wf(Workflow([parent, child]))
    assert take_jobs() == 0
    assert not trace.exists()
    states = {raw["name"]: raw["state"] for raw in launchpad.fireworks.find()}
    assert states == {"script": "DEFUSED", "python": "WAITING"}
    assert launchpad.workflows.find_one()["fw_states"] == {
        str(parent.fw_id): "DEFUSED",
        str(child.fw_id): "WAITING",
    }


@pytest.mark.parametrize("name", ["a script", "os.system as the job", "a process as an argument"])
@pytest.mark.parametrize("victim", ["select", "evaluate"])
def test_a_job_poisoned_while_it_waits(round_jobs, launchpad, take_jobs, trace, opened, name, victim):
    campaign_id, jobs = round_jobs
    poisoned(launchpad, jobs[victim]["fw_id"], touching(trace)[name])
    take_jobs(campaign_id=campaign_id)
    assert not trace.exists()
    states = {raw["name"]: raw["state"] for raw in launchpad.fireworks.find()}
    assert states[victim] == "DEFUSED"
    assert states["search"] == "COMPLETED"  # its neighbour has done nothing wrong
    assert [number for number, _, _ in refused_jobs(opened.db)] == [jobs[victim]["fw_id"]]


def test_a_poisoned_round_is_planned_anew(round_jobs, launchpad, take_jobs, trace, opened, monkeypatch):
    from datetime import timedelta

    monkeypatch.setattr("godelta.workflows.health.STUCK_AFTER", timedelta(seconds=0.2))
    monkeypatch.setattr("godelta.workflows.worker.PLAN_EVERY_S", 0.5)
    campaign_id, jobs = round_jobs
    poisoned(launchpad, jobs["select"]["fw_id"], touching(trace)["a script"])
    take_jobs(campaign_id=campaign_id, idle_seconds=5.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert not trace.exists()


def test_a_poisoned_record_of_a_launch(round_jobs, launchpad, take_jobs, trace, opened):
    campaign_id, jobs = round_jobs
    script = {"_fw_name": SCRIPT, "script": [f"touch {trace}"], "use_shell": True}
    launch = {
        "launch_id": 1, "fw_id": jobs["search"]["fw_id"], "state": "RESERVED", "launch_dir": "/",
        "fworker": {"name": "x", "category": "", "query": "{}", "env": {}}, "host": "", "ip": "",
        "trackers": [], "state_history": [{"state": "RESERVED", "created_on": "2000-01-01T00:00:00+00:00"}],
        "action": {"additions": [{"fws": [{"spec": {"_tasks": [script]}}], "links": {}}]},
    }  # fmt: skip
    launchpad.launches.insert_one(launch)
    launchpad.fireworks.update_one({"fw_id": launch["fw_id"]}, {"$set": {"launches": [1]}})
    with pytest.raises(UntrustedError):
        launchpad.get_launch_by_id(1)
    launchpad.fireworks.update_one({"fw_id": launch["fw_id"]}, {"$set": {"state": "READY"}})
    assert take_jobs(campaign_id=campaign_id) == 0
    assert not trace.exists()
    assert launchpad.fireworks.find_one({"fw_id": launch["fw_id"]})["state"] == "DEFUSED"


@pytest.mark.parametrize(
    "output",
    [
        {"status": {"@module": "subprocess", "@class": "Popen", "args": ["touch", "TRACE"]}},
        [{"@module": "os", "@callable": "system", "@bound": None}],
        {"@module": "jobflow.core.reference", "@class": "OutputReference", "uuid": "x", "attributes": []},
        {"deep": [{"_fw_name": SCRIPT, "script": ["touch TRACE"]}]},
    ],
)
def test_a_poisoned_output_stays_unread(round_jobs, launchpad, take_jobs, trace, opened, output):
    """The next job fails with the reason, and the planner makes the round anew with outputs of its own."""
    campaign_id, jobs = round_jobs
    text = repr(output).replace("TRACE", str(trace))
    uuid = jobs["search"]["spec"]["_tasks"][0]["job"]["uuid"]
    # jobflow takes the output with the highest index.
    launchpad.db.job_outputs.insert_one({"uuid": uuid, "index": 7, "output": eval(text)})
    take_jobs(campaign_id=campaign_id, idle_seconds=3.0)
    assert not trace.exists()
    failed = launchpad.launches.find_one({"state": "FIZZLED"})
    assert "no plain data" in failed["action"]["stored_data"]["_exception"]["_stacktrace"]
    assert failed["fw_id"] == jobs["select"]["fw_id"]


@pytest.mark.parametrize(
    ("part", "listed"), [("foundation", True), ("foundation", False), ("reference", True)]
)
def test_a_poisoned_campaign(round_jobs, engine, launchpad, take_jobs, opened, trace, part, listed):
    """It runs what it names, unless the workspace lists what may be run."""
    campaign_id, _ = round_jobs
    if listed:
        with (engine.folder / "godelta.yaml").open("a") as stream:
            stream.write("programs: [ase]\n")
    kind = {"foundation": {"name": "ase"}, "reference": {"engine": "ase"}}[part]
    system = kind | {"calculator": "os.system", "arguments": {"command": f"touch {trace}"}}
    opened.campaigns.update_one({"campaign_id": campaign_id}, {"$set": {f"config.{part}": system}})
    take_jobs(campaign_id=campaign_id)
    assert trace.exists() != listed
    if listed:
        failed = launchpad.launches.find_one({"state": "FIZZLED"})
        assert "does not allow" in failed["action"]["stored_data"]["_exception"]["_stacktrace"]


def test_a_campaign_that_grows_by_its_own_jobs(launchpad, take_jobs, opened, cheap_config):
    """A flow of plain jobflow, put on the queue: makers as arguments, and jobs that add others."""
    from jobflow.managers.fireworks import flow_to_workflow

    from godelta.workflows.campaign_flow import CampaignFlowMaker

    launchpad.add_wf(flow_to_workflow(CampaignFlowMaker().make(cheap_config(name="grown"))))
    assert take_jobs(idle_seconds=2.0) == 11
    assert campaigns.get_campaign(opened, "grown").state == "finished"
    assert not refused_jobs(opened.db)
