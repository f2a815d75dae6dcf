"""`godelta phase-diagram`, on oxygen above Cu(111) in EMT: crude, and done by hand beside it."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from godelta.analysis.gas import DIATOMICS
from godelta.cli.phase_levels import half_a_molecule
from godelta.errors import InputError
from godelta.reference.settings import EspressoSettings, GPAWSettings, VASPSettings
from godelta.store import campaigns
from godelta.systems.packing import unpack_problem

SYSTEM = {"kind": "surface", "builder": "fcc111", "element": "Cu", "size": [2, 2, 2], "fixed_layers": 2}


@pytest.fixture
def finish_on_slab(finish):
    def make(name, formula, **changes):
        system = SYSTEM | {"formula": formula} | changes.pop("system", {})
        foundation = {"name": "ase", "calculator": "ase.calculators.emt.EMT", "arguments": {}}
        return finish(name=name, system=system, foundation=foundation, **changes)

    return make


@pytest.fixture
def ask(inside, workspace):
    return lambda *given: inside("phase-diagram", *given, "--workspace", workspace.folder)


def _by_hand(opened, name):
    """Energies of the clean slab, of a copper atom and of half a molecule, by ASE alone."""
    problem = unpack_problem(campaigns.load_problem(opened, campaigns.get_campaign(opened, name).campaign_id))
    slab = problem.template.copy()
    slab.calc = EMT()
    molecule = Atoms("O2", [[6, 6, 6], [6, 6, 7.3]], cell=[12] * 3, calculator=EMT())
    BFGS(molecule, logfile=None).run(fmax=0.001)
    lowest = np.inf
    for a in np.linspace(3.5, 3.7, 201):
        crystal = bulk("Cu", a=a)
        crystal.calc = EMT()
        lowest = min(lowest, crystal.get_potential_energy())
    area = np.linalg.norm(np.cross(*slab.cell[:2]))
    return slab.get_potential_energy(), lowest, 0.5 * molecule.get_potential_energy(), area


@pytest.mark.slow
def test_lines_ranges_and_the_picture(finish_on_slab, ask, opened, tmp_path):
    for name, formula in (("one", "O"), ("two", "CuO2")):
        finish_on_slab(name, formula)
    picture, page = tmp_path / "phases.png", tmp_path / "phases.html"
    words = ("--from", "-2", "--to", "4", "--plot", picture, "--report", page, "--format", "json")
    answer = ask("one", "two", *words)
    assert answer.code == 0, answer.err
    assert picture.stat().st_size > 10_000
    report = page.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in report
    found = answer.json()
    clean, copper, oxygen, area = _by_hand(opened, "one")
    assert found["levels"]["clean"] == pytest.approx(clean, abs=1e-6)
    assert found["levels"]["solids"]["Cu"] == pytest.approx(copper, abs=1e-4)
    assert found["levels"]["gas_energy"] == pytest.approx(oxygen, abs=1e-3)
    one, two = found["phases"]
    assert one["slope"] == pytest.approx(-1 / area)
    assert two["slope"] == pytest.approx(-2 / area)
    assert one["intercept"] == pytest.approx((one["energy"] - clean - oxygen) / area, abs=1e-4)
    assert two["intercept"] == pytest.approx((two["energy"] - clean - copper - 2 * oxygen) / area, abs=1e-4)
    assert found["stable"][0]["low"] == -2.0
    assert found["stable"][-1]["high"] == 4.0
    for phase in found["phases"]:
        assert f"<td>{phase['energy']:.4f}</td>" in report
        assert f'["structure","{phase["structure_id"][:8]}"]' in report
    table = ask("one", "two")
    assert table.code == 0, table.err
    assert "CuO2" in table.out.replace("Cu1", "Cu")
    assert "not refined is no minimum" in table.out


@pytest.mark.slow
def test_a_study_stands_for_its_campaigns(finish_on_slab, ask):
    for formula in ("O", "CuO2"):
        finish_on_slab(f"oxides.{formula}", formula, tags=["oxides"])
    found = ask("oxides", "oxides.O", "--format", "json").json()
    assert [row["name"] for row in found["phases"]] == ["oxides.O", "oxides.CuO2"]


@pytest.mark.slow
def test_clusters(finish, ask, tmp_path):
    for formula in ("Cu4", "Cu3Ag", "Cu2Ag2"):
        finish(name=formula, system={"formula": formula})
    picture = tmp_path / "clusters.png"
    found = ask("Cu4", "Cu3Ag", "Cu2Ag2", "--plot", picture, "--format", "json").json()
    assert picture.stat().st_size > 5000
    energies = {row["name"]: row["energy"] for row in found["clusters"]}
    silver, copper = (
        Atoms(symbol, cell=[12] * 3, calculator=EMT()).get_potential_energy() for symbol in ("Ag", "Cu")
    )
    assert found["elements"] == pytest.approx({"Cu": copper, "Ag": silver})  # no cluster of silver alone
    mixed = next(row for row in found["clusters"] if row["name"] == "Cu3Ag")
    assert mixed["formation"] == pytest.approx((energies["Cu3Ag"] - 3 * copper - silver) / 4)
    given = ask("Cu4", "Cu3Ag", "--solid", "Ag=-1.5", "--format", "json").json()["elements"]
    assert given == pytest.approx({"Cu": energies["Cu4"] / 4, "Ag": -1.5})
    shown = ask("Cu4", "Cu3Ag", "--solid", "Ag=-1.5")
    assert shown.code == 0, shown.err
    assert "Ag -1.5000" in shown.out
    assert "free atom" not in shown.out


def test_energies_can_be_given(finish_on_slab, ask):
    finish_on_slab("two", "CuO2")
    levels = ask("two", "--gas-energy", "-4.5", "--solid", "Cu=-3.25", "--format", "json").json()["levels"]
    assert levels["gas_energy"] == -4.5
    assert levels["solids"] == {"Cu": -3.25}


@pytest.mark.slow
def test_what_cannot_be_compared(finish_on_slab, finish, ask):
    finish_on_slab("one", "O")
    finish_on_slab("larger", "O", system={"size": [3, 2, 2]})
    finish_on_slab("other", "O", reference={"engine": "ase", "calculator": "ase.calculators.emt.EMT"})
    finish(name="cluster")
    for names, said in (
        (("one", "larger"), "its slab is another one than that of one"),
        (("one", "other"), "energies of different references never mix"),
        (("one", "cluster"), "it is no surface"),
        (("one", "nobody"), "nobody"),
    ):
        answer = ask(*names)
        assert answer.code == 2, answer
        assert said in answer.err.replace("\n", " ")


def test_another_version_of_the_engine_is_refused(finish_on_slab, ask, opened):
    finish_on_slab("one", "O")
    opened.campaigns.update_one({"name": "one"}, {"$set": {"reference_hash": "0" * 64}})
    evaluations = opened.db["evaluations"]
    evaluations.update_many({}, {"$set": {"reference_hash": "0" * 64}})
    answer = ask("one")
    assert answer.code == 2
    assert "another version of the engine" in answer.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--solid", "Cu"), "no energy of an element"),
        (("--gas", "N"), "is not clear"),
        (("--from", "1", "--to", "0"), "no range"),
        (("--plot", "/nowhere/phases.png"), "cannot be written"),
        (("--plot", "phases.nothing"), "cannot be written"),
        (("--report", "/proc/none/phases.html"), "cannot be written"),
    ],
)
def test_options_that_make_no_sense(finish_on_slab, ask, options, said):
    finish_on_slab("one", "O")
    answer = ask("one", *options)
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.parametrize(
    "reference",
    [
        GPAWSettings(),
        EspressoSettings(pseudopotentials={"O": "O.UPF"}, starting_magnetization={"Cu": 0.5}),
        VASPSettings(version="6.4.3", potcars={"O": "O"}),
    ],
)
def test_a_triplet_is_not_computed_without_spin(reference, tmp_path):
    with pytest.raises(InputError, match="O2 is a triplet"):
        half_a_molecule(DIATOMICS["O"], reference, tmp_path)
