"""Refinement against BFGS in the reference: how many evaluations lead to a minimum of the reference.

    python benchmarks/refinement.py [--systems cu12ag ag4s2] [--structures 10]

Random structures are relaxed in the bare foundation, as a search would leave them before anything is learnt.
From each, ASE's BFGS (its defaults) in the reference, and ours: with a Δ-model that knows nothing but the
steps taken so far, and with one that has learnt from 40 other structures as well, as after a campaign. All to
the same fmax of 0.05 eV/Å. Results are added to results/refinement.json as they come; what is there is not
run again.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from record import RESULTS, save

from godelta.campaign import CampaignConfig
from godelta.delta.model import DeltaModel, train
from godelta.foundation import load_foundation
from godelta.search.mover import Generator
from godelta.search.proposals import Proposal, relax_proposals
from godelta.search.refinement import Refinement
from godelta.search.settings import RefineSettings, RelaxSettings
from godelta.search.state import Evaluated
from godelta.search.weights import GeneratorWeights
from godelta.systems.builders import build_problem

FMAX = 0.05  # eV/Å
MOST = 200  # evaluations
KNOWN = 40
FILE = RESULTS / "refinement.json"
CASES: dict[str, dict[str, Any]] = {
    "cu12ag": {
        "system": {"kind": "cluster", "formula": "Cu12Ag", "box": 20.0, "confinement": 8.5},
        "foundation": {"name": "ase", "calculator": "godelta.examples.exchanged_emt.ExchangedEMT"},
        "reference": {"engine": "emt"},
    },
    "ag4s2": {
        "system": {"kind": "cluster", "formula": "Ag4S2", "box": 18.0, "confinement": 9.0},
        "foundation": {"name": "chgnet"},
        "reference": {"engine": "xtb"},
    },
}


def calculator(engine: str) -> Calculator:
    """The reference as ASE calculator."""
    if engine == "emt":
        from ase.calculators.emt import EMT

        return EMT()
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", verbosity=0)


@dataclass
class System:
    """A problem, its foundation and reference, and what the Δ-model has learnt from."""

    name: str
    config: CampaignConfig = field(init=False)

    def __post_init__(self) -> None:
        self.config = CampaignConfig.model_validate({"name": self.name, **CASES[self.name]})
        self.problem = build_problem(self.config.system, Path())
        self.foundation = load_foundation(self.config.foundation)
        self.bare = DeltaModel(self.foundation, None, None)
        self.engine = self.config.reference.engine

    def reference(self, atoms: Atoms) -> tuple[float, Any]:
        """Energy in eV and forces in eV/Å."""
        copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.calc = calculator(self.engine)
        return float(copy.get_potential_energy()), copy.get_forces()

    def relaxed(self, seed: int) -> Atoms:
        """A random structure, relaxed in the bare foundation."""
        rng = np.random.default_rng(seed)
        while True:
            _, positions = Generator(self.problem, GeneratorWeights(), []).make(rng)
            (one,) = relax_proposals([Proposal(positions, "", ())], self.bare, RelaxSettings(), self.problem)
            if one.dropped is None:
                return one.atoms

    def potential(self, data: list[tuple[Atoms, float, Any]]) -> DeltaModel:
        """Foundation + Δ, trained on structures with their reference energies and forces."""
        atoms = [row[0] for row in data]
        batch = self.foundation.evaluate(atoms)
        correction = train(
            self.config.delta,
            tuple(np.unique(self.problem.numbers).tolist()),
            atoms,
            foundation_energies=[float(e) for e in batch.energies],
            reference_energies=[row[1] for row in data],
            ids=[str(k) for k in range(len(data))],
            residual_forces=[row[2] - f for row, f in zip(data, batch.forces, strict=True)],
        )
        return DeltaModel(self.foundation, correction, None)


def by_bfgs(system: System, start: Atoms) -> dict[str, Any]:
    """ASE's BFGS in the reference."""
    atoms = start.copy()
    atoms.calc = calculator(system.engine)
    optimiser = BFGS(atoms, logfile=None)
    converged = optimiser.run(fmax=FMAX, steps=MOST)
    return {
        "evaluations": optimiser.nsteps,  # the first one is known, as it is for ours
        "converged": bool(converged),
        "energy": float(atoms.get_potential_energy()),
    }


def by_model(system: System, start: Atoms, known: list[tuple[Atoms, float, Any]]) -> dict[str, Any]:
    """Ours; the Δ-model learns from every step."""
    energy, forces = system.reference(start)
    data = [*known, (start, energy, forces)]
    method = Refinement(RefineSettings(best=1, fmax=FMAX, evaluations=MOST), system.problem)
    begun = [Evaluated(("start",), start.positions, energy, forces)]
    state = method.begin(method.start(np.random.default_rng(0)), begun)
    begin = time.process_time()
    while state.tracks[0].status == "running":
        state, candidates = method.step(state, system.potential(data))
        told = []
        for one in candidates:
            data.append((one.atoms, *system.reference(one.atoms)))
            told.append(Evaluated((one.id,), one.atoms.positions, *data[-1][1:]))
        state = method.judge(state, told)
    track = state.tracks[0]
    return {
        "evaluations": track.evaluations,
        "converged": track.status == "converged",
        "energy": track.energy,
        "cpu_s": time.process_time() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--structures", type=int, default=10)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = json.loads(FILE.read_text())["runs"] if FILE.exists() else []
    for name in options.systems:
        system = System(name)
        known: list[tuple[Atoms, float, Any]] = []
        for seed in range(options.structures):
            ways: dict[str, Callable[[Atoms], dict[str, Any]]] = {
                "bfgs": lambda start: by_bfgs(system, start),  # noqa: B023 - called at once
                "own steps": lambda start: by_model(system, start, []),  # noqa: B023
                "campaign": lambda start: by_model(system, start, known),  # noqa: B023
            }
            start = system.relaxed(seed)
            for way, go in ways.items():
                if any((run["system"], run["seed"], run["way"]) == (name, seed, way) for run in runs):
                    continue
                if way == "campaign" and not known:
                    others = [system.relaxed(1000 + k) for k in range(KNOWN)]
                    known += [(atoms, *system.reference(atoms)) for atoms in others]
                runs.append({"system": name, "seed": seed, "way": way, **go(start)})
                save("refinement", {"fmax": FMAX, "known": KNOWN, "runs": runs})


if __name__ == "__main__":
    main()
