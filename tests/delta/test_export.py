"""A model as a folder: the same energies without a database, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

from godelta.delta.export import export_model, load_calculator
from godelta.delta.model import DeltaModel, Learnt, train
from godelta.delta.settings import DeltaSettings
from godelta.errors import GodeltaError, InputError
from godelta.foundation import ASEFoundationSettings, load_foundation

FOUNDATION = ASEFoundationSettings(
    calculator="ase.calculators.lj.LennardJones", arguments={"sigma": 2.2, "epsilon": 0.1}
)


@pytest.fixture
def learnt(cluster, toy_energy):
    structures = [cluster(seed) for seed in range(6)]
    base = load_foundation(FOUNDATION).evaluate(structures).energies
    reference = [toy_energy(atoms) for atoms in structures]
    ids = [f"s{k}" for k in range(6)]
    return Learnt(train(DeltaSettings(), [16, 47], structures, base, reference, ids))


@pytest.fixture
def folder(learnt, tmp_path):
    export_model(tmp_path / "exported", learnt, FOUNDATION, campaign="ag4s3")
    return tmp_path / "exported"


def test_the_same_energies_from_the_folder_alone(folder, learnt, cluster):
    atoms = cluster(20)
    model = DeltaModel(load_foundation(FOUNDATION), learnt.correction)
    batch = model.evaluate([atoms], uncertainty=True)
    atoms.calc = load_calculator(folder)
    assert atoms.get_potential_energy() == batch.energies[0]
    np.testing.assert_array_equal(atoms.get_forces(), batch.forces[0])
    assert atoms.calc.results["uncertainty"] == batch.uncertainties[0]


def test_the_script_in_it(folder, learnt, cluster, tmp_path):
    atoms = cluster(20)
    atoms.write(tmp_path / "one.traj")
    code = (
        "from ase.io import read; from calculator import calculator; a = read('../one.traj');"
        " a.calc = calculator; print(a.get_potential_energy())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    model = DeltaModel(load_foundation(FOUNDATION), learnt.correction)
    assert float(done.stdout) == pytest.approx(model.evaluate([atoms]).energies[0], abs=1e-9)
    text = (folder / "README.md").read_text()
    assert "campaign ag4s3" in text
    assert "S, Ag" in text
    assert "6 evaluations" in text


def test_what_is_damaged_or_different_is_refused(folder):
    about = json.loads((folder / "model.json").read_text())
    whole = (folder / "model.npz").read_bytes()
    (folder / "model.npz").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(GodeltaError, match="damaged"):
        load_calculator(folder)
    (folder / "model.npz").write_bytes(whole)
    other = about | {"identity": about["identity"] | {"weights_sha256": "0" * 64}}
    for changed, said in (
        (other, "are not those that were corrected"),
        (about | {"schema_version": 2}, "newer godelta"),
        (about | {"foundation": {"name": "unheard-of"}}, "no exported model"),
        ([], "no exported model"),
    ):
        (folder / "model.json").write_text(json.dumps(changed))
        with pytest.raises(GodeltaError, match=said):
            load_calculator(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(GodeltaError, match="no exported model"):
        load_calculator(folder)
    (folder / "model.json").unlink()
    with pytest.raises(GodeltaError, match="cannot be read"):
        load_calculator(folder)


def test_what_cannot_be_exported(folder, learnt, tmp_path):
    with pytest.raises(InputError, match="not empty"):
        export_model(folder, learnt, FOUNDATION)
    with pytest.raises(InputError, match="no correction"):
        export_model(tmp_path / "new", Learnt(), FOUNDATION)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        export_model(tmp_path / "file", learnt, FOUNDATION)
