"""Structures with reference energies to learn from: random clusters, some way along their relaxation.

    python benchmarks/learning_data.py Ag4S2 xtb 300

Random clusters, each moved by up to 25 BFGS steps of CHGNet; one in three is rattled afterwards. Energies
[eV] and forces [eV/Å] of the reference (xtb: GFN1-xTB; gpaw: PBE in the light preset) go to
data/<formula>-<engine>.extxyz as they come: a run that was stopped goes on where it was.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.optimize import BFGS

from godelta.campaign import CampaignConfig
from godelta.delta.calculator import DeltaCalculator
from godelta.delta.model import DeltaModel
from godelta.foundation import CHGNetSettings, load_foundation
from godelta.reference.isolated import evaluate_isolated
from godelta.search.generators import PlacementRule, random_positions
from godelta.search.proposals import structure_at
from godelta.systems.builders import build_problem

DATA = Path(__file__).parent / "data"
REFERENCES = {"xtb": {"engine": "xtb"}, "gpaw": {"engine": "gpaw", "settings": "pbe-light"}}
STEPS, RATTLE = 25, 0.25


def structure(config: CampaignConfig, calculator: DeltaCalculator, number: int) -> Atoms:
    """The structure of this number, always the same one."""
    rng = np.random.default_rng([config.seed, number])
    problem = build_problem(config.system, Path())
    atoms = structure_at(problem, random_positions(PlacementRule(problem), rng))
    atoms.calc = calculator
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=int(rng.integers(2, STEPS + 1)))
    atoms.calc = None
    if number % 3 == 0:
        atoms.positions += rng.normal(scale=rng.uniform(0.05, RATTLE), size=atoms.positions.shape)
    return atoms


def main(formula: str, engine: str, count: int) -> None:
    config = CampaignConfig.model_validate(
        {
            "name": "data",
            "system": {"kind": "cluster", "formula": formula},
            "reference": REFERENCES[engine],
        }
    )
    path = DATA / f"{formula.lower()}-{engine}.extxyz"
    done = read(path, ":") if path.exists() else []
    calculator = DeltaCalculator(DeltaModel(load_foundation(CHGNetSettings())), uncertainty=False)
    number = 1 + max((int(atoms.info["number"]) for atoms in done), default=-1)
    while len(done) < count:
        atoms = structure(config, calculator, number)
        with tempfile.TemporaryDirectory() as scratch:
            outcome = evaluate_isolated(atoms, config.reference, Path(scratch) / "run")
        if outcome.energy is not None:
            atoms.info["number"] = number
            atoms.calc = SinglePointCalculator(atoms, energy=outcome.energy, forces=outcome.forces)
            write(path, atoms, append=True)
            done.append(atoms)
        print(f"{len(done)} of {count}, number {number}: {outcome.status}", flush=True)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
