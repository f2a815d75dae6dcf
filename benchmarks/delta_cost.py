"""What the Δ-model costs: energy and forces, with CHGNet in one process, and retraining.

    python benchmarks/delta_cost.py [--repeats 200]

One thread; CPU time of the process. Systems: the cluster Ag14S7 (21 atoms, open), and Ag6S6 on
Ag(111) 4x4x3 (60 atoms, periodic in the plane, the two lower layers fixed by FixAtoms). Numbers go to
results/delta_cost.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from record import machine, save, versions

from godelta.delta.displaced import moving_atoms
from godelta.delta.embedding import train_embedding
from godelta.delta.model import Correction, DeltaModel, train
from godelta.delta.settings import DeltaSettings, SOAPSettings
from godelta.errors import MissingExtraError
from godelta.foundation import CHGNetSettings, Foundation, FoundationBatch, load_foundation

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
INDUCING = 1000
SPECIES = (16, 47)
PAPER = SOAPSettings.preset("paper")
AGGREGATIONS = ("atomic", "species", "global")
EMBEDDING = {"descriptor": "embedding", "force_directions": 0, "inducing_points": INDUCING}
LIMITS = {"cluster": {"delta_ms": 0.8, "ratio": 1.06}, "slab": {"delta_ms": 3.5, "ratio": 1.03}}


def cluster(seed: int) -> Atoms:
    """A random compact Ag14S7 in a box of 20 Å."""
    rng = np.random.default_rng(seed)
    positions: list[np.ndarray] = []
    while len(positions) < 21:
        trial = rng.normal(scale=2.4, size=3)
        if all(np.linalg.norm(trial - other) > 2.2 for other in positions):
            positions.append(trial)
    return Atoms("Ag14S7", positions=np.array(positions) + 10.0, cell=[20.0] * 3)


def slab(seed: int) -> Atoms:
    """Ag(111) 4x4x3 with 12 atoms of Ag6S6 above it; the two lower layers are fixed."""
    rng = np.random.default_rng(seed)
    atoms = fcc111("Ag", (4, 4, 3), vacuum=8.0)
    fixed = atoms.get_tags() > 1
    atoms.pbc = (True, True, False)
    atoms.positions[~fixed] += rng.normal(scale=0.1, size=(np.count_nonzero(~fixed), 3))
    top = atoms.positions[:, 2].max()
    added: list[np.ndarray] = []
    while len(added) < 12:
        trial = rng.random(3) @ (atoms.cell.array * [[1], [1], [0]]) + [0, 0, top + 1.8 + 2.5 * rng.random()]
        if all(np.linalg.norm(trial - other) > 1.9 for other in added):
            added.append(trial)
    atoms += Atoms("Ag6S6", positions=added)
    atoms.set_constraint(FixAtoms(indices=np.flatnonzero(fixed)))
    return atoms


SYSTEMS: dict[str, Callable[[int], Atoms]] = {"cluster": cluster, "slab": slab}


def toy_residual(atoms: Atoms) -> float:
    """A smooth energy in eV to learn; its values do not change the cost."""
    r = atoms.get_all_distances(mic=True) + 1e3 * np.eye(len(atoms))
    return float(-0.1 * np.sum(np.exp(-((r / 3.0) ** 2))))


def fit(make: Callable[[int], Atoms], count: int, settings: DeltaSettings) -> Correction:
    structures = [make(k) for k in range(count)]
    energies = [toy_residual(atoms) for atoms in structures]
    return train(settings, SPECIES, structures, np.zeros(count), energies, [f"{k:05d}" for k in range(count)])


def cpu_ms(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of each action, measured in turn so that all see the same machine."""
    for action in actions.values():
        for _ in range(3):
            action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.process_time()
            action()
            times[name].append(1e3 * (time.process_time() - start))
    return times


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        name: {
            "n": len(values),
            "median_ms": float(np.median(values)),
            "p10_p90_ms": [float(x) for x in np.percentile(values, [10, 90])],
            "raw_ms": [round(value, 4) for value in values],
        }
        for name, values in times.items()
    }


def delta_cost(repeats: int) -> dict[str, Any]:
    """Energy and forces of the correction alone, and with its uncertainty."""
    results = {}
    for name, make in SYSTEMS.items():
        for label, settings in (
            ("default", DeltaSettings(soap=PAPER, inducing_points=INDUCING)),
            ("paper", DeltaSettings(preset="paper", inducing_points=INDUCING)),
            ("default SOAP", DeltaSettings(inducing_points=INDUCING)),
        ):
            correction = fit(make, 60, settings)
            atoms = make(10_000)
            moving = moving_atoms(atoms)
            actions: dict[str, Callable[[], object]] = {
                "energy_forces": lambda c=correction, a=atoms, m=moving: c.predict(a, moving=m),
                "lower_bound": lambda c=correction, a=atoms, m=moving: c.predict(a, kappa=1.0, moving=m),
            }
            results[f"{name}/{label}"] = {
                "atoms": len(atoms),
                "moving": len(atoms) if moving is None else int(moving.sum()),
                "inducing_points": correction.kernel.size,
                **summary(cpu_ms(actions, repeats)),
            }
    return results


