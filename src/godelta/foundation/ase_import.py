"""ASE calculators by import path."""

from collections.abc import Mapping
from typing import Any

from ase import Atoms

from godelta.errors import InputError
from godelta.imports import import_object

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
    factory = import_object(path, "a calculator", EXAMPLE)
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
