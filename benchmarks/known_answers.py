"""Known answers through the engine: in which fraction of seeds, and after how many evaluations.

    python benchmarks/known_answers.py [--systems cu12ag cu13 ar13] [--seeds 1 2 3 4 5] [--workspace DIR]

Each campaign is one `godelta run` (one chain, one worker, a workspace of its own kind), with a budget that is
raised step by step until the minimum is reached or the last step is spent. A seed counts as reached when its
best evaluated energy is within 0.02 eV of the known minimum and relaxes in the reference to within 1e-3 eV of
it. Beside it: the same search on the bare foundation, whose five lowest structures are relaxed in the
reference. Results are added to results/known_answers.json as they come; what is there is not run again.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from filelock import FileLock
from record import RESULTS, machine, versions
from ruamel.yaml import YAML

from godelta.campaign import CampaignConfig
from godelta.delta.model import DeltaModel
from godelta.foundation import load_foundation
from godelta.foundation.ase_import import import_calculator
from godelta.search import make_method
from godelta.store import campaigns, evaluations, structures
from godelta.store.workspace import Workspace
from godelta.systems.builders import build_problem

FILE = RESULTS / "known_answers.json"
TOLERANCE = 0.02  # eV, best evaluated energy above the known minimum
RELAXED_TOLERANCE = 1e-3  # eV, after relaxing the best structure in the reference
BARE_ITERATIONS = 40
BARE_RELAXED = 5
LJ = "ase.calculators.lj.LennardJones"


@dataclass(frozen=True)
class Case:
    """A system with a known answer: campaign settings, the minimum in eV, the reference as ASE calculator."""

    minimum: float
    budgets: tuple[int, ...]
    formula: str
    confinement: float
    foundation: dict[str, Any]
    reference: dict[str, Any]
    calculator: tuple[str, dict[str, Any]]

    def campaign(self, name: str, seed: int, evaluations: int) -> dict[str, Any]:
        """The campaign file's contents; everything not named here is the default."""
        return {
            "name": f"{name}-{seed}",
            "system": {
                "kind": "cluster", "formula": self.formula, "box": 20.0, "confinement": self.confinement
            },
            "foundation": self.foundation,
            "search": {"method": "rex"},
            "reference": self.reference,
            "budget": {"chains": 1, "rounds": 200, "evaluations": evaluations},
            "resources": {"workers": 1},
            "seed": seed,
        }  # fmt: skip


# Argon's own sigma of 3.4 Å does not go with its covalent radius, which decides where atoms are placed.
AR = {"sigma": 2.0, "epsilon": 0.25, "rc": 20.0}
CASES = {
    "cu12ag": Case(
        9.0572,
        (30, 45, 60, 80),
        "Cu12Ag",
        8.5,
        {"name": "ase", "calculator": "godelta.examples.exchanged_emt.ExchangedEMT"},
        {"engine": "emt"},
        ("ase.calculators.emt.EMT", {}),
    ),
    "cu13": Case(
        9.3614,
        (15, 25, 40),
        "Cu13",
        8.5,
        {"name": "ase", "calculator": LJ, "arguments": {"sigma": 2.27, "epsilon": 0.40, "rc": 22.7}},
        {"engine": "emt"},
        ("ase.calculators.emt.EMT", {}),
    ),
    "ar13": Case(
        -44.326801 * 0.25,
        (30, 45, 60, 80),
        "Ar13",
        9.0,
        {"name": "ase", "calculator": LJ, "arguments": {"sigma": 2.2, "epsilon": 0.225, "rc": 22.0}},
        {"engine": "ase", "calculator": LJ, "arguments": AR},
        (LJ, AR),
    ),
}


def relaxed_energy(case: Case, atoms: Atoms) -> float:
    """Energy in eV after relaxing a copy in the reference."""
    twin = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    twin.calc = import_calculator(*case.calculator)
    BFGS(twin, logfile=None).run(fmax=1e-3, steps=1000)
    return float(twin.get_potential_energy())


