"""The engines by name: identity of a reference level, and what an engine can do."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from godelta.errors import InputError, MissingExtraError
from godelta.foundation.ase_import import import_calculator
from godelta.reference.settings import (
    ASESettings,
    EMTSettings,
    EspressoSettings,
    GPAWSettings,
    ReferenceSettings,
    VASPSettings,
    XTBSettings,
)
from godelta.systems import SearchProblem

# Whether a calculation converges is not what it converges to.
NO_NUMBER = frozenset({"limits", "max_iterations"})


def reference_hash(settings: ReferenceSettings) -> str:
    """SHA-256 of the engine, its version and every setting that changes a number.

    Raises
    ------
    InputError
        The engine is not installed, so that its version is unknown, or files that belong to it are missing.
    """
    text = json.dumps(_identity(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe(settings: ReferenceSettings) -> dict[str, Any]:
    """The reference level for the database: name, engine, versions, settings and hash."""
    return {"name": name_of(settings), **_identity(settings), "reference_hash": reference_hash(settings)}


def name_of(settings: ReferenceSettings) -> str:
    """A short name for people, e.g. gpaw-pbe-light; it does not tell all, the hash does."""
    match settings:
        case XTBSettings():
            return settings.method.lower()
        case EMTSettings():
            return "emt"
        case GPAWSettings():
            return f"gpaw-{settings.settings}" + ("-modified" if settings.overrides else "")
        case EspressoSettings():
            return "espresso"
        case VASPSettings():
            return f"vasp-{settings.xc.lower()}"
        case ASESettings():
            return f"ase-{settings.calculator.rpartition('.')[2]}"


def _identity(settings: ReferenceSettings) -> dict[str, Any]:
    values = settings.model_dump(mode="json")
    match settings:
        case GPAWSettings():
            from godelta.reference.gpaw import parameters

            values["parameters"] = parameters(values)
        case EspressoSettings():
            from godelta.reference import espresso_setup

            values = espresso_setup.identity(settings)
        case VASPSettings():
            from godelta.reference import vasp_setup

            values = vasp_setup.identity(settings)
    values = {key: value for key, value in values.items() if key not in NO_NUMBER}
    return {"engine": settings.engine, "versions": _versions(settings), "settings": values}


def _versions(settings: ReferenceSettings) -> dict[str, str]:
    match settings:
        case XTBSettings():
            return {"tblite": _installed("tblite", "xtb")}
        case GPAWSettings():
            return {"gpaw": _installed("gpaw", "gpaw"), "gpaw-data": _installed("gpaw-data", "gpaw")}
        case EspressoSettings():
            from godelta.reference.espresso_setup import program_version

            return {"pw.x": program_version(settings)}
        case VASPSettings():
            return {"vasp": settings.version}
        case EMTSettings():
            return {"ase": version("ase")}
        case ASESettings():
            return _calculator_version(settings.calculator)


def _installed(package: str, extra: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingExtraError(f"the {extra} engine ({package})", extra) from error


def _calculator_version(path: str) -> dict[str, str]:
    """The version of the calculator's package, or the hash of its source file where it has none."""
    package = path.partition(".")[0]
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        module = path.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        raise InputError(
            "the calculator's module is not found",
            where=path,
            mend="its package has to be installed, or its directory be in PYTHONPATH",
        )
    return {module: "sha256:" + hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()}


def check_engine(settings: ReferenceSettings, problem: SearchProblem | Iterable[int]) -> None:
    """Whether the engine is installed and can do the elements of a problem (or atomic numbers).

    Raises
    ------
    MissingExtraError
        The engine is not installed.
    InputError
        An element, or periodicity, that the engine cannot do; a path that is no calculator.
    """
    periodic = isinstance(problem, SearchProblem) and bool(problem.template.pbc.any())
    if isinstance(problem, SearchProblem):
        numbers = {int(z) for z in (*problem.template.numbers, *problem.numbers)}
    else:
        numbers = {int(z) for z in problem}
    _versions(settings)
    match settings:
        case XTBSettings():
            from godelta.reference.xtb import MAX_NUMBER

            if periodic:
                raise InputError(
                    "the xtb engine is for clusters", where="reference.engine", mend="take gpaw for surfaces"
                )
            _refuse("xtb", {z for z in numbers if z > MAX_NUMBER}, "GFN1-xTB knows H to Rn")
        case EMTSettings():
            from ase.calculators.emt import parameters

            known = ", ".join(parameters)
            _refuse("emt", {z for z in numbers if chemical_symbols[z] not in parameters}, f"it knows {known}")
        case GPAWSettings():
            from godelta.reference.gpaw import check_elements

            unknown, mend = check_elements(settings.model_dump(mode="json", exclude={"limits"}), numbers)
            _refuse("gpaw", unknown, mend)
        case EspressoSettings():
            from godelta.reference import espresso_setup

            _refuse("espresso", *espresso_setup.check_setup(settings, numbers))
        case VASPSettings():
            from godelta.reference import vasp_setup

            _refuse("vasp", *vasp_setup.check_setup(settings, numbers))
        case ASESettings():
            import_calculator(settings.calculator, settings.arguments)


def _refuse(engine: str, numbers: set[int], mend: str) -> None:
    if numbers:
        symbols = ", ".join(chemical_symbols[z] for z in sorted(numbers))
        raise InputError(f"the {engine} engine cannot do {symbols}", where="reference.engine", mend=mend)
