"""Any ASE calculator by import path."""

from typing import Any

import numpy as np

from godelta.reference.engine import EngineError, EngineResult, Task, message_of

# By name, since ASE, GPAW and others each have their own.
CONVERGENCE_ERRORS = frozenset({"SCFError", "ConvergenceError", "KohnShamConvergenceError"})


def evaluate(task: Task) -> EngineResult:
    """Energy and forces by the calculator that the settings name."""
    from godelta.errors import InputError
    from godelta.foundation.ase_import import import_calculator

    try:
        calculator = import_calculator(task.settings["calculator"], task.settings["arguments"])
    except InputError as error:
        raise EngineError("engine_error", str(error)) from error
    return evaluate_with(calculator, task)


def evaluate_with(calculator: Any, task: Task) -> EngineResult:
    """Energy and forces by a calculator, without constraints.

    Raises
    ------
    EngineError
        With reason `not_converged` where the calculator's error says so, else `engine_error`.
    """
    from ase import Atoms

    atoms = Atoms(
        numbers=task.numbers, positions=task.positions, cell=task.cell, pbc=task.pbc, calculator=calculator
    )
    try:
        energy = atoms.get_potential_energy()
        forces = atoms.get_forces()
    except MemoryError:
        raise
    except Exception as error:
        raise EngineError(reason_of(error), message_of(error)) from error
    return EngineResult(energy=energy, forces=np.asarray(forces))


def reason_of(error: BaseException) -> str:
    """`not_converged` for the errors that calculators raise then, else `engine_error`."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return "not_converged" if names & CONVERGENCE_ERRORS else "engine_error"
