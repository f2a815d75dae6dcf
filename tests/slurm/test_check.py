"""`godelta check --slurm`: batch jobs tell what they find, and what they do not find is named."""

import json
import re
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from kit import REFERENCE, SEARCH, wait_until

from godelta.store.mongod import PrivateMongod

pytestmark = pytest.mark.slow
LINES = {
    SEARCH: ["versions", "threads", "programs", "foundation"],
    REFERENCE: ["versions", "threads", "programs", "reference"],
    "light": ["versions", "threads", "programs"],
}


def check(scene, *words):
    return scene.command("check", "--slurm", *words, "-w", scene.workspace.folder)


@pytest.fixture
def make_scene(make_scene):
    """Scenes whose workspace allows the campaign's calculator."""

    def make(**changes):
        scene = make_scene(**changes)
        settings = scene.workspace.folder / "godelta.yaml"
        text = re.sub(r"(?m)^programs:.*$", "", settings.read_text())
        settings.write_text(f"{text}\nprograms: [counted_emt]\n")
        return scene

    return make


def before(scene, role, *lines):
    """Have the batch jobs of a class do this first, after what they do anyway."""
    path = scene.workspace.folder / "fw_config" / f"{role}_qadapter.yaml"
    own = json.loads(path.read_text())["pre_rocket"]
    scene.adapt(role, pre_rocket="\n".join([own, *lines]) + "\n")


def part_of(out, category):
    """The lines of one class, each with what belongs to it, by name."""
    found = {}
    for text in re.split(r"\n(?=ok  |!!  |no  |\d\d:)", out):
        mark, _, rest = text.partition("  ")
        if mark in ("ok", "!!", "no") and rest.startswith(f"{category} "):
            found[rest.removeprefix(f"{category} ").partition(":")[0]] = mark, rest
    return found


def nothing_is_left(scene):
    wait_until(lambda: not scene.cluster.squeue())
    return scene.db["checks"].count_documents({}) == 0


def test_all_is_well(make_scene, tmp_path):
    scene = make_scene()
    before(scene, "reference", f"export GODELTA_SCRATCH={tmp_path}/disk")
    done = check(scene, scene.file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert nothing_is_left(scene)
    assert list((scene.workspace.state / "checks").iterdir()) == []
    for category, names in LINES.items():
        lines = part_of(done.stdout, category)
        every = ["class", "environment", "workspace", "database", "same database", "clock", "scratch"]
        assert list(lines) == [*every, *names, "end of the job"]
        assert {mark for mark, _ in lines.values()} <= {"ok", "!!"}
        assert re.search(r"round trip \d+\.\d ms", lines["database"][1])
        assert re.search(r"in (9|10) min", lines["end of the job"][1])
    assert "queue second" in part_of(done.stdout, SEARCH)["class"][1]
    assert f"{tmp_path}/disk/godelta-" in part_of(done.stdout, REFERENCE)["scratch"][1]
    assert "data for all elements" in part_of(done.stdout, REFERENCE)["reference"][1]
    assert "GODELTA_SCRATCH is not set" in part_of(done.stdout, "light")["scratch"][1]


def test_without_a_campaign_the_files_tell_the_classes(make_scene):
    scene = make_scene()
    done = check(scene)
    assert done.returncode == 0, done.stdout + done.stderr
    assert part_of(done.stdout, SEARCH)["foundation"][0] == "!!"
    assert part_of(done.stdout, REFERENCE)["reference"][0] == "!!"
    assert set(part_of(done.stdout, "light")) == set(part_of(done.stdout, SEARCH)) - {"foundation"}


def test_a_calculator_that_workers_refuse(make_scene):
    scene = make_scene()
    settings = scene.workspace.folder / "godelta.yaml"
    settings.write_text(settings.read_text().replace("[counted_emt]", "[]"))
    done = check(scene, scene.file)
    assert done.returncode == 1
    for category in LINES:
        lines = part_of(done.stdout, category)
        assert [name for name, (mark, _) in lines.items() if mark == "no"] == ["programs"]
        assert not {"foundation", "reference"} & set(lines)  # not imported


def test_environments_and_partitions_that_are_wrong(make_scene, tmp_path):
    scene = make_scene()
    other = tmp_path / "other" / "ase-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: ase\nVersion: 0.0.1\n")
    before(scene, "search", "echo no such module >&2", "deactivate", "export PATH=/usr/bin:/bin")
    before(scene, "reference", f'export PYTHONPATH="{other.parent}:$PYTHONPATH"')
    scene.adapt("light", queue="nowhere")
    done = check(scene, scene.file)
    assert done.returncode == 1
    assert nothing_is_left(scene)
    mark, text = part_of(done.stdout, SEARCH)["batch job"]
    assert mark == "no"
    assert "ended without an answer: FAILED" in text
    assert "no such module" in text
    assert "godelta is not found in this batch job" in text
    assert "mend: see pre_rocket" in text
    lines = part_of(done.stdout, REFERENCE)
    wrong = {name for name, (mark, _) in lines.items() if mark == "no"}
    assert wrong == {"versions"}
    assert "ase 0.0.1, the submitter's 3." in lines["versions"][1]
    assert set(part_of(done.stdout, "light")) == {"class"}
    assert "there is no partition nowhere that is up" in part_of(done.stdout, "light")["class"][1]
    assert "one of: debug, second" in done.stdout
    kept = re.findall(r"kept: (.+)", done.stdout)
    assert len(kept) == 2
    assert all((Path(folder) / "question.json").is_file() for folder in kept)


