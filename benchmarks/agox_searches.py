"""One iteration of replica exchange beside AGOX 3.11.1, the papers' own code: CPU time.

    python benchmarks/agox_searches.py agox/bin/python [--iterations 3] [--slab-walkers 0 4 9]

AGOX needs an environment of its own (agox_peer.py says which). Ten walkers stand on relaxed random
structures; each is rattled with the amplitude of its rung, the top one is a new random structure, and all are
relaxed on CHGNet + Δ: at most 100 steps, fmax 0.025 eV/Å. Both codes relax the same rattled structures with
Δ-models of the same 100 structures and hyper-parameters (preset `paper`), asked in turn, one structure after
the other. Ours also with its default preset, and also all ten in one batch, as it does in a search. AGOX's
parallel workers are one process here, which calls the function that they call. Of the slab, where one
relaxation takes AGOX minutes, it gets the walkers that `--slab-walkers` names. Rows go to
results/agox_searches.json as they come; what is there is not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from agox_peer import THREADS
from agox_table import HERE, NEW, SPECIES, SYSTEMS, TRAINING, Code, Own, labelled, peer_facts
from ase import Atoms
from ase.io import read, write

WALKERS, STEPS, FMAX = 10, 100, 0.025
AMPLITUDES = np.linspace(0.1, 5.0, WALKERS)  # Å
EDGE = 15.0  # Å, of the cluster's confinement
ABOVE = (0.5, 4.5)  # Å above the slab's topmost layer
PRESETS = ("paper", "default")
NAME = "agox_searches"


def toy_forces(atoms: Atoms) -> np.ndarray:
    """Forces (n, 3) in eV/Å of delta_cost's toy energy."""
    d = atoms.get_all_distances(mic=True, vector=True)
    weights = np.exp(-((np.linalg.norm(d, axis=2) / 3.0) ** 2))
    return np.asarray(0.4 / 9.0 * (weights[:, :, None] * d).sum(axis=1))


def problem_of(system: str) -> Any:
    """Ag14S7 in a box, or Ag6S6 above Ag(111) 4x4x3 with the two lower layers fixed."""
    from ase.build import fcc111

    from godelta.systems.confinement import Confinement
    from godelta.systems.problem import SearchProblem

    if system == "cluster":
        region = Confinement(np.eye(3) * EDGE, np.full(3, 0.5 * (20.0 - EDGE)), (True, True, True))
        numbers = np.repeat([47, 16], [14, 7])
        return SearchProblem(Atoms(cell=[20.0] * 3, pbc=False), np.zeros(0, dtype=np.bool_), numbers, region)
    slab = fcc111("Ag", (4, 4, 3), vacuum=8.0)
    template = Atoms(slab.numbers, slab.positions, cell=slab.cell, pbc=(True, True, False))
    cell = slab.cell.array.copy()
    cell[2] = [0.0, 0.0, ABOVE[1] - ABOVE[0]]
    corner = np.array([0.0, 0.0, slab.positions[:, 2].max() + ABOVE[0]])
    region = Confinement(cell, corner, (False, False, True))
    return SearchProblem(template, slab.get_tags() > 1, np.repeat([47, 16], [6, 6]), region)


class Recorded:
    """A potential that keeps the energies of every batch."""

    def __init__(self, potential: Any) -> None:
        self.potential = potential
        self.energies: list[list[float]] = []

    def evaluate(self, structures: list[Atoms], **how: Any) -> Any:
        """What the potential says."""
        batch = self.potential.evaluate(structures, **how)
        self.energies.append(np.round(batch.energies, 4).tolist())
        return batch


class OwnSearches(Own):
    """What is asked of godelta; the counterpart of `SearchPeer`."""

    def load(self, folder: str, system: str) -> dict[str, Any]:
        """Both presets' Δ-models, trained on the structures of this system."""
        import delta_cost

        from godelta.delta.model import DeltaModel, train
        from godelta.delta.settings import DeltaSettings

        facts = super().load(folder, system)
        structures = [delta_cost.SYSTEMS[system](seed) for seed in range(TRAINING)]
        correction = train(
            DeltaSettings(),
            SPECIES,
            structures,
            np.zeros(TRAINING),
            [delta_cost.toy_residual(atoms) for atoms in structures],
            [f"{k:05d}" for k in range(TRAINING)],
            residual_forces=[toy_forces(atoms) for atoms in structures],
        )
        self.systems[system] = {
            "paper": DeltaModel(self.foundation, self.systems[system][0]),
            "default": DeltaModel(self.foundation, correction),
        }
        return facts

    def propose(self, folder: str, system: str, iteration: int) -> dict[str, Any]:
        """Write the structures that an iteration relaxes, made from relaxed random ones."""
        from godelta.search.generators import PlacementRule, random_positions
        from godelta.search.moves import rattle
        from godelta.search.proposals import structure_at
        from godelta.search.relax import relax
        from godelta.search.settings import RelaxSettings

        rng = np.random.default_rng([iteration, len(system)])
        problem = problem_of(system)
        rule = PlacementRule(problem)
        start = [structure_at(problem, random_positions(rule, rng)) for _ in range(WALKERS)]
        settings = RelaxSettings(steps=STEPS, fmax=FMAX)
        standing = relax(start[:-1], self.systems[system]["paper"], settings, problem)
        moved = [
            rattle(rule, walker.atoms.positions, amplitude, rng)
            for walker, amplitude in zip(standing, AMPLITUDES, strict=False)
        ]
        proposals = [structure_at(problem, positions) for positions in moved] + start[-1:]
        write(Path(folder) / f"{system}-{iteration}.extxyz", proposals)
        region = problem.confinement
        np.savez(
            Path(folder) / f"{system}-box.npz",
            n_template=problem.n_template,
            fixed=problem.fixed,
            cell=region.cell,
            corner=region.corner,
            walls=region.walls,
        )
        return {"dropped": [walker.dropped for walker in standing]}

    def relax(self, folder: str, system: str, iteration: int, walkers: list[int], preset: str) -> Any:
        """Relax proposed structures in one batch."""
        from godelta.search.relax import relax
        from godelta.search.settings import RelaxSettings

        model, problem = self.systems[system][preset], problem_of(system)
        proposals = read(Path(folder) / f"{system}-{iteration}.extxyz", ":")
        structures = []
        for k in walkers:
            structures.append(problem.structure(proposals[k].positions[problem.n_template :]))
            structures[-1].positions[:] = proposals[k].positions
        recorded = Recorded(model)
        start = time.process_time()
        relaxed = relax(structures, recorded, RelaxSettings(steps=STEPS, fmax=FMAX), problem)
        return {
            "cpu_s": time.process_time() - start,
            "steps": [r.steps for r in relaxed],
            "evaluations": [r.evaluations for r in relaxed],
            "converged": [r.converged for r in relaxed],
            "energies": [r.energy for r in relaxed],
            "dropped": [r.dropped for r in relaxed],
            "path": [[row[0] for row in recorded.energies]] if len(walkers) == 1 else None,
        }


