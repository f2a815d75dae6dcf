"""The whole comparison with AGOX 3.11.1, the papers' own code: cost, retraining, accuracy, in one run.

    python benchmarks/agox_table.py agox/bin/python [--only cost retraining curve]

AGOX needs an environment of its own (agox_peer.py says which). The two codes are processes that stand by and
are asked in turn, so that both see the same machine; CPU seconds of one thread. The same structures,
descriptor, hyper-parameters, number of inducing points and CHGNet weights (preset `paper`). What AGOX does
out of a run and in it differs for retraining: here as in a run, descriptors and inducing points are kept.
Parts go to results/agox_table.json as they come; what is there is measured again only if `--only` names it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from agox_peer import INDUCING, THREADS, Peer, peak_mb, timed
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

HERE = Path(__file__).resolve().parent
SYSTEMS = ("slab", "cluster")
TRAINING, NEW, TURNS = 100, 5, 3
REPEATS = {("godelta", "slab"): 3, ("godelta", "cluster"): 20, ("agox", "slab"): 1, ("agox", "cluster"): 5}
SLABS = 500
SIZES, HELD_OUT, DRAWS = (10, 20, 40, 80, 160), 80, 3
CASES = (("godelta", "paper"), ("agox", "paper"), ("godelta", "accurate"))
CHANGED = {"paper": {"energy_window": 1000.0}}  # AGOX trusts structures of high energy as much as others
SPECIES = (16, 47)


class Own:
    """What is asked of godelta; the counterpart of `Peer`."""

    def __init__(self) -> None:
        import torch

        from godelta.foundation import CHGNetSettings, load_foundation

        torch.set_num_threads(1)
        self.foundation = load_foundation(CHGNetSettings())
        self.systems: dict[str, Any] = {}

    def load(self, folder: str, system: str) -> dict[str, Any]:
        """Train on the structures of this system; what CHGNet says of the new ones."""
        training, new = (read(Path(folder) / f"{system}-{kind}.extxyz", ":") for kind in ("training", "new"))
        correction = train_paper(training)
        self.systems[system] = (correction, new)
        return {
            "foundation_energies": self.foundation.evaluate(new).energies.tolist(),
            "inducing_points": correction.kernel.size,
        }

    def cost(self, system: str, repeats: int) -> dict[str, list[float]]:
        """CPU ms of energy and forces."""
        from godelta.delta.model import DeltaModel

        correction, new = self.systems[system]
        model = DeltaModel(self.foundation, correction)
        actions = {
            "foundation": lambda atoms: self.foundation.evaluate([atoms]),
            "delta": correction.predict,
            "both": lambda atoms: model.evaluate([atoms]),
        }
        alone = timed({"delta_alone": correction.predict}, new, repeats)
        return timed(actions, new, repeats) | alone

    def curve(self, folder: str, chosen: list[int], held_out: list[int], preset: str) -> dict[str, Any]:
        """Residuals that are predicted for the structures held out."""
        from godelta.delta.model import train
        from godelta.delta.settings import DeltaSettings

        structures = read(Path(folder) / "residuals.extxyz", ":")
        training = [structures[k] for k in chosen]
        base = np.array([atoms.info["foundation_energy"] for atoms in training])
        labels = base + [atoms.get_potential_energy() for atoms in training]
        start = time.process_time()
        correction = train(
            DeltaSettings.model_validate({"preset": preset} | CHANGED.get(preset, {})),
            SPECIES,
            training,
            base,
            labels,
            [f"{k:04d}" for k in chosen],
            residual_forces=[atoms.get_forces() for atoms in training],
        )
        seconds = time.process_time() - start
        predictions = [correction.predict(structures[k]) for k in held_out]
        return {
            "train_cpu_s": seconds,
            "energies": [p.energy for p in predictions],
            "forces": [p.forces.tolist() for p in predictions],
        }

    def first(self, folder: str) -> dict[str, float]:
        """All but the last structure, from nothing, without a foundation."""
        slabs = read(Path(folder) / "slabs.extxyz", ":")[:-1]
        train_paper(slabs[:2])  # loads compiled code
        before, start = peak_mb(), time.process_time()
        correction = train_paper(slabs)
        seconds = time.process_time() - start
        (Path(folder) / "model.npz").write_bytes(correction.to_bytes())
        return {
            "from_nothing_without_foundation_s": seconds,
            "before_mb": before,
            "peak_mb": peak_mb(),
        }

    def again(self, folder: str) -> dict[str, Any]:
        """One more structure: the stored model is read, the foundation is asked about the new structure."""
        from godelta.delta.model import Correction

        slabs = read(Path(folder) / "slabs.extxyz", ":")
        blob = (Path(folder) / "model.npz").read_bytes()
        train_paper(slabs[:2])
        self.foundation.evaluate(slabs[:1])
        before, times = peak_mb(), []
        for _ in range(5):
            moments = [time.process_time()]
            previous = Correction.from_bytes(blob)
            moments.append(time.process_time())
            self.foundation.evaluate(slabs[-1:])
            moments.append(time.process_time())
            train_paper(slabs, previous)
            moments.append(time.process_time())
            times.append(np.diff(moments).tolist())
        load, foundation, fit = np.median(times, axis=0)
        return {
            "retrain_s": float(load + foundation + fit),
            "load_s": float(load),
            "foundation_s": float(foundation),
            "fit_s": float(fit),
            "raw_s": times,
            "before_mb": before,
            "peak_mb": peak_mb(),
        }


def train_paper(structures: list[Atoms], previous: Any = None) -> Any:
    from godelta.delta.model import train
    from godelta.delta.settings import DeltaSettings

    settings = DeltaSettings.model_validate({"preset": "paper", "inducing_points": INDUCING})
    energies = [atoms.get_potential_energy() for atoms in structures]
    ids = [f"{k:05d}" for k in range(len(structures))]
    return train(
        settings, SPECIES, structures, np.zeros(len(ids)), np.array(energies), ids, previous=previous
    )


def serve(code: str) -> None:
    """Answer questions, one line of JSON each, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    side: Any = {"godelta": Own, "agox": Peer}[code]()
    for line in sys.stdin:
        question = json.loads(line)
        answers.write(json.dumps(getattr(side, question.pop("ask"))(**question)) + "\n")
        answers.flush()


