"""AGOX's side of agox_searches.py; it needs the environment that agox_peer.py tells of, and tblite in it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from agox_peer import Peer
from ase.constraints import FixAtoms
from ase.io import read
from ase.optimize import BFGS


class Logged(BFGS):
    """ASE's BFGS; keeps the energy of every step."""

    def __init__(self, *args: Any, energies: list[float], **kwargs: Any) -> None:
        self.energies = energies
        super().__init__(*args, **kwargs)

    def log(self, gradient: Any) -> None:  # noqa: ARG002 (of ASE)
        """Keep one more; called once before each step and at the end."""
        self.energies.append(float(self.optimizable.get_value()))


class SearchPeer(Peer):
    """What agox_searches.py asks of AGOX."""

    def relax(
        self,
        folder: str,
        system: str,
        iteration: int,
        walkers: list[int],
        fmax: float,
        steps: int,
    ) -> dict[str, Any]:
        """Relax proposed structures one by one on CHGNet + Δ, by the function of AGOX's workers."""
        from agox.candidates import StandardCandidate
        from agox.models import CalculatorModel
        from agox.postprocessors.ray_relax.remote_relax import remote_relax
        from agox.utils.constraints.box_constraint import BoxConstraint

        model = self.systems[system][0]
        model.prior = CalculatorModel(self._calculator())
        proposals = read(Path(folder) / f"{system}-{iteration}.extxyz", ":")
        box = np.load(Path(folder) / f"{system}-box.npz")
        rows: dict[str, list[Any]] = {"steps": [], "converged": [], "energies": [], "cpu_s": [], "path": []}
        for k in walkers:
            atoms = proposals[k]
            n_template = int(box["n_template"])
            candidate = StandardCandidate.from_atoms(atoms[:n_template], atoms)
            candidate.set_constraint(
                [
                    FixAtoms(indices=np.flatnonzero(box["fixed"])),
                    BoxConstraint(
                        confinement_cell=box["cell"],
                        confinement_corner=box["corner"],
                        indices=np.arange(n_template, len(atoms)),
                        pbc=(~box["walls"]).tolist(),
                    ),
                ]
            )
            start = time.process_time()
            energies: list[float] = []
            keep: dict[str, Any] = {"logfile": None, "energies": energies}
            done = remote_relax(model, candidate, Logged, keep, {"fmax": fmax, "steps": steps})
            rows["cpu_s"].append(time.process_time() - start)
            rows["steps"].append(int(done.relaxation_steps))
            rows["converged"].append(bool(done.converged))
            rows["energies"].append(float(done.final_energy))
            rows["path"].append([round(energy, 4) for energy in energies])
        return rows
