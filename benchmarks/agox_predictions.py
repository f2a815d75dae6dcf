"""Predictions of the preset `paper` beside those of AGOX, the papers' own code, on the same data.

AGOX needs an environment of its own (see agox_peer.py):

    python benchmarks/agox_predictions.py agox/bin/python [--write-test-data]

Both train on the same structures with the same hyper-parameters (SOAP r_cut 7 Å, n_max 3, l_max 2,
sigma 1 Å; amplitude 1 eV, length scale 40, noise 0.01 sqrt(n) eV) and predict energies and forces of
structures held out. Where every environment is an inducing point nothing is random; where CUR draws them,
both codes draw several times, and the scatter of their predictions says what a difference means. AGOX
subtracts one mean energy (`centralize=True`), ours is a constant per atom. Clusters are Ag4S2, random ones
after 2 to 24 BFGS steps on CHGNet, with GFN1-xTB minus CHGNet as labels (data/ag4s2.extxyz); slabs have a
toy energy.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from agox_peer import THREADS, sparse_gp

HERE = Path(__file__).resolve().parent
TEST_DATA = HERE.parent / "tests" / "delta" / "data" / "agox_ag4s2.json"
CASES = {  # name: system, structures in training, held out, inducing points, draws
    "clusters, all environments": ("clusters", 100, 40, 1000, 1),
    "clusters, 200 CUR points": ("clusters", 100, 40, 200, 5),
    "slabs, 500 CUR points": ("slabs", 20, 4, 500, 4),
}
TEST_TRAINING, TEST_NEW = 40, 6


def read_case(folder, system, n_training, n_new):
    from ase.io import read

    structures = read(folder / f"{system}.extxyz", ":")
    return structures[:n_training], structures[-n_new:]


def peer(folder: Path) -> None:
    """Runs in AGOX's environment."""
    import numpy as np

    result = {}
    for name, (system, n_training, n_new, points, draws) in json.loads(
        (folder / "cases").read_text()
    ).items():
        training, new = read_case(folder, system, n_training, n_new)
        result[name] = []
        for seed in range(draws):
            np.random.seed(seed)  # noqa: NPY002 - what AGOX draws from
            model = sparse_gp(training[0], points)
            model.train(training)
            energies = [float(model.predict_energy(atoms)) for atoms in new]
            forces = [np.round(model.predict_forces(atoms), 7).tolist() for atoms in new]
            result[name].append({"energies": energies, "forces": forces})
    (folder / "peer.json").write_text(json.dumps(result))


def own(folder: Path) -> dict:
    from godelta.delta.model import train
    from godelta.delta.settings import DeltaSettings

    result = {}
    for name, (system, n_training, n_new, points, draws) in json.loads(
        (folder / "cases").read_text()
    ).items():
        training, new = read_case(folder, system, n_training, n_new)
        labels = [atoms.get_potential_energy() for atoms in training]
        ids = [f"{k:04d}" for k in range(len(training))]
        result[name] = []
        for seed in range(draws):
            settings = DeltaSettings(preset="paper", inducing_points=points, seed=seed)
            model = train(settings, (16, 47), training, [0.0] * len(ids), labels, ids)
            predictions = [model.predict(atoms) for atoms in new]
            result[name].append(
                {
                    "energies": [p.energy for p in predictions],
                    "forces": [p.forces.round(7).tolist() for p in predictions],
                }
            )
    return result


