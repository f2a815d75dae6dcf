"""What every benchmark writes down: the machine, versions, and raw numbers as JSON."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "godelta", "numpy", "scipy", "numba", "ase", "dscribe", "scikit-learn", "chgnet", "torch", "fireworks",
    "jobflow", "pymongo",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, cores, threads and operating system of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [
        line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "cpu family"))
    ]
    return {
        "processor": ", family ".join(dict.fromkeys(reversed(models))) or platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that matter for speed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def save(name: str, results: dict[str, Any]) -> Path:
    """Write results with machine and versions to results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        **results,
    }
    path.write_text(json.dumps(document) + "\n")
    return path
