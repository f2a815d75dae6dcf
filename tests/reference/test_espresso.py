"""Quantum ESPRESSO with Debian's pseudopotentials: small cells, coarse cutoffs."""

import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk

from godelta.errors import InputError
from godelta.reference.espresso import sections_for
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.program import kpoint_grid, vacuum_middle
from godelta.reference.registry import check_engine, describe, reference_hash
from godelta.reference.settings import EspressoSettings

PSEUDO = Path("/usr/share/espresso/pseudo")
FILES = {"Cu": "Cu.pbe-kjpaw.UPF", "O": "O.pbe-rrkjus.UPF"}
COARSE = {"ecutwfc": 20.0, "ecutrho": 120.0, "conv_thr": 1e-7}
O2 = Atoms("O2", positions=[[0.3, 2, 2], [1.55, 2, 2.1]], cell=[4, 4, 4])
SLAB = Atoms("CuO", positions=[[0, 0, 6.0], [0, 0, 7.7]], cell=[2.8, 2.8, 14.0], pbc=(True, True, False))


def settings(**changes):
    values = {"pseudo_dir": str(PSEUDO), "pseudopotentials": FILES, **COARSE} | changes
    return EspressoSettings.model_validate(values)


def stated(**changes):
    """Settings that ask no program for its version, and need none that is DFT."""
    return settings(**{"version": "6.7MaX", "command": "true"} | changes)


@pytest.fixture
def own_files(tmp_path):
    """A folder of pseudopotentials that needs no package: their content is not looked at."""
    for name in FILES.values():
        (tmp_path / name).write_text("<UPF/>")
    return tmp_path


def test_the_inputs_of_a_cluster_and_of_a_slab():
    cluster = sections_for(stated().model_dump(), O2)
    assert cluster["system"]["occupations"] == "smearing"
    assert "tefield" not in cluster["control"]
    slab = sections_for(
        stated(input_data={"vdw_corr": "d3", "electrons": {"Mixing_Beta": 0.3}}).model_dump(), SLAB
    )
    assert slab["control"]["dipfield"] is True
    assert slab["system"]["vdw_corr"] == "d3"
    assert slab["electrons"]["mixing_beta"] == 0.3
    start, width = slab["system"]["emaxpos"], slab["system"]["eopreg"]
    assert start + width / 2 == pytest.approx((vacuum_middle(SLAB)) % 1)
    assert "tefield" not in sections_for(stated(dipole_correction=False).model_dump(), SLAB)["control"]
    assert "degauss" not in sections_for(stated(degauss=0.0).model_dump(), O2)["system"]


def test_the_vacuum_is_found_wherever_the_slab_lies():
    for shift in (0.0, 4.0, 9.0):
        moved = SLAB.copy()
        moved.positions[:, 2] += shift
        assert vacuum_middle(moved) == pytest.approx(((6.85 + shift) / 14.0 + 0.5) % 1.0)


def test_points_by_density_lie_along_periodic_directions_alone():
    values = stated().model_dump()
    assert kpoint_grid(O2, values) == (1, 1, 1)
    assert kpoint_grid(SLAB, values) == (7, 7, 1)
    assert kpoint_grid(bulk("Cu", cubic=True), values) == (6, 6, 6)
    assert kpoint_grid(SLAB, values | {"kpoints": (2, 3, 1)}) == (2, 3, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"ecutwfc": 21.0},
        {"ecutrho": 121.0},
        {"degauss": 0.011},
        {"smearing": "marzari-vanderbilt"},
        {"conv_thr": 2e-7},
        {"kpoint_density": 3.1},
        {"kpoints": (2, 2, 1)},
        {"dipole_correction": False},
        {"starting_magnetization": {"O": 0.5}},
        {"input_data": {"vdw_corr": "d3"}},
        {"version": "7.2"},
    ],
)
def test_every_number_is_part_of_the_hash(own_files, change):
    plain = {"pseudo_dir": str(own_files), "version": "6.7MaX"}
    assert reference_hash(settings(**plain)) != reference_hash(settings(**(plain | change)))


def test_content_of_pseudopotentials_is_part_of_the_hash_and_their_folder_is_not(own_files, tmp_path):
    plain = reference_hash(stated(pseudo_dir=str(own_files)))
    shutil.copytree(own_files, tmp_path / "elsewhere")
    moved = stated(pseudo_dir=str(tmp_path / "elsewhere"), command="/opt/qe/bin/pw.x", max_iterations=7)
    assert reference_hash(moved) == plain
    (tmp_path / "elsewhere" / FILES["O"]).write_text("<UPF version=2/>")
    assert reference_hash(moved) != plain


