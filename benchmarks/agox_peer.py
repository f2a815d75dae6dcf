"""AGOX's side of agox_table.py and agox_predictions.py.

AGOX needs an environment of its own, and everything here that imports it runs there:

    python3.11 -m venv agox
    agox/bin/pip install agox==3.11.1 ase==3.27.0 "numpy<2.4" torch==2.13.0 chgnet==0.4.2

Everywhere the hyper-parameters of arXiv 2507.18485: SOAP r_cut 7 Å, n_max 3, l_max 2, sigma 1 Å; amplitude
1 eV, length scale 40, noise 0.01 sqrt(n_atoms) eV, one mean energy.
"""

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
INDUCING = 1000
# In a run AGOX chooses inducing points anew in every 25th iteration, once it has ten environments for each.
ITERATION_THAT_CHOOSES_NONE = 501


def sparse_gp(like: Atoms, inducing_points: int = INDUCING) -> Any:
    """AGOX's model for structures of the composition and periodicity of `like`; CPU time of CUR is noted."""
    from agox.environments import Environment
    from agox.models.descriptors import SOAP
    from agox.models.GPR import SparseGPR
    from agox.models.GPR.kernels import RBF, Constant
    from agox.utils.sparsifiers import CUR

    class TimedCUR(CUR):
        cpu_s = 0.0

        def sparsify(self, X: Any) -> Any:
            start = time.process_time()
            chosen = super().sparsify(X)
            self.cpu_s = time.process_time() - start
            return chosen

    environment = Environment(
        template=Atoms(cell=like.cell, pbc=like.pbc),
        symbols=like.get_chemical_formula(),
        use_box_constraint=False,
        print_report=False,
    )
    periodic = bool(like.pbc.any())
    return SparseGPR(
        descriptor=SOAP(environment=environment, r_cut=7, nmax=3, lmax=2, sigma=1, periodic=periodic),
        kernel=Constant(1) * RBF(length_scale=40),
        sigma=0.01,
        centralize=True,
        sparsifier=TimedCUR(m_points=inducing_points),
        use_ray=False,
    )


def timed(
    actions: dict[str, Callable[[Atoms], object]], structures: Sequence[Atoms], repeats: int
) -> dict[str, list[float]]:
    """CPU milliseconds of each action on each structure, in turn, so that all see the same machine."""
    for action in actions.values():
        for atoms in structures[:2]:
            action(atoms)
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for atoms in structures:
            for name, action in actions.items():
                start = time.process_time()
                action(atoms)
                times[name].append(round(1e3 * (time.process_time() - start), 4))
    return times


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Peer:
    """What agox_table.py asks of AGOX."""

    def __init__(self) -> None:
        import torch
        from chgnet.model.model import CHGNet

        torch.set_num_threads(1)
        self.chgnet = CHGNet.load(verbose=False, use_device="cpu")
        self.systems: dict[str, Any] = {}

    def _calculator(self) -> Any:
        from chgnet.model.dynamics import CHGNetCalculator

        return CHGNetCalculator(model=self.chgnet, use_device="cpu")

    def load(self, folder: str, system: str) -> dict[str, Any]:
        """Train on the structures of this system; what CHGNet says of the new ones."""
        training, new = (read(Path(folder) / f"{system}-{kind}.extxyz", ":") for kind in ("training", "new"))
        model = sparse_gp(training[0])
        model.train(training)
        self.systems[system] = (model, new)
        calculator = self._calculator()
        return {
            "foundation_energies": [float(calculator.get_potential_energy(atoms)) for atoms in new],
            "inducing_points": len(model.Xm),
        }

    def cost(self, system: str, repeats: int) -> dict[str, list[float]]:
        """CPU ms of energy and forces. No structure comes twice in a row: ASE would remember the result."""
        from agox.models import CalculatorModel

        model, new = self.systems[system]
        calculator, prior = self._calculator(), CalculatorModel(self._calculator())

        def foundation(atoms: Atoms) -> None:
            calculator.get_potential_energy(atoms)
            calculator.get_forces(atoms)

        def delta(atoms: Atoms) -> None:
            model.prior = None
            model.predict_energy(atoms)
            model.predict_forces(atoms)

        def both(atoms: Atoms) -> None:
            model.prior = prior
            model.predict_energy(atoms)
            model.predict_forces(atoms)

        alone = timed({"delta_alone": delta}, new, repeats)
        return timed({"foundation": foundation, "delta": delta, "both": both}, new, repeats) | alone

    def curve(self, folder: str, chosen: list[int], held_out: list[int], preset: str) -> dict[str, Any]:
        """Residuals that are predicted for the structures held out; `preset` is always `paper`."""
        assert preset == "paper"
        structures = read(Path(folder) / "residuals.extxyz", ":")
        np.random.seed(0)  # noqa: NPY002 - what AGOX draws from
        model = sparse_gp(structures[0])
        start = time.process_time()
        model.train([structures[k] for k in chosen])
        seconds = time.process_time() - start
        return {
            "train_cpu_s": seconds,
            "energies": [float(model.predict_energy(structures[k])) for k in held_out],
            "forces": [model.predict_forces(structures[k]).tolist() for k in held_out],
        }

    def first(self, folder: str) -> dict[str, float]:
        """All but the last structure: descriptors, inducing points and fit, without a foundation."""
        structures = _candidates(Path(folder))[:-1]
        model = sparse_gp(structures[0])
        before, start = peak_mb(), time.process_time()
        model.train(structures)
        seconds = time.process_time() - start
        np.save(Path(folder) / "inducing.npy", model.Xm)
        return {
            "from_nothing_without_foundation_s": seconds,
            "choice_of_inducing_points_s": model.sparsifier.cpu_s,
            "before_mb": before,
            "peak_mb": peak_mb(),
        }

    def again(self, folder: str) -> dict[str, float]:
        """One more structure, as in a run of AGOX: descriptors are kept, inducing points too."""
        from agox.models import CalculatorModel

        structures = _candidates(Path(folder))
        model = sparse_gp(structures[0])
        model.prior = CalculatorModel(self._calculator())
        model.descriptor.get_features(structures[:-1])
        model.Xm = np.load(Path(folder) / "inducing.npy")
        model.num_enviornments_when_sparsified = sum(map(len, structures[:-1]))
        model.set_iteration_counter(ITERATION_THAT_CHOOSES_NONE)
        before, start = peak_mb(), time.process_time()
        model.train(structures)
        seconds = time.process_time() - start
        if model.sparsifier.cpu_s:
            raise RuntimeError("AGOX chose inducing points anew")
        return {"retrain_s": seconds, "before_mb": before, "peak_mb": peak_mb()}


def _candidates(folder: Path) -> list[Any]:
    """Structures as AGOX keeps them in a run: they remember their descriptors."""
    from agox.candidates import StandardCandidate

    return [
        StandardCandidate.from_atoms(Atoms(cell=atoms.cell, pbc=atoms.pbc), atoms)
        for atoms in read(folder / "slabs.extxyz", ":")
    ]
