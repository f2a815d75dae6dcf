"""Forces in training: displaced copies beside derivatives of the kernel, errors against cost.

    python benchmarks/delta_forces.py

Ag4S2 with GFN1-xTB minus CHGNet as labels (data/ag4s2.extxyz: 140 random clusters, 2 to 24 BFGS steps).
Structures held out are always others than those trained on; several draws of both. One thread; CPU seconds of
the whole training from nothing. Numbers go to results/delta_forces.json.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from record import save

from godelta.delta.model import train
from godelta.delta.settings import DeltaSettings

SIZES, HELD_OUT, DRAWS = (10, 30, 60, 100), 40, 3
CASES: dict[str, dict[str, Any]] = {
    "paper": {"preset": "paper"},
    "energies only": {"force_directions": 0},
    "1 copy": {"forces_as": "copies", "force_directions": 1},
    "3 copies": {"forces_as": "copies", "force_directions": 3},
    "18 copies": {"forces_as": "copies", "force_directions": 18},
    "1 derivative": {"force_directions": 1},
    "3 derivatives": {"force_directions": 3},
    "all derivatives (default)": {},
    "accurate": {"preset": "accurate"},
    "energies only, leave-one-out": {"force_directions": 0, "hyperparameters": "leave_one_out"},
    "all derivatives, leave-one-out": {"hyperparameters": "leave_one_out"},
    "energies only, fixed": {"force_directions": 0, "hyperparameters": "fixed"},
    "all derivatives, fixed": {"hyperparameters": "fixed"},
}


def measure() -> list[dict[str, Any]]:
    structures = read(Path(__file__).parent / "data" / "ag4s2.extxyz", ":")
    energies = np.array([atoms.info["residual_energy"] for atoms in structures])
    forces = [atoms.arrays["residual_forces"] for atoms in structures]
    rows = []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(structures))
        held_out, pool = order[:HELD_OUT], order[HELD_OUT:]
        truth = np.array([forces[k] for k in held_out])
        for name, values in CASES.items():
            for size in SIZES:
                chosen = pool[:size]
                start = time.process_time()
                model = train(
                    DeltaSettings(**values),
                    (16, 47),
                    [structures[k] for k in chosen],
                    np.zeros(size),
                    energies[chosen],
                    [f"{k:04d}" for k in chosen],
                    residual_forces=[forces[k] for k in chosen],
                )
                seconds = time.process_time() - start
                predictions = [model.predict(structures[k], uncertainty=True) for k in held_out]
                errors = np.array([p.energy for p in predictions]) - energies[held_out]
                off = np.array([p.forces for p in predictions]) - truth
                rows.append(
                    {
                        "case": name,
                        "draw": draw,
                        "structures": size,
                        "rows": len(model.training.ids),
                        "energy_mae_mev": 1e3 * float(np.abs(errors).mean()),
                        "force_mae_mev_per_angstrom": 1e3 * float(np.abs(off).mean()),
                        "no_model_force_mae": 1e3 * float(np.abs(truth).mean()),
                        "z_rms": float(
                            np.sqrt(np.mean((errors / [p.uncertainty for p in predictions]) ** 2))
                        ),
                        "train_cpu_s": seconds,
                    }
                )
    return rows


def main() -> None:
    if os.environ.get("OMP_NUM_THREADS") != "1":  # libraries read it when they start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    rows = measure()
    table = {}
    for name in CASES:
        for size in SIZES:
            same = [row for row in rows if (row["case"], row["structures"]) == (name, size)]
            table[f"{name}, {size}"] = {
                key: float(np.mean([row[key] for row in same]))
                for key in ("rows", "energy_mae_mev", "force_mae_mev_per_angstrom", "z_rms", "train_cpu_s")
            }
    save("delta_forces", {"held_out": HELD_OUT, "draws": DRAWS, "mean": table, "raw": rows})
    for name, row in table.items():
        print(f"{name:24s}", "  ".join(f"{key} {value:8.3f}" for key, value in row.items()))
    print(
        json.dumps({"force_mae_without_model": float(np.mean([row["no_model_force_mae"] for row in rows]))})
    )


if __name__ == "__main__":
    main()