def test_what_is_missing_is_named(own_files, monkeypatch):
    there = {"pseudo_dir": str(own_files), "version": "6.7MaX", "command": "true"}
    check_engine(settings(**there), [29, 8])
    with pytest.raises(InputError, match="cannot do S") as caught:
        check_engine(settings(**there), [29, 16])
    assert "reference.pseudopotentials" in str(caught.value)
    with pytest.raises(InputError, match=r"no pseudopotential .*/none\.UPF for O"):
        check_engine(settings(**there, pseudopotentials={"O": "none.UPF"}), [8])
    monkeypatch.delenv("ESPRESSO_PSEUDO", raising=False)
    with pytest.raises(InputError, match="no folder of pseudopotentials"):
        check_engine(stated(pseudo_dir=None), [8])
    monkeypatch.setenv("ESPRESSO_PSEUDO", str(own_files))
    check_engine(stated(pseudo_dir=None), [8])
    with pytest.raises(InputError, match=r"pw\.nowhere is not found"):
        check_engine(settings(**there | {"command": "pw.nowhere"}), [8])
    with pytest.raises(InputError, match="does not tell its version"):
        check_engine(settings(**there | {"version": None}), [8])
    (own_files / FILES["O"]).write_text('<PP_HEADER element="S "/>')
    with pytest.raises(InputError, match="pseudopotential of S, not of O"):
        check_engine(settings(**there), [8])


@pytest.mark.parametrize(
    ("input_data", "words"),
    [
        ({"ecutwcf": 30}, "did you mean ecutwfc"),
        ({"sytem": {"nbnd": 3}}, "did you mean system"),
        ({"system": {"ecutwfc": 30}}, "reference.ecutwfc"),
        ({"electron_maxstep": 3}, "reference.max_iterations"),
        ({"outdir": "/tmp"}, "godelta sets it"),
    ],
)
def test_keys_that_are_unknown_or_not_free(own_files, input_data, words):
    with pytest.raises(InputError, match="input_data") as caught:
        check_engine(stated(pseudo_dir=str(own_files), input_data=input_data), [8])
    assert words in str(caught.value)


def test_the_program_tells_its_version(require):
    require("espresso")
    told = describe(settings())
    assert told["versions"]["pw.x"].startswith(("6.", "7."))
    assert told["settings"]["pseudopotentials"]["O"]["file"] == FILES["O"]


def test_energy_and_forces_and_nothing_large_is_left(require, tmp_path):
    require("espresso")
    outcome = evaluate_isolated(O2, settings(), tmp_path)
    assert outcome.status == "ok", outcome.message
    assert outcome.tried == ("default mixing",)
    assert np.abs(outcome.forces.sum(axis=0)).max() < 0.05
    assert outcome.cost.peak_rss_mb > 20  # of pw.x, which is no child of ours but its child
    assert not (tmp_path / "tmp").exists()
    assert "JOB DONE" in outcome.log_tail


@pytest.mark.slow
def test_forces_are_the_energys_derivative(require, tmp_path):
    require("espresso")
    # Away from grid points of the density the derivative is that of a coarse grid's ripple as well.
    fine = settings(ecutwfc=30.0, ecutrho=300.0, conv_thr=1e-10)
    forces = evaluate_isolated(O2, fine, tmp_path / "0").forces
    energies = []
    for step in (-0.02, 0.02):
        moved = O2.copy()
        moved.positions[1, 0] += step
        energies.append(evaluate_isolated(moved, fine, tmp_path / f"{step}").energy)
    assert forces[1, 0] == pytest.approx((energies[0] - energies[1]) / 0.04, abs=0.05)


@pytest.mark.slow
def test_copper_oxide_slab_with_points_and_dipole_correction(require, tmp_path):
    require("espresso")
    slab = SLAB.copy()
    slab.cell[2, 2] = 11.0
    energies = {}
    for corrected in (True, False):
        level = settings(
            ecutwfc=25.0, kpoints=(2, 2, 1), dipole_correction=corrected, limits={"max_net_force": 1.0}
        )
        outcome = evaluate_isolated(slab, level, tmp_path / str(corrected))
        assert outcome.status == "ok", outcome.message
        energies[corrected] = outcome.energy
    assert 0.01 < energies[True] - energies[False] < 0.5


@pytest.mark.slow
def test_spin_lowers_the_energy_of_oxygen(require, tmp_path):
    require("espresso")
    plain = evaluate_isolated(O2, settings(), tmp_path / "plain")
    spin = evaluate_isolated(O2, settings(starting_magnetization={"O": 0.5}), tmp_path / "spin")
    assert spin.energy < plain.energy - 0.3


