"""ASE calculators by import path."""

import importlib
from collections.abc import Mapping
from typing import Any

from ase import Atoms

from godelta.errors import InputError

EXAMPLE = "give package.module.Class, e.g. ase.calculators.lj.LennardJones"


def import_calculator(path: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Import an ASE calculator class (or a function that makes a calculator) and call it.

    Parameters
    ----------
    path
        Import path, `package.module.Class`.
    arguments
        Keyword arguments of the call.

    Returns
    -------
    ase.calculators.abc.GetPropertiesMixin
        An object with `get_potential_energy(atoms)` and `get_forces(atoms)`.

    Raises
    ------
    InputError
        The path cannot be imported, the arguments do not fit, or the object is no calculator.
    """
    factory = _import_object(path)
    if not callable(factory):
        raise InputError(f"{type(factory).__name__} object is no calculator class", where=path, mend=EXAMPLE)
    try:
        calculator = factory(**dict(arguments or {}))
    except Exception as error:
        raise InputError(
            f"cannot be made with the arguments {dict(arguments or {})}: {type(error).__name__}: {error}",
            where=path,
            mend="see the calculator's documentation for its arguments",
        ) from error
    needed = ("get_potential_energy", "get_forces")
    if isinstance(calculator, Atoms):  # has the methods, but not of a calculator
        raise InputError("Atoms is no ASE calculator", where=path, mend=EXAMPLE)
    if not all(callable(getattr(calculator, name, None)) for name in needed):
        raise InputError(
            f"{type(calculator).__name__} is no ASE calculator: it lacks {' or '.join(needed)}",
            where=path,
            mend=EXAMPLE,
        )
    return calculator


def _import_object(path: str) -> Any:
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise InputError("is no import path of a calculator", where=path, mend=EXAMPLE)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"cannot be imported: {error}",
            where=path,
            mend=f"{EXAMPLE}; its package has to be installed, or its directory be in PYTHONPATH",
        ) from error
    if not hasattr(module, name):
        raise InputError(f"{module_name} has no {name}", where=path, mend=EXAMPLE)
    return getattr(module, name)
