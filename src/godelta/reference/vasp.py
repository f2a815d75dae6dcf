"""VASP: inputs by ASE from the user's POTCAR files, results from vasprun.xml."""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from godelta.arrays import FloatArray
from godelta.reference.engine import EngineError, EngineResult, Task, message_of
from godelta.reference.program import atoms_of, folder_of, is_slab, kpoint_grid, run_program, vacuum_middle

if TYPE_CHECKING:
    from ase import Atoms

POTCAR_VARIABLE = "VASP_PP_PATH"
RESULTS = Path("vasprun.xml")
HEAD = 4096  # characters of vasprun.xml in which the version stands

COMMON: dict[str, Any] = {
    "prec": "Accurate",
    "nsw": 0,
    "ibrion": -1,
    # A candidate's accidental symmetry must not change the level; time reversal still halves k-points.
    "isym": 0,
    "lreal": False,
    "lasph": True,
    "lwave": False,
    "lcharg": False,
}

# Ways to the same self-consistent density, each from the start, where the user has chosen none.
LADDER = ("Normal", "All")

ERROR = re.compile(r"VERY BAD NEWS|I REFUSE TO CONTINUE|\bERROR\b|^\s*Error\b|internal error", re.MULTILINE)


def evaluate(task: Task) -> EngineResult:
    """Energy (free energy of the electrons: what the forces belong to) and forces.

    All files of VASP are left in the working directory.

    Raises
    ------
    EngineError
        No POTCAR, no self-consistency at any rung of the ladder, or any other error of VASP.
    """
    atoms = atoms_of(task, task.settings["magnetic_moments"])
    chosen = next(
        (str(value) for key, value in task.settings["incar"].items() if key.lower() == "algo"), None
    )
    tried: tuple[str, ...] = ()
    for algorithm in LADDER if chosen is None else (chosen,):
        tried = (*tried, f"algo {algorithm}")
        try:
            energy, forces = _run(task, atoms, algorithm, len(tried))
        except EngineError as error:
            failure = error
            if error.reason != "not_converged":
                break
        else:
            return EngineResult(energy, forces, tried)
    raise EngineError(failure.reason, failure.message, tried)


def arguments(settings: Mapping[str, Any], atoms: "Atoms") -> dict[str, Any]:
    """The arguments of ASE's Vasp for a structure."""
    values = {
        **COMMON,
        "xc": settings["xc"],
        "pp": settings["potcar_set"],
        "setups": {symbol: name.removeprefix(symbol) for symbol, name in settings["potcars"].items()},
        "encut": settings["encut"],
        "ismear": settings["ismear"],
        "sigma": settings["sigma"],
        "ediff": settings["ediff"],
        "nelm": settings["max_iterations"],
        "kpts": kpoint_grid(atoms, settings),
        "gamma": True,
    }
    if settings["magnetic_moments"]:
        values["ispin"] = 2
    if settings["dipole_correction"] and is_slab(atoms.pbc):
        middle = (vacuum_middle(atoms) + 0.5) % 1.0
        values |= {"ldipol": True, "idipol": 3, "dipol": [0.5, 0.5, middle]}
    lowered = {key.lower(): value for key, value in settings["incar"].items()}
    return {**values, **lowered, "custom": dict(settings["custom"])}


def _run(task: Task, atoms: "Atoms", algorithm: str, number: int) -> tuple[float, FloatArray]:
    resort = write_inputs(task.settings, atoms, algorithm)
    RESULTS.unlink(missing_ok=True)
    output = Path("vasp.out" if number == 1 else f"vasp-{number}.out")
    code = run_program(task, task.settings["command"], output)
    told = _error_in(output.read_text(errors="replace"))
    if code != 0 or not RESULTS.exists():
        raise EngineError("engine_error", told or f"VASP ended with exit code {code}, without a result")
    return read_results(RESULTS, task.settings["version"], resort)


def write_inputs(settings: Mapping[str, Any], atoms: "Atoms", algorithm: str) -> list[int]:
    """Write INCAR, KPOINTS, POSCAR and POTCAR; where each atom is found in VASP's order.

    Raises
    ------
    EngineError
        A POTCAR is missing, or a key has a value that cannot be written.
    """
    from ase.calculators.vasp import Vasp

    folder = folder_of(settings["pp_path"], POTCAR_VARIABLE)
    if folder is None:
        raise EngineError("engine_error", f"neither reference.pp_path nor {POTCAR_VARIABLE} is set")
    os.environ[POTCAR_VARIABLE] = str(folder)
    try:
        calculator = Vasp(directory=".", **(arguments(settings, atoms) | {"algo": algorithm}))
        calculator.write_input(atoms)
    except Exception as error:
        raise EngineError("engine_error", " ".join(message_of(error).split())) from error
    return list(calculator.resort)


def read_results(path: Path, version: str, resort: list[int]) -> tuple[float, FloatArray]:
    """Free energy in eV and forces (n, 3) in eV/Å of vasprun.xml, in the order of the structure.

    Raises
    ------
    EngineError
        The electrons took all iterations (NELM), VASP is another version, or the file is not whole.
    """
    from ase.io import read

    with path.open(errors="replace") as stream:
        found = re.search(r'name="version"[^>]*>\s*([^\s<]+)', stream.read(HEAD))
    if found is None or found[1] != version:
        told = "of no version" if found is None else found[1]
        raise EngineError("engine_error", f"this is VASP {told}, and reference.version is {version}")
    try:
        steps = sum(1 for _, element in ET.iterparse(path) if element.tag == "scstep")
        done: Any = read(path, format="vasp-xml")
        calculator = done.calc
        energy, forces = calculator.results["free_energy"], calculator.results["forces"]
    except (ET.ParseError, AttributeError, KeyError, IndexError, ValueError) as error:
        raise EngineError("engine_error", f"{path.name} is not whole: {message_of(error)}") from error
    if steps >= int(calculator.parameters["nelm"]):
        raise EngineError("not_converged", f"VASP: no self-consistency after {steps} iterations (NELM)")
    return float(energy), np.asarray(forces, dtype=np.float64)[resort]


def _error_in(text: str) -> str:
    """The first line of VASP's output in which it speaks of an error, and the next one."""
    lines = [" ".join(line.strip(" |*-").split()) for line in text.splitlines()]
    lines = [line for line in lines if line]
    for k, line in enumerate(lines):
        if ERROR.search(line):
            return "VASP: " + " ".join(lines[k : k + 2])
    return ""
