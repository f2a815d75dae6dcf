"""Energy and forces of CHGNet: the package's calculator, its layers in our call, and the factorised layers.

    python benchmarks/chgnet_layers.py [--repeats 7]

Structures on their way down to minima of CHGNet, where a search spends its time: Ag4S2, Ag14S7, and Ag6S6 on
Ag(111) (60 atoms). Ten different ones; CPU time per structure, one thread, the three in turn. The package's
calculator takes one structure after the other, the other two take all ten in one call.
"""

import argparse
import os
import sys
import time
from typing import Any

import numpy as np
from agox_searches import problem_of
from ase import Atoms
from delta_cost import ONE_THREAD
from record import save

from godelta.delta.model import DeltaModel
from godelta.foundation.chgnet import CHGNetFoundation
from godelta.foundation.settings import CHGNetSettings
from godelta.search.generators import PlacementRule, random_positions
from godelta.search.proposals import structure_at
from godelta.search.relax import relax
from godelta.search.settings import RelaxSettings
from godelta.systems.confinement import Confinement
from godelta.systems.problem import SearchProblem

COUNT, STEPS = 10, 40
WAYS = ("calculator", "package's layers", "factorised")


def small() -> SearchProblem:
    region = Confinement(np.eye(3) * 9.0, np.full(3, 4.5), (True, True, True))
    numbers = np.repeat([47, 16], [4, 2])
    return SearchProblem(Atoms(cell=[18.0] * 3, pbc=False), np.zeros(0, dtype=np.bool_), numbers, region)


def structures_of(problem: SearchProblem, foundation: CHGNetFoundation) -> list[Atoms]:
    """Random structures after some steps of relaxation."""
    rule, rng = PlacementRule(problem), np.random.default_rng(1)
    random = [structure_at(problem, random_positions(rule, rng)) for _ in range(COUNT)]
    relaxed = relax(random, DeltaModel(foundation), RelaxSettings(steps=STEPS), problem)
    return [one.atoms for one in relaxed]


def package_layers() -> CHGNetFoundation:
    """Our call of CHGNet, with the layers that the package has."""
    from chgnet.model.model import CHGNet

    foundation, package = CHGNetFoundation(CHGNetSettings()), CHGNet.load(use_device="cpu", verbose=False)
    package.eval().requires_grad_(False)
    for name in ("atom_conv_layers", "bond_conv_layers", "angle_layers"):
        setattr(foundation._model, name, getattr(package, name))
    return foundation


def measure(structures: list[Atoms], ways: dict[str, Any], repeats: int) -> dict[str, Any]:
    """CPU ms per structure of each way, and how far their energies and forces are from each other."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    for repeat in range(repeats + 1):
        for name, call in ways.items():
            start = time.process_time()
            results[name] = call(structures)
            if repeat:  # the first one warms up
                times[name].append(1e3 * (time.process_time() - start) / len(structures))
    (energies, forces), (own_energies, own_forces) = (results[name] for name in WAYS[1:])
    ratios = {
        name: np.array(times[name]) / np.array(times["factorised"]) for name in WAYS if name != "factorised"
    }
    return {
        "atoms": len(structures[0]),
        "ms": {name: float(np.median(raw)) for name, raw in times.items()},
        "ratio": {name: np.quantile(raw, [0.1, 0.5, 0.9]).tolist() for name, raw in ratios.items()},
        "energy_difference_ev": float(np.abs(energies - own_energies).max()),
        "force_difference_ev_per_angstrom": float(
            max(np.abs(a - b).max() for a, b in zip(forces, own_forces, strict=True))
        ),
        "n": repeats,
        "raw_ms": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(use_device="cpu")
    own, package = CHGNetFoundation(CHGNetSettings()), package_layers()

    def in_turn(structures: list[Atoms]) -> None:
        for atoms in structures:
            periodic = atoms.copy()
            periodic.pbc = True
            periodic.calc = calculator
            periodic.get_forces()

    def batch(foundation: CHGNetFoundation, structures: list[Atoms]) -> Any:
        result = foundation.evaluate(structures)
        return result.energies, result.forces

    ways = {
        "calculator": in_turn,
        "package's layers": lambda structures: batch(package, structures),
        "factorised": lambda structures: batch(own, structures),
    }
    problems = {"Ag4S2": small(), "Ag14S7": problem_of("cluster"), "slab": problem_of("slab")}
    rows = {}
    for name, problem in problems.items():
        rows[name] = measure(structures_of(problem, own), ways, options.repeats)
        print(name, {key: value for key, value in rows[name].items() if key != "raw_ms"}, flush=True)
    save("chgnet_layers", {"rows": rows})


if __name__ == "__main__":
    main()
