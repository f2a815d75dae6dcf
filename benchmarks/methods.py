"""Search methods compared: success against evaluations, processor time and accounted cost.

    python benchmarks/methods.py FILE... [--seeds 20] [--workspace DIR] [--workers 1] [--record-only]

FILE is a benchmark file, as those in benchmarks/methods/. Each is one `godelta benchmark` in the workspace, a
seed of all its cells at a time; runs are added to results/methods_<name>.json as they come. Seeds that are
there for every cell are not run again: without the workspace of before, more seeds go on all the same.
A larger budget in FILE takes up the runs without success: from where they ended, with the same workspace.
`--record-only` writes down what the workspace holds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, save
from ruamel.yaml import YAML

from godelta.benchmark_file import Benchmark, read_benchmark

KEPT = ("cell", "seed", "state", "energies", "cpu_s", "total_cpu_s", "equivalent")
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
DONE = ("finished", "paused")  # paused: it has reached the target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=20, help="seeds 1 to this")
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "godelta-methods")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--record-only", action="store_true")
    options = parser.parse_args()
    for file in options.files:
        for seed in range(1, options.seeds + 1):
            _seed(file, seed, options)


def _seed(file: Path, seed: int, options: argparse.Namespace) -> None:
    benchmark = read_benchmark(file)
    rows = _recorded(benchmark)
    settings = _settings(benchmark)
    missing = [
        cell
        for cell in benchmark.cells
        if (cell, seed) not in rows or not _enough(rows[cell, seed], settings[cell], benchmark)
    ]
    if not missing:
        return
    document = _run(file, seed, missing, options)
    for run in document["runs"]:
        place = run["cell"], run["seed"]
        if run["state"] in DONE and run["energies"]:
            rows[place] = {key: run[key] for key in KEPT} | {"settings": settings[run["cell"]]}
            if benchmark.target is None:  # equivalent to the lowest of this seed, which may not be the lowest
                rows[place]["equivalent"] = None
    _save(benchmark, rows)


def _enough(row: dict[str, Any], wanted: str, benchmark: Benchmark) -> bool:
    """Whether this run is that of these settings, as far as they go or as far as to the target."""
    (identity, evaluations), (its_own, its_evaluations) = wanted.split(), row["settings"].split()
    found = [energy for energy in row["energies"] if energy is not None]
    reached = benchmark.target is not None and min(found) <= benchmark.target + benchmark.tolerance
    return identity == its_own and (reached or int(its_evaluations) >= int(evaluations))


def _run(file: Path, seed: int, cells: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """What `godelta benchmark` finds with this seed alone, and with the values that occur in these cells."""
    options.workspace.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    values = yaml.load(file)
    values["seeds"] = [seed]
    for place, (axis, ways) in enumerate(values["vary"].items()):
        wanted = {cell.split(".")[place] for cell in cells}
        values["vary"][axis] = {name: way for name, way in ways.items() if name in wanted}
    one = options.workspace / f"{file.stem}-{seed}.yaml"
    with one.open("w") as stream:
        yaml.dump(values, stream)
    command = [
        sys.executable, "-m", "godelta.cli.main", "benchmark", str(one), "--format", "json",
        "--workers", str(options.workers), "--workspace", str(options.workspace),
    ]  # fmt: skip
    if options.record_only:
        command.append("--results-only")
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | THREADS, check=False)
    if done.returncode == 130:
        sys.exit(130)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _settings(benchmark: Benchmark) -> dict[str, str]:
    """What each cell is, beside its seed and its name."""
    found = {}
    for one in benchmark.campaigns:
        plain = one.config.model_copy(update={"seed": 0})
        budget = plain.budget.model_dump(mode="json")
        found[one.cell] = f"{plain.identity_hash()[:12]} {budget['evaluations']}"
    return found


def _path(benchmark: Benchmark) -> Path:
    return RESULTS / f"methods_{benchmark.name}.json"


def _recorded(benchmark: Benchmark) -> dict[tuple[str, int], dict[str, Any]]:
    path = _path(benchmark)
    rows = json.loads(path.read_text())["runs"] if path.exists() else []
    return {(row["cell"], row["seed"]): row for row in rows}


def _save(benchmark: Benchmark, rows: dict[tuple[str, int], dict[str, Any]]) -> None:
    common = benchmark.campaigns[0].config
    save(
        _path(benchmark).stem,
        {
            "name": benchmark.name,
            "system": common.system.model_dump(mode="json"),
            "foundation": common.foundation.model_dump(mode="json"),
            "reference": common.reference.model_dump(mode="json", exclude={"limits"}),
            "target": benchmark.target,
            "tolerance": benchmark.tolerance,
            "price_s": benchmark.price_s,
            "cells": list(benchmark.cells),
            "runs": [rows[place] for place in sorted(rows)],
        },
    )


if __name__ == "__main__":
    main()
