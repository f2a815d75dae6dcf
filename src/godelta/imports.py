"""Objects by import path, as campaign files name them."""

import importlib
from typing import Any

from godelta.errors import InputError


def import_object(path: str, what: str, example: str) -> Any:
    """The object at an import path, `package.module.name`.

    Parameters
    ----------
    what
        What it should be, for the message: `a calculator`.
    example
        What to write instead, for the message.

    Raises
    ------
    InputError
        There is no such module, or nothing of that name in it.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise InputError(f"is no import path of {what}", where=path, mend=example)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"cannot be imported: {error}",
            where=path,
            mend=f"{example}; its package has to be installed, or its directory be in PYTHONPATH",
        ) from error
    if not hasattr(module, name):
        raise InputError(f"{module_name} has no {name}", where=path, mend=example)
    return getattr(module, name)