class SearchCode(Code):
    """A process of this script that answers questions."""

    def __init__(self, code: str, python: str, folder: Path) -> None:
        self.log = folder / f"{code}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, str(HERE / "agox_searches.py"), "--serve", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=os.environ | THREADS,
            )


def serve(code: str) -> None:
    """Answer questions, one line of JSON each, until there are no more."""
    from agox_search_peer import SearchPeer

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    side: Any = {"godelta": OwnSearches, "agox": SearchPeer}[code]()
    for line in sys.stdin:
        question = json.loads(line)
        answers.write(json.dumps(getattr(side, question.pop("ask"))(**question)) + "\n")
        answers.flush()


def write_training(folder: Path, system: str) -> None:
    import delta_cost

    make = delta_cost.SYSTEMS[system]
    write(folder / f"{system}-training.extxyz", labelled(make, range(TRAINING)))
    write(folder / f"{system}-new.extxyz", labelled(make, range(1000, 1000 + NEW)))


class Rows:
    """The rows measured so far, kept in the JSON file."""

    def __init__(self, facts: dict[str, Any]) -> None:
        from record import RESULTS

        path = RESULTS / f"{NAME}.json"
        self.facts = facts
        self.rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []

    def __contains__(self, key: dict[str, Any]) -> bool:
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, key: dict[str, Any], answer: dict[str, Any]) -> None:
        """Keep one more row, in the file too."""
        from record import save

        self.rows.append({**key, **answer, "load": os.getloadavg()[0]})
        print(self.rows[-1], flush=True)
        settings = {"steps": STEPS, "fmax": FMAX, "amplitudes": AMPLITUDES.tolist(), "training": TRAINING}
        save(NAME, {**self.facts, **settings, "rows": self.rows})


def iteration_of(
    running: dict[str, SearchCode], folder: Path, system: str, iteration: int, walkers: list[int], rows: Rows
) -> None:
    """One iteration of both codes: our batches of ten, then walker after walker in turn."""
    asked: list[tuple[str, str, list[int]]] = [
        ("godelta", preset, list(range(WALKERS))) for preset in PRESETS
    ]
    for k in walkers:
        asked += [("agox", "paper", [k]), ("godelta", "paper", [k]), ("godelta", "default", [k])]
    common = {"system": system, "iteration": iteration}
    wanted = [
        (code, preset, chosen)
        for code, preset, chosen in asked
        if {**common, "code": code, "preset": preset, "walkers": chosen} not in rows
    ]
    if not wanted:
        return
    running["godelta"].ask("propose", folder=str(folder), **common)
    for code, preset, chosen in wanted:
        question: dict[str, Any] = {"folder": str(folder), **common, "walkers": chosen}
        question |= {"preset": preset} if code == "godelta" else {"fmax": FMAX, "steps": STEPS}
        answer = running[code].ask("relax", **question)
        rows.add({**common, "code": code, "preset": preset, "walkers": chosen}, answer)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", nargs="?", help="the interpreter of AGOX's environment")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--iterations", type=int, default=1, help="of each system")
    parser.add_argument("--slab-walkers", nargs="+", type=int, default=[0, 4, 9])
    parser.add_argument("--serve", choices=("godelta", "agox"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if not options.python:
        parser.error("which interpreter is AGOX's?")
    pythons = {"godelta": sys.executable, "agox": os.path.abspath(options.python)}  # noqa: PTH100 - a link
    rows = Rows(peer_facts(pythons["agox"]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = {code: SearchCode(code, python, folder) for code, python in pythons.items()}
        for system in options.systems:
            write_training(folder, system)
            for code in running.values():
                code.ask("load", folder=name, system=system)
            walkers = options.slab_walkers if system == "slab" else list(range(WALKERS))
            for iteration in range(options.iterations):
                iteration_of(running, folder, system, iteration, walkers, rows)
        for code in running.values():
            assert code.process.stdin is not None
            code.process.stdin.close()
            code.process.wait()


if __name__ == "__main__":
    main()
