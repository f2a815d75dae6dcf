"""GFN1-xTB by tblite, for clusters."""

import numpy as np

from godelta.reference.engine import EngineError, EngineResult, Task

# CODATA 2014, the values of ase.units, which would take longer to import than to type.
BOHR = 0.5291772105638411  # Å
HARTREE = 27.211386024367243  # eV
BOLTZMANN = 8.617330337217213e-05  # eV/K

MAX_NUMBER = 86

# A start at 3000 K, finished at the settings' temperature, converges what fails at 300 K from scratch
# (loosely bound random clusters), to the same energy within 1e-7 eV. Weaker mixing does not help, and
# can end in states of unphysical charge.
LADDER: tuple[tuple[str, float | None], ...] = (("direct", None), ("hot start", 3000.0))


def evaluate(task: Task) -> EngineResult:
    """Energy and forces of a cluster; the cell is ignored.

    An odd number of electrons is treated as one unpaired electron, the lowest spin otherwise.

    Raises
    ------
    EngineError
        Periodic structure, element beyond Rn, or no self-consistency at any rung of the ladder.
    """
    from tblite.exceptions import TBLiteRuntimeError

    if task.pbc.any():
        raise EngineError("engine_error", "the xtb engine is for clusters, without periodic boundary")
    tried: tuple[str, ...] = ()
    for name, start in LADDER:
        tried = (*tried, name)
        try:
            return _single_point(task, start, tried)
        except TBLiteRuntimeError as error:
            if "not converged" not in str(error):
                raise EngineError("engine_error", str(error), tried) from error
            message = str(error)
    raise EngineError("not_converged", message, tried)


def _single_point(task: Task, start: float | None, tried: tuple[str, ...]) -> EngineResult:
    from tblite.interface import Calculator

    # A fresh calculator every time: one that has seen another structure moves forces by 1e-4 eV/Å.
    calculator = Calculator(task.settings["method"], task.numbers, task.positions / BOHR)
    calculator.set("verbosity", 0)
    calculator.set("accuracy", task.settings["accuracy"])
    calculator.set("max-iter", task.settings["max_iterations"])
    result = None
    if start is not None:
        calculator.set("temperature", start * BOLTZMANN / HARTREE)
        result = calculator.singlepoint()
    calculator.set("temperature", task.settings["electronic_temperature"] * BOLTZMANN / HARTREE)
    result = calculator.singlepoint(result)
    gradient = np.asarray(result.get("gradient"), dtype=np.float64)
    return EngineResult(
        energy=float(result.get("energy")) * HARTREE, forces=-gradient * (HARTREE / BOHR), tried=tried
    )
