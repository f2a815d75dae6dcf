"""The shipped example: what bare CHGNet calls lowest, and what the campaign finds, by GFN1-xTB.

    python benchmarks/example_answer.py [--structures 200] [--workspace DIR]

The campaign is `godelta run examples/ag4s2.yaml`. Beside it: random structures relaxed in CHGNet alone, by
the same code; the lowest one is evaluated by xTB as it is, and after relaxation in xTB. Numbers go to
results/example_answer.json.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from record import machine, save, versions
from tblite.ase import TBLite

from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaign
from godelta.delta.model import DeltaModel
from godelta.foundation import load_foundation
from godelta.reference.isolated import evaluate_isolated
from godelta.search import make_method
from godelta.search.settings import RSSSettings
from godelta.store import campaigns, evaluations, structures
from godelta.store.workspace import Workspace
from godelta.systems.builders import build_problem

EXAMPLE = Path(__file__).parents[1] / "examples" / "ag4s2.yaml"


def xtb_energy(config: CampaignConfig, atoms: Atoms) -> float:
    """GFN1-xTB energy in eV of a structure as it is, by the engine that campaigns use."""
    with tempfile.TemporaryDirectory() as scratch:
        outcome = evaluate_isolated(atoms, config.reference, Path(scratch) / "xtb")
    if outcome.energy is None:
        raise SystemExit(f"xTB failed: {outcome.message}")
    return outcome.energy


def xtb_relaxed(atoms: Atoms) -> float:
    """GFN1-xTB energy in eV after relaxation."""
    twin = Atoms(atoms.numbers, positions=atoms.positions)
    twin.calc = TBLite(method="GFN1-xTB", verbosity=0)
    BFGS(twin, logfile=None).run(fmax=0.005, steps=500)
    return float(twin.get_potential_energy())


def campaign(config: CampaignConfig, workspace: Path) -> tuple[dict[str, Any], Atoms]:
    """The example through `godelta run`, and its lowest structure."""
    command = [sys.executable, "-m", "godelta.cli.main", "run", str(EXAMPLE), "--plain", "--workspace"]
    subprocess.run([*command, str(workspace)], check=True, stdout=subprocess.DEVNULL)
    store = Workspace.find(workspace).connect(start=True)
    document = campaigns.get_campaign(store, config.name)
    best = structures.best(store, document.campaign_id, document.reference_hash, 1)[0]
    history = evaluations.history(store, document.campaign_id, document.reference_hash)
    energies = [row["energy"] for row in history if row["energy"] is not None]
    first = next(k for k, row in enumerate(history) if row["energy"] == best["energy"]) + 1
    return {
        "evaluations": len(history),
        "failed": len(history) - len(energies),
        "found_at_evaluation": first,
        "wall_s": document.elapsed_s,
        "chgnet_ev": best["foundation_energy"],
        "model_ev": best["model_energy"],
        "best_so_far_ev": np.minimum.accumulate(energies).tolist(),
    }, structures.get_structure(store, best["structure_id"]).atoms()


def bare(config: CampaignConfig, count: int) -> tuple[dict[str, Any], Atoms]:
    """Random structures relaxed in CHGNet alone, and the lowest of them."""
    search = RSSSettings(structures_per_round=count, relax=config.search.relax)
    method = make_method(search, build_problem(config.system, EXAMPLE.parent))
    potential = DeltaModel(load_foundation(config.foundation))
    state = method.start(potential, np.random.default_rng(config.seed))
    found = []
    while not method.finished(state):
        step = method.step(state, potential)
        state = step.state
        found += step.candidates
    best = min(found, key=lambda item: item.energy)
    return {"candidates": len(found), "chgnet_ev": best.energy}, best.atoms


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=200, help="random structures for bare CHGNet")
    parser.add_argument("--workspace", type=Path, help="folder for the campaign; a temporary one by default")
    arguments = parser.parse_args()
    config = read_campaign(EXAMPLE)
    with tempfile.TemporaryDirectory(prefix="godelta-example-") as temporary:
        workspace = (arguments.workspace or Path(temporary)).resolve()
        workspace.mkdir(parents=True, exist_ok=True)
        try:
            ours, our_atoms = campaign(config, workspace)
        finally:
            command = [sys.executable, "-m", "godelta.cli.main", "db", "stop", "--workspace", str(workspace)]
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    theirs, their_atoms = bare(config, arguments.structures)
    for row, atoms in ((ours, our_atoms), (theirs, their_atoms)):
        row["xtb_as_is_ev"] = xtb_energy(config, atoms)
        row["xtb_relaxed_ev"] = xtb_relaxed(atoms)
        row["positions"] = atoms.positions.tolist()
        row["symbols"] = atoms.get_chemical_symbols()
    path = save(
        "example_answer",
        {"campaign": ours, "bare_chgnet": theirs, "settings": config.model_dump(mode="json")},
    )
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, {here['system']}; {versions()['godelta']}")
    print("GFN1-xTB, eV                        as found  relaxed in xTB")
    for label, row in (
        (f"campaign, {ours['evaluations']} evaluations", ours),
        (f"CHGNet's lowest of {theirs['candidates']}", theirs),
    ):
        print(f"{label:32s} {row['xtb_as_is_ev']:12.4f} {row['xtb_relaxed_ev']:15.4f}")
    print(f"raw numbers: {path}")


if __name__ == "__main__":
    main()
