"""GPAW: plane-wave PAW calculations with PBE."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from godelta.reference.ase_calculator import evaluate_with
from godelta.reference.engine import EngineError, EngineResult, Task

COMMON: dict[str, Any] = {
    "xc": "PBE",
    # A candidate's accidental symmetry must not change the level; time reversal still halves k-points.
    "symmetry": {"point_group": False},
    "occupations": {"name": "fermi-dirac", "width": 0.1},
    # GPAW's default, 5e-4 eV per valence electron, is 0.03 eV for Ag4S2: too loose for labels.
    "convergence": {"energy": 1e-5},
    "maxiter": 200,
}

PRESETS: dict[str, dict[str, Any]] = {
    "pbe-light": {"mode": {"name": "pw", "ecut": 300.0}, "setups": {"Ag": "11"}, **COMMON},
    "pbe": {"mode": {"name": "pw", "ecut": 450.0}, "kpts": {"density": 3.0, "gamma": True}, **COMMON},
}

# 300 eV is unsafe for elements with harder setups, oxygen for one.
LIGHT_NUMBERS = frozenset({16, 47, 79})

# Other ways to the same self-consistent density; left out where the user has chosen the mixer.
LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("default mixing", {}),
    ("mixing 0.02", {"mixer": {"beta": 0.02, "nmaxold": 5, "weight": 100.0}}),
)


def parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of gpaw.GPAW: the preset, then the overrides."""
    return {**PRESETS[settings["settings"]], **settings["overrides"]}


def evaluate(task: Task) -> EngineResult:
    """Energy (extrapolated to zero width) and forces.

    gpaw.txt is left in the working directory, gpaw-2.txt by a second attempt.

    Raises
    ------
    EngineError
        No self-consistency at any rung of the ladder, or any other error of GPAW.
    """
    from gpaw import GPAW

    arguments = parameters(task.settings)
    tried: tuple[str, ...] = ()
    for name, change in LADDER:
        if tried and not change.keys().isdisjoint(arguments):
            break
        tried = (*tried, name)
        log = "gpaw.txt" if len(tried) == 1 else f"gpaw-{len(tried)}.txt"
        try:
            result = evaluate_with(GPAW(**arguments, **change, txt=log), task)
        except EngineError as error:
            failure = error
            if error.reason != "not_converged":
                break
        else:
            return EngineResult(result.energy, result.forces, tried)
    raise EngineError(failure.reason, failure.message, tried)


def check_elements(settings: Mapping[str, Any], numbers: set[int]) -> tuple[set[int], str]:
    """The elements that cannot be done, and what to do about it."""
    if settings["settings"] == "pbe-light" and "mode" not in settings["overrides"]:
        return numbers - LIGHT_NUMBERS, "pbe-light is for Ag, Au and S; take settings: pbe"
    return numbers - _with_setups(), "gpaw-data has no PBE setup for it: gpaw install-data adds some"


def _with_setups() -> set[int]:
    """The elements with a PBE setup in any of GPAW's directories."""
    from ase.data import atomic_numbers
    from gpaw import setup_paths

    files = (path for folder in setup_paths for path in Path(folder).glob("*.PBE*"))
    return {atomic_numbers[symbol] for file in files if (symbol := file.name.split(".")[0]) in atomic_numbers}