@pytest.mark.slow
def test_too_few_iterations_go_on_from_the_last_density(require, tmp_path):
    require("espresso")
    whole = evaluate_isolated(O2, settings(), tmp_path / "whole")
    short = evaluate_isolated(O2, settings(max_iterations=5), tmp_path / "short")
    assert short.status == "ok", short.message
    assert short.tried[:2] == ("default mixing", "continued")
    assert short.energy == pytest.approx(whole.energy, abs=1e-4)
    np.testing.assert_allclose(short.forces, whole.forces, atol=0.01)


@pytest.mark.slow
def test_no_self_consistency_at_any_rung(require, tmp_path):
    require("espresso")
    outcome = evaluate_isolated(O2, settings(max_iterations=1), tmp_path)
    assert outcome.reason == "not_converged"
    assert "convergence NOT achieved" in outcome.message
    assert outcome.tried == ("default mixing", "continued", "mixing 0.2", "wide smearing first")
    assert len(list(tmp_path.glob("espresso*.pwo"))) == 4
    chosen = settings(max_iterations=1, input_data={"mixing_beta": 0.5})
    assert evaluate_isolated(O2, chosen, tmp_path / "chosen").tried == ("default mixing", "continued")


@pytest.mark.parametrize(
    ("change", "atoms", "words"),
    [
        ({"pseudopotentials": {"O": "none.UPF"}}, O2, "none.UPF"),
        ({"input_data": {"system": {"no_such_key": 1}}}, O2, "namelist"),
        ({"version": "5.0"}, O2, "reference.version is 5.0"),
    ],
)
def test_what_pw_x_refuses_is_a_failed_outcome(require, tmp_path, change, atoms, words):
    require("espresso")
    outcome = evaluate_isolated(atoms, settings(**change), tmp_path)
    assert (outcome.status, outcome.reason) == ("failed", "engine_error")
    assert words in outcome.message
    assert outcome.log_tail


def test_no_cell_no_file_no_program(tmp_path):
    boxless = Atoms("O2", positions=O2.positions)
    assert "has none" in evaluate_isolated(boxless, stated(), tmp_path / "a").message
    outcome = evaluate_isolated(O2, stated(command="pw.nowhere"), tmp_path / "b")
    assert (outcome.reason, outcome.message) == (
        "engine_error",
        "pw.nowhere cannot be started: No such file or directory",
    )


EATER = "import time; kept = bytes(400_000_000).replace(bytes(1), bytes([1])); time.sleep(60)"
FAKE = """#!/bin/sh
echo "$@" > command.txt
{line}
"""


@pytest.mark.parametrize(
    ("line", "limits", "reason", "words"),
    [
        ("kill -SEGV $$", {}, "crashed", "SIGSEGV"),
        ("kill -KILL $$", {}, "killed", "SIGKILL"),
        ("kill -TERM $$", {}, "interrupted", "SIGTERM"),
        ("exit 5", {}, "engine_error", "exit code 5"),
        ("echo nothing", {}, "engine_error", "too early"),
        ("sleep 60 & wait", {"wall_seconds": 2.0}, "wall_limit", "2 s"),
        (f"exec {sys.executable} -c '{EATER}'", {"memory_mb": 300.0}, "memory_limit", "limit 300 MB"),
    ],
)
def test_the_end_of_the_program_is_told_through_its_launcher(tmp_path, line, limits, reason, words):
    program = tmp_path / "pw"
    program.write_text(FAKE.format(line=line))
    program.chmod(0o755)
    limits = {"command_prefix": ["env", "RANKS=2"], "wall_seconds": 60.0} | limits
    outcome = evaluate_isolated(O2, stated(command=str(program), limits=limits), tmp_path / "run")
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert words in outcome.message
    assert (tmp_path / "run" / "command.txt").read_text().split() == ["-in", "espresso.pwi"]
    assert not [process for process in psutil.process_iter() if str(tmp_path) in working_folder(process)]


def working_folder(process):
    try:
        return process.cwd()
    except psutil.Error:
        return ""


@pytest.mark.slow
def test_two_ranks_of_pw_x_agree_with_one(require, tmp_path):
    require("espresso")
    require("mpi")
    prefix = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2")
    both = evaluate_isolated(O2, settings(limits={"command_prefix": prefix}), tmp_path / "both")
    one = evaluate_isolated(O2, settings(), tmp_path / "one")
    assert both.status == "ok", both.message + both.log_tail
    assert "2 processors" in (tmp_path / "both" / "espresso.pwo").read_text()
    assert both.energy == pytest.approx(one.energy, abs=1e-4)
