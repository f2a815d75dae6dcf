"""What goes into the package, and what must not be imported past it."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAPPED = {"makers": "godelta.makers", "workflows": "godelta.workflows", "fw_config": "godelta.fw_config",
          "examples": "godelta.examples"}  # fmt: skip


@pytest.fixture(scope="module")
def setuptools_settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages_on_disk():
    found = set()
    for folder in (ROOT / "src", *(ROOT / name for name in MAPPED)):
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if parts[0] == "src":
                found.add(".".join(parts[1:]))
            else:
                found.add(".".join((MAPPED[parts[0]], *parts[1:])))
    return found


def test_every_package_is_listed(setuptools_settings):
    assert set(setuptools_settings["packages"]) == packages_on_disk()
    assert len(setuptools_settings["packages"]) == len(set(setuptools_settings["packages"]))


def test_every_module_lies_in_a_package():
    for folder in (ROOT / "src" / "godelta", *(ROOT / name for name in MAPPED)):
        for module in folder.rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), module


def test_no_top_level_package_but_godelta(setuptools_settings):
    assert {name.partition(".")[0] for name in setuptools_settings["packages"]} == {"godelta"}
    assert {v: k for k, v in MAPPED.items()} == {
        k: v for k, v in setuptools_settings["package-dir"].items() if k != "godelta"
    }


@pytest.mark.parametrize("name", ["makers", "workflows"])
def test_not_importable_under_their_folders_names(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"ImportError: import this package as godelta.{name}" in done.stderr


@pytest.mark.slow
def test_the_wheel(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w"]
    source = tmp_path / "source"
    _copy(source)
    done = subprocess.run(
        [*command, str(tmp_path), str(source)], capture_output=True, text=True, check=False, timeout=300
    )
    if "invalid command 'bdist_wheel'" in done.stderr or "No module named" in done.stderr:
        pytest.skip("setuptools is not installed here")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("godelta-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "godelta/py.typed" in names
    assets = ROOT / "src" / "godelta" / "analysis" / "report" / "assets"
    assert {f"godelta/analysis/report/assets/{path.name}" for path in assets.glob("*.*")} <= names
    assert any(name.endswith("3Dmol-LICENSE.txt") and ".dist-info/" in name for name in names)
    for folder in ("fw_config", "examples", "examples/papers"):
        for path in (ROOT / folder).glob("*.yaml"):
            assert f"godelta/{folder}/{path.name}" in names
    for folder, package in MAPPED.items():
        for path in (ROOT / folder).glob("*.py"):
            assert f"{package.replace('.', '/')}/{path.name}" in names
    assert {name.partition("/")[0] for name in names} == {"godelta", _info(names)}
    assert not any("tests" in name or "__pycache__" in name for name in names)


def _info(names):
    return next(name.partition("/")[0] for name in names if ".dist-info/" in name)


def _copy(target):
    """The files that are built from; building in place would leave folders behind."""
    import shutil

    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", *MAPPED):
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