class Code:
    """A process that answers `serve`'s questions."""

    def __init__(self, code: str, python: str, folder: Path) -> None:
        self.log = folder / f"{code}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, str(HERE / "agox_table.py"), "--serve", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=os.environ | THREADS,
            )

    def ask(self, ask: str, **question: Any) -> dict[str, Any]:
        """What the method `ask` of the process's side returns."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"ask": ask, **question}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{ask} failed:\n{self.log.read_text()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def codes(pythons: dict[str, str], folder: Path) -> Iterator[dict[str, Code]]:
    running = {code: Code(code, python, folder) for code, python in pythons.items()}
    try:
        yield running
    finally:
        for code in running.values():
            assert code.process.stdin is not None
            code.process.stdin.close()
            code.process.wait()


def labelled(make: Any, seeds: range) -> list[Atoms]:
    """Structures with a toy energy; all atoms may move, since AGOX knows no other derivatives."""
    from delta_cost import toy_residual

    structures = [make(seed) for seed in seeds]
    for atoms in structures:
        atoms.set_constraint()
        energy = toy_residual(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    return structures


def cost(pythons: dict[str, str], folder: Path) -> dict[str, Any]:
    """Energy and forces of foundation, Δ and both."""
    import delta_cost

    for system in SYSTEMS:
        make = delta_cost.SYSTEMS[system]
        write(folder / f"{system}-training.extxyz", labelled(make, range(TRAINING)))
        write(folder / f"{system}-new.extxyz", labelled(make, range(1000, 1000 + NEW)))
    raw: dict[str, Any] = {system: {code: {} for code in pythons} for system in SYSTEMS}
    with codes(pythons, folder) as running:
        loaded = {
            system: {code: running[code].ask("load", folder=str(folder), system=system) for code in pythons}
            for system in SYSTEMS
        }
        for _ in range(TURNS):
            for system in SYSTEMS:
                for code in pythons:
                    times = running[code].ask("cost", system=system, repeats=REPEATS[code, system])
                    for name, values in times.items():
                        raw[system][code].setdefault(name, []).extend(values)
    off = {
        system: float(np.abs(np.subtract(*(part["foundation_energies"] for part in both.values()))).max())
        for system, both in loaded.items()
    }
    return {
        "median_ms": {
            system: {code: {k: float(np.median(v)) for k, v in times.items()} for code, times in both.items()}
            for system, both in raw.items()
        },
        "both_over_foundation": {
            system: {
                code: float(np.median(np.divide(times["both"], times["foundation"])))
                for code, times in both.items()
            }
            for system, both in raw.items()
        },
        "inducing_points": {
            system: {code: part["inducing_points"] for code, part in both.items()}
            for system, both in loaded.items()
        },
        "foundations_differ_by_ev": off,
        "raw_ms": raw,
    }


def retraining(pythons: dict[str, str], folder: Path) -> dict[str, Any]:
    """One more slab; each step in a process of its own, so that its peak memory is its own."""
    import delta_cost

    write(folder / "slabs.extxyz", labelled(delta_cost.slab, range(SLABS)))
    result: dict[str, Any] = {"structures": SLABS, "inducing_points": INDUCING}
    for code, python in pythons.items():
        result[code] = {}
        for step in ("first", "again"):
            with codes({code: python}, folder) as running:
                result[code][step] = running[code].ask(step, folder=str(folder))
            print(code, step, result[code][step], flush=True)
    return result


def curve(pythons: dict[str, str], folder: Path) -> dict[str, Any]:
    """Errors on structures held out, the draws of learning_curves.py; GFN1-xTB minus CHGNet as labels."""
    from godelta.foundation import CHGNetSettings, load_foundation

    structures = read(HERE / "data" / "ag4s2-xtb.extxyz", ":")
    batch = load_foundation(CHGNetSettings()).evaluate(structures)
    for atoms, energy, forces in zip(structures, batch.energies, batch.forces, strict=True):
        labels = (atoms.get_potential_energy() - energy, atoms.get_forces() - forces)
        atoms.calc = SinglePointCalculator(atoms, energy=labels[0], forces=labels[1])
        atoms.info = {"foundation_energy": energy}
    write(folder / "residuals.extxyz", structures)
    rows = []
    with codes(pythons, folder) as running:
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(structures)).tolist()
            held_out = order[:HELD_OUT]
            truth = {
                "energies": np.array([structures[k].get_potential_energy() for k in held_out]),
                "forces": np.array([structures[k].get_forces() for k in held_out]),
            }
            for size in SIZES:
                chosen, said = order[HELD_OUT : HELD_OUT + size], {}
                for code, preset in CASES:
                    answer = running[code].ask(
                        "curve", folder=str(folder), chosen=chosen, held_out=held_out, preset=preset
                    )
                    said[code, preset] = answer
                    off = {key: np.abs(np.array(answer[key]) - truth[key]).mean() for key in truth}
                    rows.append(
                        {
                            "case": f"{code}, {preset}",
                            "draw": draw,
                            "structures": size,
                            "energy_mae_mev": 1e3 * float(off["energies"]),
                            "force_mae_mev_per_angstrom": 1e3 * float(off["forces"]),
                            "train_cpu_s": answer["train_cpu_s"],
                        }
                    )
                ours, theirs = said["godelta", "paper"], said["agox", "paper"]
                for key, name in (("energies", "mev"), ("forces", "mev_per_angstrom")):
                    difference = np.subtract(ours[key], theirs[key])
                    rows[-2][f"{key}_rms_difference_{name}"] = 1e3 * float(np.sqrt(np.mean(difference**2)))
                print(*rows[-3:], sep="\n", flush=True)
    noise = 10.0 * float(np.sqrt(len(structures[0])))
    return {"data": "ag4s2-xtb", "held_out": HELD_OUT, "draws": DRAWS, "noise_mev": noise, "rows": rows}


def peer_facts(python: str) -> dict[str, Any]:
    """Versions of AGOX's environment, and whether its CHGNet weights are ours."""
    code = "import importlib.util; print(importlib.util.find_spec('chgnet').submodule_search_locations[0])"
    freeze = [python, "-m", "pip", "freeze"]
    lines = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    names = ("agox", "ase", "chgnet", "numpy", "torch", "dscribe", "scikit-learn")
    theirs = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    spec = find_spec("chgnet")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    weights = [
        hashlib.sha256(next(Path(folder).glob("pretrained/0.3.0/*.tar")).read_bytes()).hexdigest()
        for folder in (spec.submodule_search_locations[0], theirs)
    ]
    if len(set(weights)) > 1:
        raise RuntimeError("the CHGNet weights of the two environments differ")
    versions = [line for line in lines if line.split("==")[0] in names]
    return {"agox_versions": versions, "weights_sha256": weights[0]}


PARTS = {"cost": cost, "retraining": retraining, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", nargs="?", help="the interpreter of AGOX's environment")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to measure, again if need be")
    parser.add_argument("--serve", choices=("godelta", "agox"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if not options.python:
        parser.error("which interpreter is AGOX's?")
    from record import RESULTS, machine, save

    path = RESULTS / "agox_table.json"
    done = json.loads(path.read_text())["parts"] if path.exists() else {}
    pythons = {"godelta": sys.executable, "agox": os.path.abspath(options.python)}  # noqa: PTH100 - a link
    facts = peer_facts(pythons["agox"])
    for name in options.only or [name for name in PARTS if name not in done]:
        with tempfile.TemporaryDirectory() as folder:
            started = machine()["load_average"]
            part = PARTS[name](pythons, Path(folder))
        when = datetime.now(UTC).isoformat(timespec="seconds")
        load = [started, machine()["load_average"]]
        done[name] = {"date": when, "load_average": load, **part}
        save("agox_table", {**facts, "parts": done})
    print(json.dumps({k: v for k, v in done.get("cost", {}).items() if k != "raw_ms"}, indent=1))


if __name__ == "__main__":
    main()
