"""The shipped example from an empty workspace: wall time, where the workers' time goes, what is found.

Usage: python benchmarks/example_run.py [number of runs]; appends to results/example_run.json
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import RESULTS, machine, versions

from godelta.store import campaigns
from godelta.store.mongod import PrivateMongod
from godelta.store.progress import snapshot
from godelta.store.workspace import Workspace

EXAMPLE = Path(__file__).parent.parent / "examples" / "ag4s2.yaml"


def run_once() -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="godelta-"))
    command = [
        sys.executable,
        "-m",
        "godelta.cli.main",
        "run",
        str(EXAMPLE),
        "--workspace",
        str(folder),
        "--plain",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    load, start = os.getloadavg()[0], time.perf_counter()
    try:
        subprocess.run(command, check=True, capture_output=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        store = Workspace(folder).connect()
        progress = snapshot(store, campaigns.get_campaign(store, "ag4s2").campaign_id)
        store.close()
    finally:
        PrivateMongod(folder).stop()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "command_wall_s": wall,
        "command_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "load_average_before": load,
        "elapsed_s": progress.elapsed_s,
        "worker_s": progress.worker_s,
        "timings": progress.timings,
        "overhead": overhead(progress.worker_s, progress.timings),
        "rounds": progress.closed_rounds,
        "ok": progress.ok,
        "failed": progress.failed,
        "best_energy": progress.best_energy,
    }


def overhead(worker_s: float, timings: dict[str, float]) -> float:
    """Share of the workers' wall time outside potentials (and their loading), reference and training."""
    work = sum(timings.get(key, 0.0) for key in ("loading_s", "potential_s", "reference_s", "training_s"))
    return 1.0 - work / worker_s


def main(count: int) -> None:
    path = RESULTS / "example_run.json"
    done = json.loads(path.read_text())["runs"] if path.exists() else []
    for _ in range(count):
        done.append(run_once())
        document = {"benchmark": "example_run", "machine": machine(), "versions": versions(), "runs": done}
        path.write_text(json.dumps(document, indent=1) + "\n")
        last = done[-1]
        print(
            f"{last['command_wall_s']:.0f} s wall, {last['command_cpu_s']:.0f} s CPU,"
            f" overhead {last['overhead']:.1%}, load before {last['load_average_before']:.1f},"
            f" best {last['best_energy']:.4f} eV, {last['ok']} ok, {last['failed']} failed"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
