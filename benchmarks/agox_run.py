"""One search with AGOX 3.11.1, written down as it goes: AGOX's side of agox_methods.py.

    agox/bin/python agox_run.py METHOD SEED ITERATIONS CPU_SECONDS TRACE.json

AGOX's own algorithms, through its API, with CHGNet as prior and GFN1-xTB as calculator. The energy of each
calculation goes to the file with the processor time by then: that of this process and of AGOX's worker, and
by itself that of Ray's services. Start-up does not count. The run ends after ITERATIONS, or with the first
calculation beyond CPU_SECONDS.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

FORMULA, BOX, CONFINEMENT = "Ag4S2", 18.0, 9.0
BOHR = 0.5291772105638411  # Å
HARTREE = 27.211386024367243  # eV
BOLTZMANN = 8.617330337217213e-05  # eV/K
MAX_SCF = 500
TICK = os.sysconf("SC_CLK_TCK")


def _processes() -> Iterator[tuple[int, int, float]]:
    """Process, parent and processor time in s of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        yield int(folder.name), int(fields[1]), (int(fields[11]) + int(fields[12])) / TICK


def spent() -> tuple[float, float]:
    """Processor time in s of this process with AGOX's workers, and of Ray's services."""
    rows = list(_processes())
    children: dict[int, list[int]] = {}
    for process, parent, _ in rows:
        children.setdefault(parent, []).append(process)
    seconds = {process: cpu for process, _, cpu in rows}
    working, serving, waiting = seconds[os.getpid()], 0.0, list(children.get(os.getpid(), ()))
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, ())
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::"):
            working += seconds[process]
        else:
            serving += seconds[process]
    return working, serving


class Trace:
    """What has been calculated, in a file that is always whole."""

    def __init__(self, path: Path, most_cpu_s: float) -> None:
        self.path, self.most_cpu_s = path, most_cpu_s
        self.before = spent()
        self.energies: list[float | None] = []
        self.cpu_s: list[float] = []

    def add(self, energy: float | None) -> None:
        """One more calculation; None where it failed."""
        self.energies.append(energy)
        self.cpu_s.append(spent()[0] - self.before[0])
        self.write(finished=False)
        if self.cpu_s[-1] > self.most_cpu_s:
            raise SystemExit(0)

    def write(self, *, finished: bool) -> None:
        """Write the file anew."""
        now = spent()
        document = {
            "energies": self.energies,
            "cpu_s": self.cpu_s,
            "total_cpu_s": now[0] - self.before[0],
            "services_cpu_s": now[1] - self.before[1],
            "start_up_cpu_s": self.before[0],
            "finished": finished,
        }
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(document))
        new.replace(self.path)


class XTB(Calculator):
    """GFN1-xTB with godelta's settings: a fresh start each time, and a hot one where that fails."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (of ASE)

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Energy and forces, and a line in the trace."""
        super().calculate(atoms, properties, system_changes)
        try:
            result = self._single_point(None)
        except RuntimeError:
            try:
                result = self._single_point(3000.0)
            except RuntimeError:
                self.trace.add(None)
                raise
        energy = float(result.get("energy")) * HARTREE
        self.results = {"energy": energy, "forces": -np.asarray(result.get("gradient")) * HARTREE / BOHR}
        self.trace.add(energy)

    def _single_point(self, hot: float | None) -> Any:
        from tblite.interface import Calculator as Engine

        engine = Engine("GFN1-xTB", self.atoms.numbers, self.atoms.positions / BOHR)
        engine.set("verbosity", 0)
        engine.set("max-iter", MAX_SCF)
        result = None
        if hot is not None:
            engine.set("temperature", hot * BOLTZMANN / HARTREE)
            result = engine.singlepoint()
        engine.set("temperature", 300.0 * BOLTZMANN / HARTREE)
        return engine.singlepoint(result)


def algorithm_of(method: str) -> tuple[Any, dict[str, Any]]:
    """AGOX's algorithm and its settings: the paper's model, AGOX's defaults otherwise."""
    from agox.algorithms.basin_hopping_surrogate import SurrogateBasinHopping
    from agox.algorithms.gofee import GOFEE
    from agox.algorithms.replica_exchange import ReplicaExchange
    from agox.algorithms.rss_surrogate import SurrogateRandomStructureSearch
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    prior = CHGNetCalculator(model=CHGNet.load(verbose=False, use_device="cpu"), use_device="cpu")
    local: dict[str, Any] = {
        "kind": "local_gpr",
        "prior": prior,
        "length_scale": 40.0,
        "amplitude": 1.0,
        "noise": 0.01,
        "cur_points": 1000,
        "descriptor": {"kind": "soap", "radial_cutoff": 7.0, "n_max": 3, "l_max": 2, "sigma": 1.0},
    }
    point = {"kind": "single_point", "number_to_evaluate": 1}
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "rss": (
            SurrogateRandomStructureSearch,
            {"model": local, "evaluator": point, "relaxer": {"kind": "serial_relax", "start_relax": 5}},
        ),
        "bh": (SurrogateBasinHopping, {"model": local, "evaluator": point, "generator": {"kind": "rattle"}}),
        "gofee": (GOFEE, {"model": {**local, "train_uncertainty": True}}),
        "gofee_global": (GOFEE, {"model": {"kind": "global_gpr", "prior": prior}}),
        "rex": (
            ReplicaExchange,
            {
                "model": local,
                "relaxer": {"kind": "parallel_relax", "max_steps": 100, "fmax": 0.025, "start_relax": 0},
            },
        ),
    }
    return known[method]


def main() -> None:
    method, seed, iterations, most_cpu_s, path = sys.argv[1:]
    import torch

    torch.set_num_threads(1)
    folder = tempfile.mkdtemp(prefix="agox")  # Ray's sockets need a short path
    algorithm, settings = algorithm_of(method)
    from agox.utils.ray import ray_startup

    ray_startup(cpu_count=1, memory=2_000_000_000, tmp_dir=f"{folder}/ray")
    trace = Trace(Path(path).resolve(), float(most_cpu_s))
    search = algorithm.create(
        algorithm=settings,
        problem={
            "template": Atoms(cell=[BOX] * 3, pbc=False),
            "symbols": FORMULA,
            "confinement_cell": np.eye(3) * CONFINEMENT,
            "confinement_corner": np.full(3, 0.5 * (BOX - CONFINEMENT)),
            "calculator": XTB(trace),
        },
        run={
            "path": folder,
            "seed": int(seed),
            "cpu_count": 1,
            "ray_memory": 2_000_000_000,
            "ray_tmp_dir": f"{folder}/ray",
        },
    )
    search.run(iterations=int(iterations))
    trace.write(finished=True)


if __name__ == "__main__":
    main()
