"""What VASP needs on a machine: its program, POTCAR files, keys that are known."""

from collections.abc import Set
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from godelta.errors import InputError
from godelta.reference.program import file_sha256, find_program, folder_of
from godelta.reference.settings import VASPSettings
from godelta.reference.vasp import POTCAR_VARIABLE

MEND = "load VASP's module, or give the program's path; VASP needs a licence of your own"
OURS = frozenset({"nsw", "ibrion", "kspacing", "kgamma", "lwave", "lcharg"})
KEYS = {"nelm": "max_iterations", "magmom": "magnetic_moments", "ispin": "magnetic_moments"} | {
    name: name for name in ("encut", "ismear", "sigma", "ediff")
}


def identity(settings: VASPSettings) -> dict[str, Any]:
    """The settings that change a number, with the content of POTCAR files and not their folder."""
    values = settings.model_dump(mode="json", exclude={"command", "version", "pp_path"})
    values["potcars"] = {
        symbol: {"name": name, "sha256": file_sha256(_potcar(settings, symbol))}
        for symbol, name in settings.potcars.items()
    }
    return values


def check_setup(settings: VASPSettings, numbers: Set[int]) -> tuple[set[int], str]:
    """Elements without a POTCAR, and what to do about them.

    Raises
    ------
    InputError
        A key that is not known or not free; a POTCAR that is not there; no program.
    """
    _check_keys(settings)
    find_program(settings.command, MEND)
    symbols = {chemical_symbols[z]: z for z in numbers}
    for symbol in symbols:
        if symbol in settings.potcars:
            _potcar(settings, symbol)
    missing = {z for symbol, z in symbols.items() if symbol not in settings.potcars}
    return missing, "name a POTCAR for it in reference.potcars"


def _check_keys(settings: VASPSettings) -> None:
    from ase.calculators.vasp.create_input import GenerateVaspInput

    if settings.xc.lower() not in GenerateVaspInput.xc_defaults:
        raise InputError(
            f"unknown functional {settings.xc}",
            where="reference.xc",
            mend=f"known are {', '.join(sorted(GenerateVaspInput.xc_defaults))}",
        )
    known = known_keys()
    for key in map(str.lower, (*settings.incar, *settings.custom)):
        if key in OURS or key in KEYS:
            own = KEYS.get(key)
            raise InputError(
                f"{key} is not free here",
                where="reference.incar",
                mend=f"it is a key of its own: reference.{own}" if own else "godelta sets it: take it out",
            )
    for key in settings.incar:
        if key.lower() not in known:
            close = get_close_matches(key.lower(), sorted(known), n=1)
            raise InputError(
                f"unknown key {key}" + (f"; did you mean {close[0]}?" if close else ""),
                where="reference.incar",
                mend="VASP passes over what it does not know; a key that ASE does not know goes below"
                " reference.custom",
            )


def known_keys() -> set[str]:
    """The keys of INCAR that ASE knows."""
    from ase.calculators.vasp import create_input

    kinds = (
        "float",
        "exp",
        "string",
        "int",
        "bool",
        "list_bool",
        "list_int",
        "list_float",
        "special",
        "dict",
    )
    return {key for kind in kinds for key in getattr(create_input, f"{kind}_keys")}


def _potcar(settings: VASPSettings, symbol: str) -> Path:
    name = settings.potcars[symbol]
    folder = folder_of(settings.pp_path, POTCAR_VARIABLE)
    if folder is None:
        raise InputError(
            "no folder of POTCAR files is given",
            where="reference.pp_path",
            mend=f"give it there, or in the variable {POTCAR_VARIABLE}; they come with a licence of VASP",
        )
    if not name.startswith(symbol):
        raise InputError(
            f"{name} is not a POTCAR of {symbol}",
            where="reference.potcars",
            mend=f"a folder of {settings.potcar_set} whose name begins with {symbol}, e.g. {symbol}_pv",
        )
    path = folder / settings.potcar_set / name / "POTCAR"
    if not path.is_file():
        raise InputError(
            f"there is no POTCAR file {path}",
            where="reference.potcars",
            mend="check pp_path, potcar_set and the name; POTCAR files come with a licence of VASP",
        )
    return path
