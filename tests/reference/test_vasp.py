"""The engine for VASP: what is written, what is read, how it fails. VASP itself is not run: a stand-in is."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT

from godelta.errors import InputError
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.registry import check_engine, describe, reference_hash
from godelta.reference.settings import VASPSettings

# Neither in the order of elements nor of the alphabet: VASP's order is another one.
CLUSTER = Atoms("CuOCuO", positions=[[3, 3, 3], [3, 3, 4.9], [5.3, 3, 3], [5.3, 3, 1.1]], cell=[8, 8, 8])

STAND_IN = Path(__file__).with_name("vasp_stand_in.py")


@pytest.fixture
def level(tmp_path):
    """Settings with a stand-in for VASP and POTCAR files that hold no more than their names."""
    for name in ("Cu_pv", "O"):
        folder = tmp_path / "licence" / "potpaw_PBE.54" / name
        folder.mkdir(parents=True)
        (folder / "POTCAR").write_text(f"  PAW_PBE {name} of nobody\n")

    def make(words="", **changes):
        values = {
            "command": f"{sys.executable} {STAND_IN} {words}",
            "version": "6.4.3",
            "pp_path": str(tmp_path / "licence"),
            "potcars": {"Cu": "Cu_pv", "O": "O"},
        }
        return VASPSettings.model_validate(values | changes)

    return make


def test_energy_and_forces_come_back_in_the_order_of_the_structure(level, tmp_path):
    outcome = evaluate_isolated(CLUSTER, level(), tmp_path / "run")
    assert outcome.status == "ok", outcome.message + outcome.log_tail
    atoms = CLUSTER.copy()
    atoms.calc = EMT()
    assert outcome.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(outcome.forces, atoms.get_forces(), atol=1e-6)


def incar(folder: Path) -> dict[str, str]:
    lines = (folder / "INCAR").read_text().splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def test_the_files_of_a_slab_with_spin(level, tmp_path):
    slab = fcc111("Cu", (1, 1, 2), a=3.6, vacuum=6.0, periodic=False)
    slab.append("O")
    slab.positions[-1] = slab.positions[1] + [0, 0, 1.8]
    asked = level(magnetic_moments={"O": 2.0}, incar={"NCORE": 2, "lvdw": True}, custom={"NEWKEY": "1 2"})
    evaluate_isolated(slab, asked, tmp_path)
    written = incar(tmp_path)
    assert float(written["ENCUT"]) == 500
    assert (written["ISYM"], written["NSW"], written["NELM"]) == ("0", "0", "100")
    assert (written["ISPIN"], written["MAGMOM"]) == ("2", "2*0.0000 1*2.0000")
    assert (written["LDIPOL"], written["IDIPOL"]) == (".TRUE.", "3")
    height = slab.cell[2, 2]
    middle = (slab.positions[0, 2] + slab.positions[-1, 2]) / 2 / height
    assert float(written["DIPOL"].split()[2]) == pytest.approx(middle, abs=1e-3)
    assert (written["NCORE"], written["LVDW"]) == ("2", ".TRUE.")
    assert written["NEWKEY"].startswith("1 2")
    points = (tmp_path / "KPOINTS").read_text().split("\n")
    assert points[2][0] in "Gg"
    assert points[3].split() == ["9", "9", "1"]
    assert (tmp_path / "POTCAR").read_text() == "  PAW_PBE Cu_pv of nobody\n  PAW_PBE O of nobody\n"
    assert (tmp_path / "POSCAR").read_text().split("\n")[6].split() == ["2", "1"]


def test_the_second_rung_takes_another_algorithm(level, tmp_path):
    outcome = evaluate_isolated(CLUSTER, level("slow"), tmp_path)
    assert outcome.status == "ok", outcome.message
    assert outcome.tried == ("algo Normal", "algo All")
    assert incar(tmp_path)["ALGO"] == "All"


@pytest.mark.parametrize(
    ("words", "changes", "reason", "message"),
    [
        ("never", {}, "not_converged", "after 100 iterations"),
        ("bad", {}, "engine_error", "VERY BAD NEWS"),
        ("cut", {}, "engine_error", "not whole"),
        ("", {"version": "5.4.4"}, "engine_error", "this is VASP 6.4.3"),
        ("", {"potcars": {"Cu": "Cu_none", "O": "O"}}, "engine_error", "Cu_none"),
        ("", {"command": "vasp.nowhere"}, "engine_error", "cannot be started"),
        ("", {"command": "sh -c 'kill -SEGV $$'"}, "crashed", "SIGSEGV"),
    ],
)
def test_failures_have_a_reason(level, tmp_path, words, changes, reason, message):
    outcome = evaluate_isolated(CLUSTER, level(words, **changes), tmp_path / "run")
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert message in outcome.message


def test_an_algorithm_that_the_user_chose_is_kept(level, tmp_path):
    outcome = evaluate_isolated(CLUSTER, level("never", incar={"ALGO": "Fast"}), tmp_path)
    assert outcome.reason == "not_converged"
    assert incar(tmp_path)["ALGO"] == "Fast"
    assert outcome.tried == ("algo Fast",)


@pytest.mark.parametrize(
    "change",
    [
        {"encut": 501.0},
        {"sigma": 0.06},
        {"ismear": 1},
        {"ediff": 2e-6},
        {"xc": "rpbe"},
        {"version": "6.4.2"},
        {"kpoint_density": 3.1},
        {"dipole_correction": False},
        {"magnetic_moments": {"O": 2.0}},
        {"incar": {"ivdw": 12}},
        {"custom": {"NEWKEY": "1"}},
    ],
)
def test_every_number_is_part_of_the_hash(level, change):
    assert reference_hash(level()) != reference_hash(level(**change))


def test_content_of_potcars_is_part_of_the_hash_and_their_folder_is_not(level, tmp_path):
    plain = reference_hash(level())
    shutil.copytree(tmp_path / "licence", tmp_path / "moved")
    moved = level(pp_path=str(tmp_path / "moved"), command="vasp_gam", max_iterations=50)
    assert reference_hash(moved) == plain
    (tmp_path / "moved" / "potpaw_PBE.54" / "O" / "POTCAR").write_text("another\n")
    assert reference_hash(moved) != plain
    assert describe(moved)["versions"] == {"vasp": "6.4.3"}


def test_what_is_missing_is_named(level, monkeypatch):
    check_engine(level(), [29, 8])
    with pytest.raises(InputError, match="cannot do S"):
        check_engine(level(), [16])
    with pytest.raises(InputError, match="licence of VASP"):
        check_engine(level(potcars={"Cu": "Cu_none"}), [29])
    with pytest.raises(InputError, match="not a POTCAR of Cu"):
        check_engine(level(potcars={"Cu": "O"}), [29])
    with pytest.raises(InputError, match=r"vasp\.nowhere is not found"):
        check_engine(level(command="vasp.nowhere"), [29])
    with pytest.raises(InputError, match="unknown functional pbee"):
        check_engine(level(xc="pbee"), [29])
    monkeypatch.delenv("VASP_PP_PATH", raising=False)
    with pytest.raises(InputError, match="VASP_PP_PATH"):
        check_engine(level(pp_path=None), [29])


@pytest.mark.parametrize(
    ("incar", "words"),
    [({"ivwd": 12}, "did you mean ivdw"), ({"NELM": 5}, "max_iterations"), ({"NSW": 5}, "godelta sets it")],
)
def test_keys_that_are_unknown_or_not_free(level, incar, words):
    with pytest.raises(InputError, match=words):
        check_engine(level(incar=incar), [29])