def run_campaign(name: str, seed: int, workspace: Path) -> dict[str, Any]:
    """One seed through `godelta run`; its evaluations in order."""
    case = CASES[name]
    file = workspace / f"{name}-{seed}.yaml"
    start, cpu = time.perf_counter(), _children_cpu_s()
    for budget in case.budgets:
        with file.open("w") as stream:
            YAML().dump(case.campaign(name, seed, budget), stream)
        command = [sys.executable, "-m", "godelta.cli.main", "run", str(file), "--plain", "--workspace"]
        subprocess.run([*command, str(workspace)], check=True, stdout=subprocess.DEVNULL)
        store = Workspace.find(workspace).connect(start=True)
        campaign = campaigns.get_campaign(store, f"{name}-{seed}")
        history = evaluations.history(store, campaign.campaign_id, campaign.reference_hash)
        best = structures.best(store, campaign.campaign_id, campaign.reference_hash, 1)[0]
        if best["energy"] < case.minimum + TOLERANCE:
            break
    atoms = structures.get_structure(store, best["structure_id"]).atoms()
    energies = [row["energy"] for row in history]
    hits = [k + 1 for k, e in enumerate(energies) if e is not None and e < case.minimum + TOLERANCE]
    relaxed = relaxed_energy(case, atoms)
    return {
        "evaluations": len(history),
        "best_ev": best["energy"],
        "best_relaxed_ev": relaxed,
        "evaluations_to_success": hits[0] if hits else None,
        "reached": bool(hits) and abs(relaxed - case.minimum) < RELAXED_TOLERANCE,
        "wall_s": time.perf_counter() - start,
        "cpu_s": _children_cpu_s() - cpu,
        "history": [
            {key: row[key] for key in ("round", "status", "energy", "model_energy", "uncertainty")}
            for row in history
        ],
    }


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bare_foundation(name: str, seed: int) -> dict[str, Any]:
    """The same search on the foundation alone; its lowest structures relaxed in the reference."""
    case = CASES[name]
    config = CampaignConfig.model_validate(case.campaign(name, seed, 1))
    search = config.search.model_copy(update={"iterations_per_round": BARE_ITERATIONS})
    problem = build_problem(config.system, Path.cwd())
    method = make_method(search, problem)
    potential = DeltaModel(load_foundation(config.foundation))
    state = method.start(potential, np.random.default_rng(seed))
    found = []
    while not method.finished(state):
        step = method.step(state, potential)
        state = step.state
        found += step.candidates
    lowest: list[Any] = []
    for item in sorted(found, key=lambda candidate: candidate.energy):
        if not lowest or item.energy > lowest[-1].energy + 0.01:  # another minimum
            lowest.append(item)
        if len(lowest) == BARE_RELAXED:
            break
    relaxed = [relaxed_energy(case, item.atoms) for item in lowest]
    calculator = import_calculator(*case.calculator)
    return {
        "candidates": len(found),
        "foundation_ev": [item.energy for item in lowest],
        "reference_as_is_ev": [float(calculator.get_potential_energy(item.atoms)) for item in lowest],
        "reference_relaxed_ev": relaxed,
        "favourite_is_the_minimum": abs(relaxed[0] - case.minimum) < RELAXED_TOLERANCE,
        "one_of_five_is_the_minimum": bool(min(abs(e - case.minimum) for e in relaxed) < RELAXED_TOLERANCE),
    }


def load() -> dict[str, Any]:
    """What was measured before."""
    if FILE.exists():
        return dict(json.loads(FILE.read_text()))
    return {"benchmark": "known_answers", "tolerance_ev": TOLERANCE, "runs": []}


def add(row: dict[str, Any]) -> None:
    """Append one seed's numbers, with the settings, the machine and the versions that gave them."""
    RESULTS.mkdir(exist_ok=True)
    with FileLock(FILE.with_suffix(".lock")):  # several of these may be at work
        results = load()
        results["runs"].append(row)
        FILE.write_text(json.dumps(results, indent=1) + "\n")


def print_table(results: dict[str, Any]) -> None:
    print(
        f"Reached: best evaluated energy within {TOLERANCE} eV of the minimum, and relaxing to it within"
        f" {RELAXED_TOLERANCE} eV."
    )
    print("system   minimum, eV  reached  evaluations to success  best, eV            bare: favourite, of 5")
    for name, case in CASES.items():
        rows = [row for row in results["runs"] if row["system"] == name]
        if not rows:
            continue
        n = len(rows)
        hits = sorted(r["evaluations_to_success"] for r in rows if r["reached"])
        best = [r["best_ev"] for r in rows]
        favourite = sum(r["bare"]["favourite_is_the_minimum"] for r in rows)
        any_ = sum(r["bare"]["one_of_five_is_the_minimum"] for r in rows)
        print(
            f"{name:8s} {case.minimum:10.4f}  {len(hits):3d}/{n:<3d}  {', '.join(map(str, hits)):22s}"
            f"  {min(best):.4f}..{max(best):.4f}  {favourite:12d}/{n}, {any_}/{n}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--workspace", type=Path, help="folder for the campaigns; a temporary one by default")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="godelta-known-") as temporary:
        workspace = (arguments.workspace or Path(temporary)).resolve()
        workspace.mkdir(parents=True, exist_ok=True)
        try:
            for seed in () if arguments.table else arguments.seeds:
                for name in arguments.systems:
                    delta = CampaignConfig.model_validate(CASES[name].campaign(name, seed, 1)).delta
                    key = (name, seed, delta.model_dump(mode="json"))
                    if any((r["system"], r["seed"], r["settings"]["delta"]) == key for r in load()["runs"]):
                        continue
                    row = {"system": name, "seed": seed, "minimum_ev": CASES[name].minimum}
                    row |= run_campaign(name, seed, workspace)
                    row["bare"] = bare_foundation(name, seed)
                    row |= {
                        "date": datetime.now(UTC).isoformat(timespec="seconds"),
                        "settings": CampaignConfig.model_validate(
                            CASES[name].campaign(name, seed, row["evaluations"])
                        ).model_dump(mode="json", include={"foundation", "delta", "search", "reference"}),
                        "machine": machine(),
                        "versions": versions(),
                    }
                    add(row)
                    print(
                        f"{name} seed {seed}: {'reached' if row['reached'] else 'not reached'}, best"
                        f" {row['best_ev']:.4f} eV, {row['evaluations_to_success']} of {row['evaluations']}"
                        f" evaluations, {row['cpu_s']:.0f} CPU s",
                        flush=True,
                    )
        finally:
            command = [sys.executable, "-m", "godelta.cli.main", "db", "stop", "--workspace", str(workspace)]
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    print_table(load())


if __name__ == "__main__":
    main()
