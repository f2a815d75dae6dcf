"""Errors of the Δ-models against the number of evaluations: SOAP beside the foundations' own features.

    python benchmarks/learning_curves.py [chgnet | sevennet-0] [--data ag4s2-xtb]

Trains on 10 to 160 of the structures of learning_data.py and predicts others (80; 40 of the GPAW set, which
grows as it is computed); three draws of both. The label is reference minus foundation. `no Δ` shifts the
foundation by the mean residual of the training set. One thread. Rows go to results/learning_curves.json as
they come; what is there is not measured again, unless the set has grown.
"""

import argparse
import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from record import RESULTS, save

from godelta.delta.embedding import train_embedding
from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DeltaSettings
from godelta.foundation import load_foundation
from godelta.foundation.settings import CHGNetSettings, SevenNetSettings

DATA = Path(__file__).parent / "data"
SIZES, DRAWS = (10, 20, 40, 80, 160), 3
HELD_OUT = {"ag4s2-xtb": 80, "ag8s4-xtb": 80, "ag4s2-gpaw": 40}
FOUNDATIONS = {"chgnet": CHGNetSettings, "sevennet-0": SevenNetSettings}
CASES: dict[str, dict[str, Any] | None] = {
    "no Δ": None,
    "SOAP, paper": {"preset": "paper"},
    "SOAP, energies": {"force_directions": 0},
    "SOAP, copies": {"forces_as": "copies", "force_directions": 1},
    "SOAP": {},
    "SOAP, accurate": {"preset": "accurate"},
    "features, global": {"descriptor": "embedding", "aggregation": "global"},
    "features, species": {"descriptor": "embedding", "aggregation": "species"},
    "features, copies": {
        "descriptor": "embedding",
        "aggregation": "atomic",
        "forces_as": "copies",
        "force_directions": 1,
    },
    "features, atomic": {"descriptor": "embedding", "aggregation": "atomic"},
}


class Set:
    """A data set with what the foundation says of it."""

    def __init__(self, name: str, foundation: str) -> None:
        self.structures = read(DATA / f"{name}.extxyz", ":")
        self.foundation = load_foundation(FOUNDATIONS[foundation]())
        batch = self.foundation.evaluate(self.structures)
        self.base, self.base_forces = batch.energies, batch.forces
        self.energies = np.array([atoms.get_potential_energy() for atoms in self.structures])
        self.forces = [atoms.get_forces() for atoms in self.structures]
        self.species = sorted({int(z) for atoms in self.structures for z in atoms.numbers})

    def train(self, settings: DeltaSettings, chosen: Any) -> Any:
        """The correction that these structures teach."""
        data: dict[str, Any] = {
            "structures": [self.structures[k] for k in chosen],
            "foundation_energies": self.base[chosen],
            "reference_energies": self.energies[chosen],
            "ids": [f"{k:04d}" for k in chosen],
            "residual_forces": [self.forces[k] - self.base_forces[k] for k in chosen],
        }
        if settings.descriptor == "embedding":
            return train_embedding(settings, self.species, **data, foundation=self.foundation)
        return train(settings, self.species, **data)


@cache
def load(name: str, foundation: str) -> Set:
    return Set(name, foundation)


def measure(name: str, foundation: str, case: str, draw: int, size: int) -> dict[str, float]:
    """Errors on the structures held out."""
    data = load(name, foundation)
    order = np.random.default_rng(draw).permutation(len(data.structures))
    held_out, chosen = order[: HELD_OUT[name]], order[HELD_OUT[name] : HELD_OUT[name] + size]
    structures, values = [data.structures[k] for k in held_out], CASES[case]
    start = time.process_time()
    correction = None if values is None else data.train(DeltaSettings(**values), chosen)
    seconds = time.process_time() - start
    batch = DeltaModel(data.foundation, correction).evaluate(structures, uncertainty=True)
    shift = (data.energies - data.base)[chosen].mean() if correction is None else 0.0
    errors = batch.energies + shift - data.energies[held_out]
    off = np.concatenate([f - data.forces[k] for f, k in zip(batch.forces, held_out, strict=True)])
    row = {
        "energy_mae_mev": 1e3 * float(np.abs(errors).mean()),
        "energy_rmse_mev": 1e3 * float(np.sqrt(np.mean(errors**2))),
        "force_mae_mev_per_angstrom": 1e3 * float(np.abs(off).mean()),
        "train_cpu_s": seconds,
    }
    if correction is not None:
        row["z_rms"] = float(np.sqrt(np.mean((errors / batch.uncertainties) ** 2)))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("foundation", choices=sorted(FOUNDATIONS), nargs="?", default="chgnet")
    parser.add_argument("--data", choices=HELD_OUT, action="append")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # libraries read it when they start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    path = RESULTS / "learning_curves.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {(r["data"], r["foundation"], r["case"], r["draw"], r["structures"], r["of"]) for r in rows}
    for name in options.data or [name for name in HELD_OUT if (DATA / f"{name}.extxyz").exists()]:
        for draw in range(DRAWS):
            total = len(load(name, options.foundation).structures)
            rows = [r for r in rows if r["data"] != name or r["of"] == total]  # a set that has grown
            for size in (size for size in SIZES if size + HELD_OUT[name] <= total):
                for case in CASES:
                    key = (name, options.foundation, case, draw, size)
                    if (*key, total) in known:
                        continue
                    keys = ("data", "foundation", "case", "draw", "structures")
                    rows.append(dict(zip(keys, key, strict=True)) | {"of": total} | measure(*key))
                    save("learning_curves", {"held_out": HELD_OUT, "rows": rows})
                    print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
