"""Evaluations that are kept: nothing twice, nothing lost, whoever computes."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from godelta.errors import GodeltaError, InputError
from godelta.foundation import kept as module
from godelta.foundation.base import FoundationIdentity
from godelta.foundation.elsewhere import evaluate_elsewhere
from godelta.foundation.kept import Kept, evaluate_kept, read_kept
from godelta.foundation.settings import ASEFoundationSettings, CHGNetSettings

EMT_SETTINGS = ASEFoundationSettings(calculator="ase.calculators.emt.EMT")


def dimers(count):
    return {
        f"dimer-{k}": Atoms("CuAg", [[0, 0, 0], [0, 0, 2.2 + 0.1 * k]], cell=[9] * 3) for k in range(count)
    }


def by_hand(structures):
    energies, forces = {}, {}
    for name, atoms in structures.items():
        energies[name] = EMT().get_potential_energy(atoms)
        forces[name] = EMT().get_forces(atoms)
    return energies, forces


def same(found, structures):
    energies, forces = by_hand(structures)
    assert found.energies == pytest.approx(energies)
    for name, expected in forces.items():
        assert found.forces[name] == pytest.approx(expected)


@pytest.fixture
def counted(monkeypatch):
    """How many structures a calculator is asked for; after `stop` it is interrupted."""
    asked = {"count": 0, "stop": None}
    calculate = EMT.calculate

    def count(self, *arguments, **keywords):
        if asked["count"] == asked["stop"]:
            raise KeyboardInterrupt
        asked["count"] += 1
        return calculate(self, *arguments, **keywords)

    monkeypatch.setattr(EMT, "calculate", count)
    return asked


def test_a_second_call_computes_nothing_and_a_longer_one_what_is_new(tmp_path, counted):
    told = []
    same(evaluate_kept(EMT_SETTINGS, tmp_path / "kept", dimers(3)), dimers(3))
    counted["count"] = 0
    again = evaluate_kept(EMT_SETTINGS, tmp_path / "kept", dimers(3))
    assert counted["count"] == 0
    assert again.has(dimers(3))
    assert not again.has(dimers(4))
    longer = evaluate_kept(EMT_SETTINGS, tmp_path / "kept", dimers(5), lambda *now: told.append(now))
    assert (counted["count"], told) == (2, [(5, 5)])
    same(longer, dimers(5))
    (only,) = read_kept(tmp_path / "kept")
    same(only, dimers(5))
    assert only.settings == EMT_SETTINGS


def test_an_interruption_keeps_what_is_done(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    counted["stop"] = 5
    with pytest.raises(KeyboardInterrupt):
        evaluate_kept(EMT_SETTINGS, tmp_path, dimers(8))
    (left,) = read_kept(tmp_path)
    assert len(left.energies) == 4
    counted |= {"stop": None, "count": 0}
    evaluate_kept(EMT_SETTINGS, tmp_path, dimers(8))
    assert counted["count"] == 4


def test_processes_at_once_lose_nothing(tmp_path):
    identity = FoundationIdentity(
        name="a/b", version="1", weights_sha256=None, dtype="float32", device="cpu", energy_scale="x"
    )

    def add(k):
        Kept(CHGNetSettings(), identity, {f"{k}": float(k)}, {f"{k}": np.full((2, 3), k)}).add_to(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    (found,) = read_kept(tmp_path)
    assert found.energies == {f"{k}": float(k) for k in range(24)}
    assert all((found.forces[f"{k}"] == k).all() for k in range(24))
    assert not list(tmp_path.glob("*.tmp"))


def test_other_weights_have_another_file(tmp_path):
    old, new = (
        FoundationIdentity(
            name="x", version="1", weights_sha256=sha, dtype="float32", device="cpu", energy_scale="x"
        )
        for sha in ("0" * 64, "1" * 64)
    )
    assert Kept(CHGNetSettings(), old).file != Kept(CHGNetSettings(), new).file


def test_damage_is_told(tmp_path):
    evaluate_kept(EMT_SETTINGS, tmp_path, dimers(2))
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GodeltaError, match="cannot be read"):
        read_kept(tmp_path)
    with pytest.raises(GodeltaError, match="cannot be kept"):
        Kept(EMT_SETTINGS, _identity(tmp_path)).add_to(path)


def _identity(_folder):
    return FoundationIdentity(
        name="x", version="1", weights_sha256=None, dtype="float64", device="cpu", energy_scale="x"
    )


def test_another_python_gives_the_same(tmp_path):
    told = []
    evaluate_elsewhere(sys.executable, EMT_SETTINGS, tmp_path, dimers(3), lambda *now: told.append(now))
    (found,) = read_kept(tmp_path)
    same(found, dimers(3))
    assert told == [(3, 3)]


def test_whoever_stops_waiting_ends_the_other_python_and_keeps_what_it_has_done(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_elsewhere(sys.executable, EMT_SETTINGS, tmp_path, dimers(70), stop)
    (found,) = read_kept(tmp_path)  # written by the time that the call has ended
    assert len(found.energies) >= module.BATCH
    same(found, {name: atoms for name, atoms in dimers(70).items() if name in found.energies})


def _program(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_what_may_be_wrong_with_another_python(tmp_path, monkeypatch):
    def ask(program, settings=EMT_SETTINGS):
        evaluate_elsewhere(program, settings, tmp_path / "kept", dimers(1), lambda *now: None)

    with pytest.raises(InputError, match="cannot be started"):
        ask(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="has no godelta"):
        ask(_program(tmp_path / "bare", f'exec {sys.executable} -I -S "$@"'))
    with pytest.raises(GodeltaError, match=r"exit code 7 there: out of luck"):
        ask(_program(tmp_path / "unlucky", "echo out of luck >&2; exit 7"))
    with pytest.raises(InputError, match="cannot be imported"):
        ask(sys.executable, ASEFoundationSettings(calculator="nowhere.Calculator"))
    monkeypatch.setattr("godelta.__version__", "0.0.0", raising=False)
    with pytest.raises(InputError, match=r"0\.0\.0 where it was asked from"):
        ask(sys.executable)
    assert not read_kept(tmp_path / "kept")


def test_a_potential_that_fails_there(tmp_path):
    unknown = {"gold-less": Atoms("Og2", [[0, 0, 0], [0, 0, 3]], cell=[9] * 3)}
    with pytest.raises(GodeltaError, match="failed: NotImplementedError"):
        evaluate_elsewhere(sys.executable, EMT_SETTINGS, tmp_path, unknown, lambda *now: None)
