"""Time per structure against the number of structures in a batch.

    python benchmarks/batches.py [chgnet | sevennet-0] [--device auto | cpu | cuda]

Foundation alone, and CHGNet with both kinds of Δ-model (1000 inducing points), energy and forces of
different structures: Ag4S2 (6 atoms), Ag14S7 (21 atoms), and Ag6S6 on Ag(111) (60 atoms, at most 16 of them
on a CPU). One thread; the models in turn, batch by batch. `auto` is a GPU where there is one. SevenNet needs
the environment of `make test-sevennet`. A run takes the place of the run before on the same device.
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from delta_cost import ONE_THREAD, cluster, slab, toy_residual
from record import RESULTS, machine, save, versions

from godelta.delta.embedding import train_embedding
from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DeltaSettings
from godelta.foundation import CHGNetSettings, SevenNetSettings, load_foundation

DATA = Path(__file__).parent / "data"
FOUNDATIONS = {"chgnet": CHGNetSettings, "sevennet-0": SevenNetSettings}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
LARGEST_ON_CPU = {"slab": 16}
REPEATS = {"small": 9, "cluster": 7, "slab": 6}
SPECIES = (16, 47)


def structures_of(system: str) -> tuple[list[Atoms], list[Atoms]]:
    """Structures to train on, with at least 1000 atoms, and 64 others."""
    largest = max(BATCHES)
    if system == "small":
        every = read(DATA / "ag4s2-xtb.extxyz", ":")
        return every[: -largest - 1], every[-largest:]
    make, count = {"cluster": (cluster, 50), "slab": (slab, 20)}[system]
    return [make(k) for k in range(count)], [make(1000 + k) for k in range(largest)]


def models_on(foundation: Any, name: str, training: list[Atoms]) -> dict[str, DeltaModel]:
    models = {name: DeltaModel(foundation)}
    if name != "chgnet":
        return models
    base = foundation.evaluate(training).energies
    labels = base + [toy_residual(atoms) for atoms in training]
    data = (training, base, labels, [f"{k:04d}" for k in range(len(training))])
    soap = train(DeltaSettings.model_validate({}), SPECIES, *data)
    settings = DeltaSettings.model_validate({"descriptor": "embedding"})
    embedding = train_embedding(settings, SPECIES, *data, foundation=foundation)
    models[f"{name} + Δ, SOAP"] = DeltaModel(foundation, soap)
    models[f"{name} + Δ, embedding"] = DeltaModel(foundation, embedding)
    return models


def measure(foundation: Any, name: str, system: str, *, cpu: bool) -> list[dict[str, Any]]:
    """A row for each model and size of batch; ms per structure."""
    training, new = structures_of(system)
    models = models_on(foundation, name, training)
    rows = []
    for size in BATCHES:
        if cpu and size > LARGEST_ON_CPU.get(system, size):
            break
        times: dict[str, list[tuple[float, float]]] = {label: [] for label in models}
        for repeat in range(REPEATS[system] + 1):
            turn = repeat % len(models)
            for label, model in [*models.items()][turn:] + [*models.items()][:turn]:
                start = (time.process_time(), time.perf_counter())
                model.evaluate(new[:size])
                end = (time.process_time(), time.perf_counter())
                if repeat:  # the first one warms up
                    times[label].append((1e3 * (end[0] - start[0]) / size, 1e3 * (end[1] - start[1]) / size))
        for label, raw in times.items():
            cpu_ms, wall_ms = np.median(raw, axis=0)
            row = {"model": label, "system": system, "atoms": len(new[0]), "batch": size, "n": len(raw)}
            rows.append(row | {"cpu_ms": cpu_ms, "wall_ms": wall_ms, "raw_ms": raw})
            print(
                f"{label:26s} {system:8s} {size:3d} {cpu_ms:8.2f} CPU ms {wall_ms:8.2f} wall ms", flush=True
            )
    return rows


def device_name(identity: Any) -> str:
    if identity.device == "cpu":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("foundation", choices=FOUNDATIONS, nargs="?", default="chgnet")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # libraries read it when they start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    import torch

    torch.set_num_threads(1)
    foundation = load_foundation(FOUNDATIONS[options.foundation](device=options.device))
    device = device_name(foundation.identity)
    if options.device == "cuda" and device == "cpu":
        parser.error("PyTorch sees no GPU here")
    started = machine()
    rows = [
        row
        for system in REPEATS
        for row in measure(foundation, options.foundation, system, cpu=device == "cpu")
    ]
    path = RESULTS / "batches.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    key = {"foundation": options.foundation, "device": device}
    runs = [run for run in runs if {name: run[name] for name in key} != key]
    facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": started}
    save("batches", {"runs": [*runs, {**key, **facts, "versions": versions(), "rows": rows}]})


if __name__ == "__main__":
    main()
