"""Time to group 10,000 structures: Ag8S4 clusters and S6Ag6 on Ag(111), about 500 different ones of each.

    python benchmarks/duplicates.py

Copies are rotated or shifted by lattice vectors, permuted, and displaced by 0.015 Å. One thread; CPU seconds
of this process, three repetitions. Numbers go to results/duplicates.json.
"""

import os
import sys
import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from record import save

from godelta.analysis.duplicates import distinct, group
from godelta.arrays import FloatArray

COUNT, KINDS, NOISE, REPEATS = 10_000, 500, 0.015, 3


def clusters(kinds: int) -> list[Atoms]:
    rng = np.random.default_rng(0)
    different = rng.uniform(-3.5, 3.5, (kinds, 12, 3))
    made = []
    for i in range(COUNT):
        order = np.r_[rng.permutation(8), 8 + rng.permutation(4)]
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        positions = (different[i % kinds] @ axes)[order] + 10.0
        made.append(Atoms("Ag8S4", positions + rng.normal(scale=NOISE, size=(12, 3)), cell=[20.0] * 3))
    return made


def slabs(kinds: int) -> list[Atoms]:
    rng = np.random.default_rng(1)
    slab = fcc111("Ag", (4, 4, 3), vacuum=8.0)
    cell: FloatArray = slab.cell.array
    top = slab.positions[:, 2].max()
    different = rng.uniform(size=(kinds, 12, 3))
    made = []
    for i in range(COUNT):
        kind, order = different[i % kinds], np.r_[rng.permutation(6), 6 + rng.permutation(6)]
        positions = kind[:, :2] @ cell[:2] + rng.integers(4, size=2) / 4 @ cell[:2]
        positions[:, 2] = top + 1.0 + 3.0 * kind[:, 2]
        both = slab + Atoms("S6Ag6", positions[order] + rng.normal(scale=NOISE, size=(12, 3)))
        both.wrap()
        both.set_constraint(FixAtoms(indices=range(len(slab))))
        made.append(both)
    return made


def main() -> None:
    if os.environ.get("OMP_NUM_THREADS") != "1":  # libraries read it when they start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    rows: list[dict[str, Any]] = []
    for name, make in (("Ag8S4", clusters), ("S6Ag6 on Ag(111)", slabs)):
        for kinds in (KINDS, COUNT):
            structures = make(kinds)
            for _ in range(REPEATS):
                start = time.process_time()
                labels = group(structures, np.zeros(COUNT))
                grouped = time.process_time()
                chosen = distinct(structures, COUNT)
                rows.append(
                    {
                        "structures": name,
                        "different": kinds,
                        "found": int(labels.max()) + 1,
                        "group_cpu_s": grouped - start,
                        "distinct_cpu_s": time.process_time() - grouped,
                        "distinct_found": len(chosen),
                        "load": os.getloadavg()[0],
                    }
                )
                print(rows[-1], flush=True)
    save("duplicates", {"count": COUNT, "noise": NOISE, "rows": rows})


if __name__ == "__main__":
    main()