def write_structures(folder: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import read, write
    from delta_cost import slab, toy_residual

    clusters = read(HERE / "data" / "ag4s2.extxyz", ":")
    for atoms in clusters:
        labels = (atoms.info["residual_energy"], atoms.arrays["residual_forces"])
        atoms.calc = SinglePointCalculator(atoms, energy=labels[0], forces=labels[1])
        atoms.info, atoms.arrays = {}, {key: atoms.arrays[key] for key in ("numbers", "positions")}
    write(folder / "clusters.extxyz", clusters)
    slabs = [slab(seed) for seed in range(24)]
    for atoms in slabs:
        atoms.set_constraint()
        forces = 0.0 * atoms.positions
        for index in range(48, 60):  # the atoms of Ag6S6, by central differences
            for axis in range(3):
                for sign in (-1, 1):
                    moved = atoms.copy()
                    moved.positions[index, axis] += sign * 1e-3
                    forces[index, axis] -= sign * toy_residual(moved) / 2e-3
        atoms.calc = SinglePointCalculator(atoms, energy=toy_residual(atoms), forces=forces)
    write(folder / "slabs.extxyz", slabs)


def compare(folder: Path, cases: dict, ours: dict, theirs: dict) -> dict:
    """Differences between the codes, between draws of one code, and from the labels."""
    import numpy as np

    table = {}
    for name, (system, n_training, n_new, points, draws) in cases.items():
        new = read_case(folder, system, n_training, n_new)[1]
        atoms = np.array([len(a) for a in new])
        part = slice(48, None) if system == "slabs" else slice(None)
        truth = {
            "energies": np.array([a.get_potential_energy() for a in new]),
            "forces": np.array([a.get_forces()[part] for a in new]),
        }
        row = {"training": n_training, "held_out": n_new, "inducing_points": points, "draws": draws}
        for key, unit in (("energies", "mev"), ("forces", "mev_per_angstrom")):
            a = np.array([draw[key] for draw in ours[name]])
            b = np.array([draw[key] for draw in theirs[name]])
            a, b = (a[:, :, part], b[:, :, part]) if key == "forces" else (a, b)
            row[f"{key}_{unit}"] = {
                "godelta_mae": 1e3 * float(np.abs(a - truth[key]).mean()),
                "agox_mae": 1e3 * float(np.abs(b - truth[key]).mean()),
                "rms_difference": 1e3 * float(np.sqrt(np.mean((a.mean(axis=0) - b.mean(axis=0)) ** 2))),
                "max_difference": 1e3 * float(np.abs(a.mean(axis=0) - b.mean(axis=0)).max()),
                "godelta_rms_scatter": 1e3 * float(np.sqrt(a.var(axis=0, ddof=1).mean()))
                if draws > 1
                else 0.0,
                "agox_rms_scatter": 1e3 * float(np.sqrt(b.var(axis=0, ddof=1).mean())) if draws > 1 else 0.0,
            }
        row["noise_mev"] = 10.0 * float(np.sqrt(atoms.mean()))
        table[name] = row
    return table


def write_test_data(folder: Path, predictions: dict) -> None:
    """AGOX's predictions with few structures, for a test that needs no AGOX."""
    training, new = read_case(folder, "clusters", TEST_TRAINING, TEST_NEW)
    document = {
        "about": "AGOX 3.11.1 (agox_predictions.py --write-test-data); eV, eV/Å, Å",
        "symbols": str(training[0].symbols),
        "training": [
            {"positions": atoms.positions.round(8).tolist(), "energy": atoms.get_potential_energy()}
            for atoms in training
        ],
        "held_out": [
            {"positions": atoms.positions.round(8).tolist(), "energy": energy, "forces": forces}
            for atoms, energy, forces in zip(new, predictions["energies"], predictions["forces"], strict=True)
        ],
    }
    TEST_DATA.parent.mkdir(exist_ok=True)
    TEST_DATA.write_text(json.dumps(document) + "\n")


def main(python: str, *, test_data: bool) -> None:
    from record import save

    cases = {**CASES, "test": ("clusters", TEST_TRAINING, TEST_NEW, 1000, 1)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_structures(folder)
        (folder / "cases").write_text(json.dumps(cases))
        subprocess.run(
            [python, __file__, "peer", str(folder)], check=True, env=os.environ | THREADS, cwd=folder
        )
        theirs, ours = json.loads((folder / "peer.json").read_text()), own(folder)
        table = compare(folder, cases, ours, theirs)
        if test_data:
            write_test_data(folder, theirs["test"][0])
    packages = subprocess.run(
        [python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True
    ).stdout
    wanted = ("agox", "ase", "numpy", "torch", "dscribe", "scikit-learn")
    peer_versions = [line for line in packages.splitlines() if line.split("==")[0] in wanted]
    raw = {"godelta": ours, "agox": theirs}
    save("agox_predictions", {"agox_versions": peer_versions, "comparison": table, "raw": raw})
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "peer":
        peer(Path(sys.argv[2]))
    else:
        main(sys.argv[1], test_data="--write-test-data" in sys.argv[2:])