def test_databases_and_workspaces_that_are_not_the_same(make_scene, tmp_path, monkeypatch):
    scene = make_scene()
    server = PrivateMongod(tmp_path / "other", idle_minutes=None)
    theirs = server.start()
    try:
        settings = f"database: {{uri_env: TEST_URI, name: {scene.database}}}\nprograms: [counted_emt]\n"
        (scene.workspace.folder / "godelta.yaml").write_text(settings)
        monkeypatch.setenv("TEST_URI", scene.uri)
        away = re.sub(r":\d+/", ":9/", scene.uri)
        before(scene, "search", f"export TEST_URI='{away}'")
        before(scene, "reference", f"export TEST_URI='{theirs}'")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "godelta.yaml").write_text(settings)
        scene.adapt("light", rocket_launch=f"godelta worker --idle 6 --workspace {elsewhere}")
        done = check(scene, scene.file)
    finally:
        server.stop()
    assert done.returncode == 1
    assert nothing_is_left(scene)
    assert "***" not in part_of(done.stdout, "light")["class"][1]
    assert scene.uri.partition("@")[0] not in done.stdout
    wrong = {
        category: {
            name: text for name, (mark, text) in part_of(done.stdout, category).items() if mark == "no"
        }
        for category in LINES
    }
    assert list(wrong[SEARCH]) == ["database"]
    assert "no MongoDB server answers" in wrong[SEARCH]["database"]
    assert "docs/how-to/ssh-tunnel.md" in wrong[SEARCH]["database"]
    assert list(wrong[REFERENCE]) == ["same database"]
    assert "not the submitter's database" in wrong[REFERENCE]["same database"]
    assert list(wrong["light"]) == ["workspace"]
    assert str(elsewhere) in wrong["light"]["workspace"]
    assert str(scene.workspace.folder) in wrong["light"]["workspace"]


def test_weights_that_are_not_there(make_scene, require, tmp_path):
    require("chgnet")
    scene = make_scene(foundation={"name": "chgnet"})
    installed = Path(find_spec("chgnet").origin).parent
    about = next(installed.parent.glob("chgnet-*.dist-info"))
    for folder in (installed, about):
        kept_out = shutil.ignore_patterns("*.tar", "tests")
        shutil.copytree(folder, tmp_path / "lib" / folder.name, ignore=kept_out)
    before(scene, "search", f'export PYTHONPATH="{tmp_path}/lib:$PYTHONPATH"')
    for role in ("reference", "light"):
        scene.adapt(role, queue="nowhere")
    done = check(scene, scene.file)
    assert done.returncode == 1
    lines = part_of(done.stdout, "search-chgnet")
    assert [name for name, (mark, _) in lines.items() if mark == "no"] == ["foundation"]
    assert "lacks its weights: chgnet/pretrained/0.3.0" in lines["foundation"][1]
    assert "mend: pip install --force-reinstall" in lines["foundation"][1]


def test_a_cluster_in_maintenance(make_scene):
    scene = make_scene()
    when = ("starttime=now", "duration=60", "nodes=ALL", "users=nobody", "flags=ignore_jobs")
    scene.cluster.command("scontrol", "create", "reservation", "reservationname=upgrade", *when)
    try:
        done = check(scene, "--seconds", 4)
    finally:
        scene.cluster.command("scontrol", "delete", "reservationname=upgrade")
    assert done.returncode == 1
    for category in LINES:
        mark, text = part_of(done.stdout, category)["batch job"]
        assert mark == "no"
        assert "has not begun within 4 s and is cancelled; SLURM says: ReqNodeNotAvail" in text
    assert re.search(r"light: job \d+ pending", done.stdout)
    assert nothing_is_left(scene)


def test_interrupted(make_scene):
    scene = make_scene()
    for role in ("search", "reference", "light"):
        before(scene, role, "sleep 300")
    process = scene.begin("check", "--slurm", "-w", scene.workspace.folder)
    wait_until(lambda: list(scene.cluster.squeue().values()) == ["RUNNING"] * 3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert b"are cancelled" in out
    assert nothing_is_left(scene)
