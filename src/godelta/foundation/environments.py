"""MACE and SevenNet need versions of e3nn that exclude each other: each has an environment of its own."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from godelta.errors import InputError, MissingExtraError

_NEEDS = {"mace": "e3nn 0.4.4", "sevennet": "e3nn 0.5 or newer"}
_MODULES = {"mace": "mace", "sevennet": "sevenn"}


def check_environment(foundation: str, extra: str) -> None:
    """Whether this environment is one for the foundation, before an import fails for reasons hard to read.

    Parameters
    ----------
    foundation
        Its name in the registry.
    extra
        `mace` or `sevennet`.

    Raises
    ------
    InputError
        The environment is one for the other of the two.
    MissingExtraError
        The potential's package is not installed, and nothing speaks against installing it here.
    """
    other = "sevennet" if extra == "mace" else "mace"
    found = _e3nn_release()
    excluded = found is not None and (found < (0, 5)) != (extra == "mace")
    missing = find_spec(_MODULES[extra]) is None
    if excluded or (missing and find_spec(_MODULES[other]) is not None):
        raise InputError(
            f"{foundation} needs {_NEEDS[extra]}, and this is an environment for {other}, which needs"
            f" {_NEEDS[other]}: one environment cannot hold both",
            where=f"foundation {foundation}",
            mend=f'pip install "godelta[{extra}]" in an environment of its own; FireWorks categories send its'
            " jobs there (docs/how-to/environments.md)",
        )
    if missing:
        raise MissingExtraError(f"the foundation {foundation}", extra)


def _e3nn_release() -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in version("e3nn").split(".")[:2])
    except PackageNotFoundError:
        return None
