"""The Δ-model's energy and forces beside those of AGOX, the papers' own code, in one run.

AGOX needs an environment of its own:

    python -m venv agox && agox/bin/pip install torch agox==3.11.1 ase==3.27.0 "numpy<2.4"
    python benchmarks/agox_delta.py agox/bin/python

Both train on the same structures (SOAP r_cut 7 Å, n_max 3, l_max 2, sigma 1 Å, 1000 CUR points) and predict
the same new structures, in turn, one thread each. CPU milliseconds of energy + forces, without a foundation.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
TRAINING, NEW, TURNS = 100, 5, 3


def peer(folder: Path) -> None:
    """Runs in AGOX's environment."""
    from agox.environments import Environment
    from agox.models.descriptors import SOAP
    from agox.models.GPR import SparseGPR
    from agox.models.GPR.kernels import RBF, Constant
    from agox.utils.sparsifiers import CUR
    from ase.io import read

    result = {}
    for name in ("cluster", "slab"):
        training, new = (read(folder / f"{name}-{kind}.extxyz", ":") for kind in ("training", "new"))
        symbols, periodic = training[0].get_chemical_formula(), bool(training[0].pbc.any())
        environment = Environment(template=training[0][:0], symbols=symbols, use_box_constraint=False)
        model = SparseGPR(
            descriptor=SOAP(environment=environment, r_cut=7, nmax=3, lmax=2, sigma=1, periodic=periodic),
            kernel=Constant(1) * RBF(length_scale=40),
            sigma=0.01,
            sparsifier=CUR(m_points=1000),
            use_ray=False,
        )
        model.train(training)

        def predict(atoms, model=model):
            model.predict_energy(atoms)
            model.predict_forces(atoms)

        result[name] = timed(predict, new, 1)
    (folder / "peer.json").write_text(json.dumps(result))


def timed(predict, structures, repeats):
    for atoms in structures[:2]:
        predict(atoms)
    times = []
    for _ in range(repeats):
        for atoms in structures:
            start = time.process_time()
            predict(atoms)
            times.append(1e3 * (time.process_time() - start))
    return times


def own(folder: Path) -> None:
    """Runs in this environment."""
    from ase.io import read

    from godelta.delta.model import train
    from godelta.delta.settings import DeltaSettings

    result = {}
    for name in ("cluster", "slab"):
        training, new = (read(folder / f"{name}-{kind}.extxyz", ":") for kind in ("training", "new"))
        energies = [atoms.get_potential_energy() for atoms in training]
        ids = [f"{k:04d}" for k in range(len(training))]
        model = train(DeltaSettings(preset="paper"), (16, 47), training, [0.0] * len(ids), energies, ids)
        result[name] = timed(model.predict, new, 10)
    (folder / "own.json").write_text(json.dumps(result))


def write_structures(folder: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write
    from delta_cost import SYSTEMS, toy_residual

    for name, make in SYSTEMS.items():
        for kind, seeds in (("training", range(TRAINING)), ("new", range(1000, 1000 + NEW))):
            structures = [make(seed) for seed in seeds]
            for atoms in structures:
                atoms.set_constraint()
                energy = toy_residual(atoms)
                atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=0.0 * atoms.positions)
            write(folder / f"{name}-{kind}.extxyz", structures)


def main(python: str) -> None:
    import numpy as np
    from record import save

    raw = {"godelta": {"cluster": [], "slab": []}, "agox": {"cluster": [], "slab": []}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_structures(folder)
        for _ in range(TURNS):
            for code, interpreter, mode in (("godelta", sys.executable, "own"), ("agox", python, "peer")):
                command = [interpreter, __file__, mode, str(folder)]
                subprocess.run(command, check=True, env=os.environ | THREADS, cwd=folder)
                for name, times in json.loads((folder / f"{mode}.json").read_text()).items():
                    raw[code][name] += times
    medians = {
        code: {name: float(np.median(times)) for name, times in systems.items()}
        for code, systems in raw.items()
    }
    ratios = {name: medians["agox"][name] / medians["godelta"][name] for name in ("cluster", "slab")}
    save("agox_delta", {"median_ms": medians, "agox_over_godelta": ratios, "raw_ms": raw})
    print(json.dumps({"median_ms": medians, "agox_over_godelta": ratios}, indent=1))


if __name__ == "__main__":
    modes = {"own": own, "peer": peer}
    if len(sys.argv) == 3 and sys.argv[1] in modes:
        modes[sys.argv[1]](Path(sys.argv[2]))
    else:
        main(sys.argv[1])
