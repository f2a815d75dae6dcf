"""What Quantum ESPRESSO needs on a machine: its program, pseudopotentials, keys that it knows."""

import re
import subprocess
import tempfile
from collections.abc import Set
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from godelta.errors import InputError
from godelta.reference.espresso import PSEUDO_VARIABLE, in_sections, version_in
from godelta.reference.program import file_sha256, find_program, folder_of
from godelta.reference.settings import EspressoSettings

ASK_S = 120.0
HEADER = 20_000  # bytes of a pseudopotential in which its element stands

MEND = "install Quantum ESPRESSO (Debian: quantum-espresso), load its module, or give its path"
OURS = frozenset(
    {"calculation", "outdir", "prefix", "pseudo_dir", "restart_mode", "tprnfor", "nat", "ntyp", "ibrav"}
)
KEYS = {"electron_maxstep": "max_iterations"} | {
    name: name for name in ("ecutwfc", "ecutrho", "smearing", "degauss", "conv_thr", "starting_magnetization")
}


def identity(settings: EspressoSettings) -> dict[str, Any]:
    """The settings that change a number, with the content of pseudopotentials and not their folder."""
    values = settings.model_dump(mode="json", exclude={"command", "version", "pseudo_dir"})
    values["pseudopotentials"] = {
        symbol: {"file": name, "sha256": file_sha256(_pseudopotential(settings, symbol))}
        for symbol, name in settings.pseudopotentials.items()
    }
    return values


def program_version(settings: EspressoSettings) -> str:
    """The version that the settings state, or that the program tells.

    Raises
    ------
    InputError
        There is no such program, or it tells no version.
    """
    if settings.version is not None:
        return settings.version
    path = find_program(settings.command, MEND)
    told = _asked(path, Path(path).stat().st_mtime_ns)
    if told is None:
        raise InputError(
            f"{path} does not tell its version here",
            where="reference.command",
            mend="state it as reference.version, as the first line of an output of pw.x has it, e.g. 6.7MaX",
        )
    return told


@lru_cache(maxsize=16)
def _asked(path: str, changed: int) -> str | None:  # noqa: ARG001  tells a changed program
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [path],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=ASK_S,
                check=False,
                cwd=folder,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    return version_in(done.stdout)


def check_setup(settings: EspressoSettings, numbers: Set[int]) -> tuple[set[int], str]:
    """Elements without a pseudopotential, and what to do about them.

    Raises
    ------
    InputError
        A key that pw.x does not know or that is not free; a pseudopotential that is not there, or of another
        element; no program.
    """
    _check_keys(settings)
    find_program(settings.command, MEND)
    program_version(settings)
    symbols = {chemical_symbols[z]: z for z in numbers}
    for symbol in symbols:
        if symbol in settings.pseudopotentials:
            _check_element(_pseudopotential(settings, symbol), symbol)
    missing = {z for symbol, z in symbols.items() if symbol not in settings.pseudopotentials}
    return missing, "name a file for it in reference.pseudopotentials"


def _check_keys(settings: EspressoSettings) -> None:
    from ase.io.espresso_namelist.keys import pw_keys

    sections, unknown = in_sections(settings.input_data)
    if unknown:
        known = [*pw_keys, *(key for keys in pw_keys.values() for key in keys)]
        close = get_close_matches(unknown[0].lower(), known, n=1)
        raise InputError(
            f"unknown key {unknown[0]}" + (f"; did you mean {close[0]}?" if close else ""),
            where="reference.input_data",
            mend="keys of pw.x's namelists; a newer one goes below its section: {system: {key: value}}",
        )
    given = {key.partition("(")[0] for values in sections.values() for key in values}
    if taken := sorted(given & (OURS | KEYS.keys())):
        own = KEYS.get(taken[0])
        raise InputError(
            f"{taken[0]} is not free here",
            where="reference.input_data",
            mend=f"it is a key of its own: reference.{own}" if own else "godelta sets it: take it out",
        )


def _pseudopotential(settings: EspressoSettings, symbol: str) -> Path:
    folder = folder_of(settings.pseudo_dir, PSEUDO_VARIABLE)
    if folder is None:
        raise InputError(
            "no folder of pseudopotentials is given",
            where="reference.pseudo_dir",
            mend=f"give it there, or in the variable {PSEUDO_VARIABLE}",
        )
    path = folder / settings.pseudopotentials[symbol]
    if not path.is_file():
        raise InputError(
            f"there is no pseudopotential {path} for {symbol}",
            where="reference.pseudopotentials",
            mend="check name and folder; https://www.quantum-espresso.org/pseudopotentials has libraries",
        )
    return path


def _check_element(path: Path, symbol: str) -> None:
    """UPF files, old and new, name their element; of other formats nothing is said."""
    with path.open("rb") as stream:
        head = stream.read(HEADER).decode(errors="replace")
    found = re.search(r'element="\s*(\w+)\s*"', head) or re.search(
        r"^\s*(\w+)\s+Element\s*$", head, re.MULTILINE
    )
    if found is not None and found[1].capitalize() != symbol:
        raise InputError(
            f"{path.name} is a pseudopotential of {found[1]}, not of {symbol}",
            where="reference.pseudopotentials",
            mend="name the file of the right element",
        )
