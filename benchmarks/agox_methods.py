"""Searches for [Ag2S]2 with AGOX 3.11.1, the papers' own code: CHGNet as foundation, GFN1-xTB as reference.

    python benchmarks/agox_methods.py agox/bin/python [--methods rss gofee] [--seeds 3] [--iterations 60]

AGOX needs an environment of its own (agox_peer.py says which, and `pip install tblite==0.8.0` there). Whole
searches by AGOX's own algorithms (agox_run.py), one worker, the problem of methods/ag4s2.yaml; the Δ-model of
arXiv 2507.18485, its 100 steps and, for REX, its fmax of 0.025 eV/Å, AGOX's defaults otherwise: REX has one
evaluation in 10 iterations, where the paper has 5 in 100, and amplitudes that do not adapt. Rows as in
results/methods_ag4s2.json go to results/agox_methods_ag4s2.json; a run that is cut off leaves what it has.
AGOX cannot go on with a run that has ended: one that is asked for more is done again from its beginning,
unless it has reached the target, where each run ends.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agox_peer import THREADS
from agox_table import HERE, peer_facts
from record import RESULTS, save

NAME = "agox_methods_ag4s2"
ITERATIONS = {"rss": 60, "bh": 60, "gofee": 25, "rex": 30}
MOST_CPU_S = 3600.0
TARGET = -619.8946 + 0.05  # eV; that of methods/ag4s2.yaml
RAY = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}  # workers as nice as the whole


def load() -> list[dict[str, Any]]:
    path = RESULTS / f"{NAME}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def covers(row: dict[str, Any], iterations: int, cpu_s: float) -> bool:
    """Whether this run went as far as one that is asked for would go."""
    return bool(
        reached(row) or (row["finished"] and row["iterations"] >= iterations) or row["total_cpu_s"] >= cpu_s
    )


def reached(row: dict[str, Any]) -> bool:
    return any(energy is not None and energy <= TARGET for energy in row["energies"])


def more_versions(python: str) -> list[str]:
    """Of what only a whole search needs."""
    freeze = [python, "-m", "pip", "freeze"]
    lines = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if line.split("==")[0] in ("ray", "tblite")]


def search(python: str, asked: list[str]) -> Iterator[dict[str, Any]]:
    """One run: what its trace holds, every minute and when it ends, in whatever way."""
    with tempfile.TemporaryDirectory() as folder:
        trace, log = Path(folder) / "trace.json", Path(folder) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [python, str(HERE / "agox_run.py"), *asked, str(trace)],
                stdout=output,
                stderr=output,
                cwd=folder,
                env=os.environ | THREADS | RAY,
            )
        code = None
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout=60.0)
            if trace.exists():
                found: dict[str, Any] = json.loads(trace.read_text())
                yield found
                if reached(found) and code is None:
                    process.terminate()  # AGOX survives SIGINT; Ray's services end with it
                    process.wait()
                    return
        if code:
            raise RuntimeError(f"the run {' '.join(asked)} ended with {code}:\n{log.read_text()[-3000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", help="the interpreter of AGOX's environment")
    parser.add_argument("--methods", nargs="+", choices=ITERATIONS, default=list(ITERATIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, help="of every method; by default enough for a few minutes")
    parser.add_argument(
        "--cpu-s", type=float, default=MOST_CPU_S, help="processor time after which a run ends"
    )
    options = parser.parse_args()
    python = os.path.abspath(options.python)  # noqa: PTH100 - a link
    facts = peer_facts(python)
    facts["agox_versions"] += more_versions(python)
    for seed in range(options.seeds):
        for method in options.methods:
            iterations = options.iterations or ITERATIONS[method]
            key = {"cell": f"agox.{method}", "seed": seed}
            rows = load()
            known = next((row for row in rows if key.items() <= row.items()), None)
            if known is not None and covers(known, iterations, options.cpu_s):
                continue
            row: dict[str, Any] = {}
            for found in search(python, [method, str(seed), str(iterations), str(options.cpu_s)]):
                row = {**key, "iterations": iterations, "most_cpu_s": options.cpu_s, **found}
                row["load"] = os.getloadavg()[0]
                others = [other for other in load() if not key.items() <= other.items()]
                save(NAME, {**facts, "rows": [*others, row]})
            lowest = min((energy for energy in row["energies"] if energy is not None), default=None)
            print(method, seed, len(row["energies"]), lowest, row["total_cpu_s"], flush=True)


if __name__ == "__main__":
    main()
