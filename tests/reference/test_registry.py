import importlib.metadata

import numpy as np
import pytest
from ase import Atoms
from pydantic import TypeAdapter

from godelta.errors import InputError, MissingExtraError
from godelta.reference import registry
from godelta.reference.registry import check_engine, describe, reference_hash
from godelta.reference.settings import (
    ASESettings,
    EMTSettings,
    GPAWSettings,
    Limits,
    ReferenceSettings,
    XTBSettings,
)
from godelta.systems import Confinement, SearchProblem

LJ = "ase.calculators.lj.LennardJones"


def test_hash_tells_levels_apart_and_ignores_limits(require):
    require("tblite")
    plain = reference_hash(XTBSettings())
    assert plain == reference_hash(XTBSettings(limits=Limits(wall_seconds=1.0), max_iterations=9))
    others = [
        XTBSettings(electronic_temperature=301.0),
        XTBSettings(accuracy=0.1),
        EMTSettings(),
        ASESettings(calculator=LJ),
        ASESettings(calculator=LJ, arguments={"rc": 5.0}),
    ]
    assert len({plain, *map(reference_hash, others)}) == 6


def test_hash_does_not_depend_on_the_order_of_arguments():
    a, b = {"rc": 5.0, "sigma": 2.0}, {"sigma": 2.0, "rc": 5.0}
    assert reference_hash(ASESettings(calculator=LJ, arguments=a)) == reference_hash(
        ASESettings(calculator=LJ, arguments=b)
    )


def test_hash_changes_with_the_version_of_the_engine(monkeypatch):
    before = reference_hash(EMTSettings())
    monkeypatch.setattr(registry, "version", lambda name: "0.0.1")
    assert reference_hash(EMTSettings()) != before


def test_hash_of_a_users_module_follows_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_potential.py"
    module.write_text("from ase.calculators.lj import LennardJones as Mine\n")
    settings = ASESettings(calculator="my_potential.Mine")
    before = reference_hash(settings)
    assert reference_hash(settings) == before
    module.write_text("from ase.calculators.morse import MorsePotential as Mine\n")
    assert reference_hash(settings) != before


def test_description_is_plain_and_complete():
    told = describe(ASESettings(calculator=LJ, arguments={"rc": 5.0}))
    assert told["name"] == "ase-LennardJones"
    assert told["versions"] == {"ase": importlib.metadata.version("ase")}
    assert told["settings"]["arguments"] == {"rc": 5.0}
    assert "limits" not in told["settings"]
    assert told["reference_hash"] == reference_hash(ASESettings(calculator=LJ, arguments={"rc": 5.0}))


def test_missing_package_names_the_extra(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(registry, "version", nothing)
    with pytest.raises(MissingExtraError, match=r"godelta\[xtb\]"):
        check_engine(XTBSettings(), [47])
    with pytest.raises(MissingExtraError, match=r"godelta\[gpaw\]"):
        check_engine(GPAWSettings(), [47])


def test_elements_beyond_an_engine_are_named(require):
    check_engine(EMTSettings(), [29, 79])
    with pytest.raises(InputError, match="emt engine cannot do Si, S"):
        check_engine(EMTSettings(), [29, 16, 14])
    require("tblite")
    check_engine(XTBSettings(), [1, 86])
    with pytest.raises(InputError, match="cannot do U"):
        check_engine(XTBSettings(), [92])


def test_xtb_is_for_clusters(require):
    require("tblite")
    confinement = Confinement(np.eye(3) * 8, np.zeros(3), (True, True, True))
    for periodic in (False, True):
        template = Atoms(cell=np.eye(3) * 10, pbc=periodic)
        problem = SearchProblem(template, np.zeros(0, dtype=bool), np.array([47, 47]), confinement)
        if periodic:
            with pytest.raises(InputError, match="clusters"):
                check_engine(XTBSettings(), problem)
        else:
            check_engine(XTBSettings(), problem)


@pytest.mark.parametrize(
    "path", ["no.such.module.Class", "LennardJones", "ase.Atoms", "ase.units.Bohr", "ase.calculators.lj.Nope"]
)
def test_path_that_is_no_calculator_is_an_input_error(path):
    with pytest.raises(InputError, match=path):
        check_engine(ASESettings(calculator=path), [29])


def test_settings_are_told_apart_by_engine():
    adapter = TypeAdapter(ReferenceSettings)
    assert isinstance(adapter.validate_python({"engine": "gpaw", "settings": "pbe-light"}), GPAWSettings)
    with pytest.raises(ValueError, match="cutof"):
        adapter.validate_python({"engine": "gpaw", "cutof": 1})


@pytest.mark.parametrize(
    "values",
    [
        {"engine": "espresso", "pseudopotentials": {"Cu": "Cu.UPF"}, "pseudo_dir": "pseudo"},
        {"engine": "espresso", "pseudopotentials": {"Cu": "Cu.UPF"}, "command": "bin/pw.x"},
        {"engine": "vasp", "version": "6.4.3", "potcars": {"Cu": "Cu"}, "pp_path": "licence"},
    ],
)
def test_paths_that_mean_another_place_to_each_process_are_refused(values):
    with pytest.raises(ValueError, match="absolute path"):
        TypeAdapter(ReferenceSettings).validate_python(values)
