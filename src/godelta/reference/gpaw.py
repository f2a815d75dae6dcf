"""GPAW: plane-wave PAW calculations with PBE."""

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from godelta.arrays import BoolArray
from godelta.reference.ase_calculator import evaluate_with
from godelta.reference.child import LAUNCHED
from godelta.reference.engine import EngineError, EngineResult, Task
from godelta.reference.program import is_slab

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
    "pbe-production": {
        "mode": {"name": "pw", "ecut": 500.0},
        "kpts": {"density": 3.0, "gamma": True},
        # Of slabs only, see `arguments`: without it, images of a slab feel the dipole of the next one.
        "poissonsolver": {"dipolelayer": "xy"},
        **COMMON,
    },
}

# 300 eV is unsafe for elements with harder setups, oxygen for one.
LIGHT_NUMBERS = frozenset({16, 47, 79})

# Ways to the same self-consistent density, one after the other; a change of the mixer is left out where the
# user has chosen one. None: go on for as many iterations again, from the last density.
LADDER: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("default mixing", {}),
    ("continued", None),
    ("mixing 0.02", {"mixer": {"beta": 0.02, "nmaxold": 5, "weight": 100.0}}),
)


def parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the level of theory: the preset, then the overrides."""
    return {**PRESETS[settings["settings"]], **settings["overrides"]}


def arguments(settings: Mapping[str, Any], pbc: BoolArray) -> dict[str, Any]:
    """The arguments of gpaw.GPAW for a structure: the preset's dipole correction is for slabs alone."""
    values = parameters(settings)
    if "poissonsolver" not in settings["overrides"] and not is_slab(pbc):
        values.pop("poissonsolver", None)
    return values


def evaluate(task: Task) -> EngineResult:
    """Energy (extrapolated to zero width) and forces.

    gpaw.txt is left in the working directory, gpaw-2.txt by a second calculation.

    Raises
    ------
    EngineError
        No self-consistency at any rung of the ladder, or any other error of GPAW.
    """
    ranks = _join_ranks()
    try:
        return _climb(task)
    except Exception as error:
        # All ranks see that there is no self-consistency. Any other error may be that of a single one, for
        # which the others would wait for ever.
        if ranks > 1 and getattr(error, "reason", None) != "not_converged":
            _end_all_ranks()
        raise


def _join_ranks() -> int:
    """How many ranks compute together. GPAW 26 leaves each alone unless its backend is named."""
    import gpaw
    from gpaw import cgpaw

    if os.environ.get(LAUNCHED) and gpaw.GPAW_MPI_BACKEND is None and cgpaw.have_mpi:
        gpaw.GPAW_MPI_BACKEND = "cgpaw"
    from gpaw.mpi import world

    return int(world.size)


def _end_all_ranks() -> None:
    from gpaw import mpi

    traceback.print_exc()
    sys.stderr.flush()
    world: Any = mpi.world
    world.abort(1)


def _climb(task: Task) -> EngineResult:
    """The result of the first rung that leads to self-consistency."""
    from gpaw import GPAW

    values = arguments(task.settings, task.pbc)
    tried: tuple[str, ...] = ()
    calculator, calculations = None, 0
    for name, change in LADDER:
        if tried and change is not None and not change.keys().isdisjoint(values):
            break
        tried = (*tried, name)
        if change is not None:
            calculations += 1
            log = "gpaw.txt" if calculations == 1 else f"gpaw-{calculations}.txt"
            calculator = GPAW(**values, **change, txt=log)
        try:
            result = evaluate_with(calculator, task)
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
        return numbers - LIGHT_NUMBERS, "pbe-light is for Ag, Au and S; take settings: pbe-production"
    return numbers - _with_setups(), "gpaw-data has no PBE setup for it: gpaw install-data adds some"


def _with_setups() -> set[int]:
    """The elements with a PBE setup in any of GPAW's directories."""
    from ase.data import atomic_numbers
    from gpaw import setup_paths

    files = (path for folder in setup_paths for path in Path(folder).glob("*.PBE*"))
    return {atomic_numbers[symbol] for file in files if (symbol := file.name.split(".")[0]) in atomic_numbers}