class TimedFoundation:
    """A foundation that notes the CPU time of its last evaluation."""

    def __init__(self, foundation: Foundation) -> None:
        self.foundation = foundation
        self.identity = foundation.identity
        self.last_ms = 0.0

    def evaluate(self, structures: Sequence[Atoms]) -> FoundationBatch:
        """The foundation's own results."""
        start = time.process_time()
        batch = self.foundation.evaluate(structures)
        self.last_ms = 1e3 * (time.process_time() - start)
        return batch


def with_foundation(repeats: int) -> dict[str, Any]:
    """CHGNet + Δ and CHGNet's share of it, call by call: the same state of machine and caches for both."""
    import torch

    torch.set_num_threads(1)
    foundation = TimedFoundation(load_foundation(CHGNetSettings()))
    results = {}
    for name, make in SYSTEMS.items():
        model = DeltaModel(foundation, fit(make, 60, DeltaSettings(soap=PAPER, inducing_points=INDUCING)))
        atoms = make(10_000)
        times: dict[str, list[float]] = {"chgnet": [], "chgnet_delta": []}
        for k in range(max(repeats // 4, 20) + 3):
            start = time.process_time()
            model.evaluate([atoms])
            if k >= 3:
                times["chgnet_delta"].append(1e3 * (time.process_time() - start))
                times["chgnet"].append(foundation.last_ms)
        ratios = np.divide(times["chgnet_delta"], times["chgnet"])
        results[name] = {
            **summary(times),
            "ratio_median": float(np.median(ratios)),
            "ratio_p10_p90": [float(x) for x in np.percentile(ratios, [10, 90])],
        }
    return results


def on_features(repeats: int) -> dict[str, Any]:
    """CHGNet + Δ on its own features over CHGNet alone, in turn: the correction shares CHGNet's passes."""
    import torch

    torch.set_num_threads(1)
    foundation = load_foundation(CHGNetSettings())
    results = {}
    for name, make in SYSTEMS.items():
        atoms, structures = make(10_000), [make(k) for k in range(60)]
        actions: dict[str, Callable[[], object]] = {"chgnet": lambda a=atoms: foundation.evaluate([a])}
        sizes = {}
        for aggregation in AGGREGATIONS:
            correction = train_embedding(
                DeltaSettings.model_validate(EMBEDDING | {"aggregation": aggregation}),
                SPECIES,
                structures,
                np.zeros(60),
                [toy_residual(one) for one in structures],
                [f"{k:05d}" for k in range(60)],
                foundation=foundation,
            )
            model, sizes[aggregation] = DeltaModel(foundation, correction), correction.kernel.size
            actions[aggregation] = lambda m=model, a=atoms: m.evaluate([a])
            actions[f"{aggregation} lower_bound"] = lambda m=model, a=atoms: m.evaluate([a], kappa=1.0)
        times = cpu_ms(actions, repeats if name == "cluster" else max(repeats // 8, 20))
        alone = np.array(times["chgnet"])
        for label in list(actions)[1:]:
            ratios = np.array(times[label]) / alone
            results[f"{name}/{label}"] = {
                "inducing_points": sizes[label.split()[0]],
                **summary({"chgnet": times["chgnet"], "chgnet_delta": times[label]}),
                "ratio_of_medians": float(np.median(times[label]) / np.median(alone)),
                "ratio_median": float(np.median(ratios)),
                "ratio_p10_p90": [float(x) for x in np.percentile(ratios, [10, 90])],
            }
    return results


def retraining_on_forces(count: int) -> dict[str, Any]:
    """The same with derivatives along moving coordinates, the campaign's default.

    In a worker that goes on, and from the stored model, which holds no rows of derivatives.
    """
    settings = DeltaSettings(inducing_points=INDUCING)
    structures = [slab(k) for k in range(count)]
    energies = np.array([toy_residual(atoms) for atoms in structures])
    ids = [f"{k:05d}" for k in range(count)]
    forces = [np.random.default_rng(k).normal(scale=0.3, size=(len(a), 3)) for k, a in enumerate(structures)]
    zeros = np.zeros(count)
    fit(slab, 2, settings)  # compiles

    def timed(n: int, previous: Correction | None) -> tuple[float, Correction]:
        start = time.process_time()
        correction = train(
            settings, SPECIES, structures[:n], zeros[:n], energies[:n], ids[:n],
            residual_forces=forces[:n], previous=previous,
        )  # fmt: skip
        return time.process_time() - start, correction

    from_nothing, previous = timed(count - 1, None)
    going_on, after = timed(count, previous)
    blob = previous.to_bytes()
    stored, _ = timed(count, Correction.from_bytes(blob))
    return {
        "structures": count,
        "inducing_points": previous.kernel.size,
        "rows": len(after.training.ids),
        "from_nothing_s": from_nothing,
        "going_on_s": going_on,
        "from_stored_s": stored,
        "stored_mb": len(blob) / 1e6,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def retraining(count: int) -> dict[str, Any]:
    """One more slab on top of `count - 1`, energies only: from the stored model, and from nothing."""
    settings = DeltaSettings(soap=PAPER, inducing_points=INDUCING, force_directions=0)
    structures = [slab(k) for k in range(count)]
    energies = np.array([toy_residual(atoms) for atoms in structures])
    ids = [f"{k:05d}" for k in range(count)]
    zeros = np.zeros(count)
    fit(slab, 2, settings)  # compiles
    start = time.process_time()
    previous = train(settings, SPECIES, structures[:-1], zeros[:-1], energies[:-1], ids[:-1])
    from_nothing = time.process_time() - start
    blob = previous.to_bytes()
    times = []
    for _ in range(5):
        start = time.process_time()
        reloaded = Correction.from_bytes(blob)
        loaded = time.process_time()
        train(settings, SPECIES, structures, zeros, energies, ids, previous=reloaded)
        times.append((loaded - start, time.process_time() - loaded))
    load, retrain = np.median(np.array(times), axis=0)
    return {
        "structures": count,
        "inducing_points": previous.kernel.size,
        "from_nothing_s": from_nothing,
        "load_s": float(load),
        "retrain_s": float(retrain),
        "n": len(times),
        "raw_load_retrain_s": times,
        "stored_mb": len(blob) / 1e6,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def apart(part: str, count: int) -> dict[str, Any]:
    """A part in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, __file__, part, str(count)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_table(results: dict[str, Any]) -> None:
    here, packages = machine(), versions()
    print(f"{here['processor']}, {here['cores']} cores, 1 thread used, {here['system']}")
    print(", ".join(f"{name} {number}" for name, number in packages.items()))
    print("\nΔ alone, CPU ms        atoms  moving     M     n   E+F   [p10, p90]     E - kappa sigma   limit")
    for name, row in results["delta"].items():
        fast, bound = row["energy_forces"], row["lower_bound"]
        low, high = fast["p10_p90_ms"]
        print(
            f"{name:22s} {row['atoms']:5d} {row['moving']:7d} {row['inducing_points']:5d} {fast['n']:5d}"
            f" {fast['median_ms']:5.2f}   [{low:.2f}, {high:.2f}] {bound['median_ms']:14.2f}"
            f" {LIMITS[name.split('/')[0]]['delta_ms']:11.1f}"
        )
    for name, row in results.get("foundation", {}).items():
        print(
            f"CHGNet {name:8s} {row['chgnet']['median_ms']:7.2f} ms, with Δ"
            f" {row['chgnet_delta']['median_ms']:7.2f} ms, ratio {row['ratio_median']:.3f}"
            f" [{row['ratio_p10_p90'][0]:.3f}, {row['ratio_p10_p90'][1]:.3f}]"
            f" (limit {LIMITS[name]['ratio']}), n {row['chgnet']['n']}"
        )
    for name, row in results.get("embedding", {}).items():
        print(
            f"CHGNet, embedding {name:28s} M {row['inducing_points']:4d}:"
            f" {row['chgnet']['median_ms']:7.2f} ms, with Δ {row['chgnet_delta']['median_ms']:7.2f} ms,"
            f" ratio {row['ratio_median']:.3f} [{row['ratio_p10_p90'][0]:.3f}, {row['ratio_p10_p90'][1]:.3f}]"
            f" (limit {LIMITS[name.split('/')[0]]['ratio']}), n {row['chgnet']['n']}"
        )
    row = results["retraining"]
    print(
        f"Retraining at N={row['structures']} slabs, M={row['inducing_points']}: {row['retrain_s']:.2f} CPU s"
        f" (limit 1), load {row['load_s']:.2f} s, from nothing {row['from_nothing_s']:.1f} s,"
        f" peak {row['peak_rss_mb']:.0f} MB (limit 1000), stored {row['stored_mb']:.0f} MB, n {row['n']}"
    )
    row = results["retraining_on_forces"]
    print(
        f"On forces too, {row['rows']} rows: {row['going_on_s']:.1f} CPU s, in a new process"
        f" {row['from_stored_s']:.1f} s, from nothing {row['from_nothing_s']:.1f} s, peak"
        f" {row['peak_rss_mb']:.0f} MB, stored {row['stored_mb']:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--structures", type=int, default=500, help="slabs in the retraining part")
    parser.add_argument("--retraining", type=int, help="only this part, as JSON")
    parser.add_argument("--retraining-on-forces", type=int, help="only this part, as JSON")
    arguments = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # libraries read it when they start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    if arguments.retraining:
        print(json.dumps(retraining(arguments.retraining)))
        return
    if arguments.retraining_on_forces:
        print(json.dumps(retraining_on_forces(arguments.retraining_on_forces)))
        return
    results: dict[str, Any] = {"delta": delta_cost(arguments.repeats)}
    try:
        results["foundation"] = with_foundation(arguments.repeats)
        results["embedding"] = on_features(arguments.repeats)
    except MissingExtraError as error:
        print(error)
    results["retraining"] = apart("--retraining", arguments.structures)
    results["retraining_on_forces"] = apart("--retraining-on-forces", arguments.structures)
    print_table(results)
    print(f"raw numbers: {save('delta_cost', results)}")


if __name__ == "__main__":
    main()
