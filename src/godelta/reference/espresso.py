"""Quantum ESPRESSO: pw.x with pseudopotentials of one's own."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from godelta.arrays import FloatArray
from godelta.reference.engine import EngineError, EngineResult, Task
from godelta.reference.program import atoms_of, folder_of, is_slab, kpoint_grid, run_program, vacuum_middle

if TYPE_CHECKING:
    from ase import Atoms

Sections = dict[str, dict[str, Any]]

PSEUDO_VARIABLE = "ESPRESSO_PSEUDO"
OUTDIR = "tmp"
DENSITY = Path(OUTDIR, "pwscf.save", "charge-density.dat")
SAW = 0.04  # part of the cell in which the dipole correction's saw-tooth falls: it has to lie in the vacuum

# Ways to the same self-consistent density, one after the other, each of one or more runs; a change of the
# mixing is left out where the user has chosen it. The last run of each is that of the settings.
WIDE = 5.0
MIXING: dict[str, Any] = {"mixing_beta": 0.2}
LAST_DENSITY: dict[str, Any] = {"startingpot": "file"}
LADDER: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("default mixing", ({},)),
    ("continued", (LAST_DENSITY,)),
    ("mixing 0.2", (MIXING,)),
    ("wide smearing first", ({**MIXING, "degauss": WIDE}, MIXING | LAST_DENSITY)),
)


def evaluate(task: Task) -> EngineResult:
    """Energy (of the electrons at their width: what the forces belong to) and forces.

    espresso.pwi and espresso.pwo are left in the working directory, espresso-2 and so on by further runs.

    Raises
    ------
    EngineError
        No self-consistency at any rung of the ladder, or any other error of pw.x.
    """
    atoms = atoms_of(task, task.settings["starting_magnetization"])
    sections = sections_for(task.settings, atoms)
    tried: tuple[str, ...] = ()
    runs = 0
    try:
        for name, steps in LADDER:
            if not _has_a_point(steps, task.settings, sections):
                continue
            tried = (*tried, name)
            try:
                for change in steps:
                    runs += 1
                    energy, forces = _run(task, atoms, _changed(sections, change), runs)
                return EngineResult(energy, forces, tried)
            except EngineError as error:
                failure = error
                if error.reason != "not_converged":
                    break
        raise EngineError(failure.reason, failure.message, tried)
    finally:
        shutil.rmtree(OUTDIR, ignore_errors=True)


def sections_for(settings: Mapping[str, Any], atoms: "Atoms") -> Sections:
    """The namelists of pw.x for a structure."""
    control: dict[str, Any] = {
        "calculation": "scf",
        "outdir": OUTDIR,
        "disk_io": "low",
        "pseudo_dir": str(folder_of(settings["pseudo_dir"], PSEUDO_VARIABLE) or "."),
        "tprnfor": True,
    }
    # A candidate's accidental symmetry must not change the level; time reversal still halves k-points.
    system: dict[str, Any] = {"ecutwfc": settings["ecutwfc"], "ecutrho": settings["ecutrho"], "nosym": True}
    if settings["degauss"] > 0:
        system |= {
            "occupations": "smearing",
            "smearing": settings["smearing"],
            "degauss": settings["degauss"],
        }
    if settings["dipole_correction"] and is_slab(atoms.pbc):
        control |= {"tefield": True, "dipfield": True}
        system |= {"edir": 3, "eopreg": SAW, "eamp": 0.0}
        system["emaxpos"] = (vacuum_middle(atoms) - SAW / 2.0) % 1.0
    electrons = {"conv_thr": settings["conv_thr"], "electron_maxstep": settings["max_iterations"]}
    found: Sections = {"control": control, "system": system, "electrons": electrons}
    for section, values in in_sections(settings["input_data"])[0].items():
        found[section] = found.get(section, {}) | values
    return found


def in_sections(input_data: Mapping[str, Any]) -> tuple[Sections, list[str]]:
    """Keys of pw.x below their sections, and the keys that belong to none."""
    from ase.io.espresso_namelist.keys import pw_keys

    found: Sections = {}
    unknown = []
    for key, value in input_data.items():
        low = key.lower()
        if isinstance(value, Mapping) and low in pw_keys:
            found[low] = found.get(low, {}) | {name.lower(): inner for name, inner in value.items()}
            continue
        bare = low.partition("(")[0].strip()
        homes = [section for section, keys in pw_keys.items() if bare in keys]
        if homes and not isinstance(value, Mapping):
            found.setdefault(homes[0], {})[low] = value
        else:
            unknown.append(key)
    return found, unknown


def _has_a_point(steps: tuple[dict[str, Any], ...], settings: Mapping[str, Any], sections: Sections) -> bool:
    """Whether a rung can be tried, and changes nothing that the user has chosen."""
    if "startingpot" in steps[0] and not DENSITY.exists():
        return False
    if "degauss" in steps[0] and settings["degauss"] == 0:
        return False
    return not any(key in sections["electrons"] for key in MIXING if key in steps[0])


def _changed(sections: Sections, change: Mapping[str, Any]) -> Sections:
    changed = {section: dict(values) for section, values in sections.items()}
    for key, value in change.items():
        if key == "degauss":
            changed["system"]["degauss"] *= value
        else:
            changed["electrons"][key] = value
    return changed


def _run(task: Task, atoms: "Atoms", sections: Sections, number: int) -> tuple[float, FloatArray]:
    from ase.io import read, write

    name = "espresso" if number == 1 else f"espresso-{number}"
    grid = kpoint_grid(atoms, task.settings)
    write(
        f"{name}.pwi",
        atoms,
        format="espresso-in",
        input_data=sections,
        pseudopotentials=task.settings["pseudopotentials"],
        # pw.x has a faster way for Γ alone, with the same numbers.
        kpts=None if grid == (1, 1, 1) else grid,
    )
    output = Path(f"{name}.pwo")
    code = run_program(task, task.settings["command"], output, ["-in", f"{name}.pwi"])
    text = output.read_text(errors="replace")
    _see_that_it_went_well(text, code, task.settings)
    done: Any = read(output, format="espresso-out")
    results = done.calc.results
    if "energy" not in results or "forces" not in results:
        raise EngineError("engine_error", f"{output} holds no energy or no forces")
    return float(results["energy"]), np.asarray(results["forces"], dtype=np.float64)


def _see_that_it_went_well(text: str, code: int, settings: Mapping[str, Any]) -> None:
    if found := re.search(r"convergence NOT achieved.*", text):
        raise EngineError("not_converged", f"pw.x: {found[0].strip()}")
    if told := _error_in(text):
        reason = "not_converged" if "c_bands" in told else "engine_error"
        raise EngineError(reason, f"pw.x: {told}")
    if code != 0 or "JOB DONE" not in text:
        raise EngineError("engine_error", f"{settings['command']} ended too early, with exit code {code}")
    asked, found_version = settings["version"], version_in(text)
    if asked is not None and found_version != asked:
        raise EngineError("engine_error", f"this is pw.x {found_version}, and reference.version is {asked}")


def _error_in(text: str) -> str:
    """What pw.x says in its frame of percent signs, on one line."""
    found = re.search(r"%{20,}\s*\n(.*?)\n\s*%{20,}", text, re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


def version_in(text: str) -> str | None:
    """The version of pw.x in its output."""
    found = re.search(r"Program PWSCF\s+v\.?\s*(\S+)", text)
    return None if found is None else found[1]
