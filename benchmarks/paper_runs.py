"""Campaigns of the papers' kind, run for real: what was found, and how CHGNet and CHGNet + Δ rank it.

    python benchmarks/paper_runs.py FILE... [--workspace DIR] [--record-only]

FILE is a campaign file or a study, as those in benchmarks/papers/. Each is one `godelta run`, which goes on
where a stopped one left off; then `godelta best`, `godelta compare --model` with every foundation that was
compared, and, for surfaces of several formulas with --phases ARGUMENTS, `godelta phase-diagram`. With
--single-points REFERENCE (YAML) the best structure of each campaign is evaluated with that as well. Answers
go to results/paper_<name>.json, pictures to docs/images/paper-<name>.png.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ase.io import read
from pydantic import TypeAdapter
from record import RESULTS, save
from ruamel.yaml import YAML

from godelta.campaign_file import read_campaigns
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.registry import reference_hash
from godelta.reference.settings import ReferenceSettings

IMAGES = RESULTS.parent.parent / "docs" / "images"
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "godelta-papers")
    parser.add_argument("--record-only", action="store_true", help="run nothing, ask what is there")
    parser.add_argument("--foundation", action="append", default=[], help="to compare, beside the campaign's")
    parser.add_argument("--phases", help="arguments of `godelta phase-diagram`")
    parser.add_argument("--single-points", help="what stands after `reference:`, for the best structures")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True, exist_ok=True)
    for file in options.files:
        _one(file, options)


def _one(file: Path, options: argparse.Namespace) -> None:
    if not options.record_only:
        command = [*_godelta(), "run", str(file), "--plain", "--workspace", str(options.workspace)]
        subprocess.run(command, check=True, env=os.environ | THREADS)
    configs = read_campaigns(file)
    names = [config.name for config in configs]
    foundations = [word for name in options.foundation for word in ("--foundation", name)]
    study = names[0].split(".")[0]
    found: dict[str, Any] = {
        "file": file.name,
        "status": [_asked(options, "status", name)[0] for name in names],
        "best": {name: _asked(options, "best", name, "-n", "5") for name in names},
    }
    if configs[0].delta.preset != "none":
        words = [*names, *foundations, "--model", "--plot", str(IMAGES / f"paper-{study}.png")]
        found["compare"] = _asked(options, "compare", *words)
    if options.phases is not None:
        picture = str(IMAGES / f"paper-{study}-phases.png")
        words = shlex.split(options.phases)
        found["phases"] = _asked(options, "phase-diagram", *names, *words, "--plot", picture)
        found["phases_arguments"] = options.phases
    if options.single_points is not None:
        found["single_points"] = _single_points(options, names)
    save(f"paper_{study}", found)


def _single_points(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Energies of the best structures with another reference, eV; a second call adopts what is there."""
    reference = YAML(typ="safe").load(options.single_points)
    settings: ReferenceSettings = TypeAdapter[ReferenceSettings](ReferenceSettings).validate_python(reference)
    energies = {}
    for name in names:
        folder = options.workspace / "single-points" / name / reference_hash(settings)
        folder.mkdir(parents=True, exist_ok=True)
        best = folder / "best.extxyz"
        _asked(options, "best", name, "-n", "1", "--export", str(best))
        outcome = evaluate_isolated(read(best), settings, folder / "scratch")
        if outcome.energy is None:
            sys.exit(f"{name}: {outcome.reason}: {outcome.message}")
        energies[name] = outcome.energy
    return {"reference": reference, "energies": energies}


def _asked(options: argparse.Namespace, *words: str) -> Any:
    """A command's answer as JSON."""
    command = [*_godelta(), *words, "--format", "json", "--workspace", str(options.workspace)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | THREADS)
    answer = json.loads(done.stdout)
    return [answer] if words[0] == "status" and isinstance(answer, dict) else answer


def _godelta() -> list[str]:
    return [sys.executable, "-m", "godelta.cli.main"]


if __name__ == "__main__":
    main()
