"""Search methods that users write, by import path."""

from typing import Any

from godelta.errors import InputError
from godelta.imports import import_object
from godelta.search.settings import OwnSearchSettings
from godelta.search.state import SearchMethod
from godelta.systems.problem import SearchProblem

EXAMPLE = "give package.module.Class, e.g. godelta.examples.monotonic_hopping.MonotonicHopping"


def make_own(settings: OwnSearchSettings, problem: SearchProblem) -> SearchMethod[Any]:
    """The search method at the settings' import path, called with the settings, the problem and `arguments`.

    Raises
    ------
    InputError
        The path cannot be imported, the arguments do not fit, or the object is no search method.
    """
    factory = import_object(settings.program, "a search method", EXAMPLE)
    if not callable(factory):
        raise InputError(f"{type(factory).__name__} object is no class", where=settings.program, mend=EXAMPLE)
    try:
        method = factory(settings, problem, **settings.arguments)
    except Exception as error:
        raise InputError(
            f"cannot be made with the arguments {settings.arguments}: {type(error).__name__}: {error}",
            where=settings.program,
            mend="it is called as Class(settings, problem, **arguments)",
        ) from error
    needed = ("start", "step", "finished", "next_round", "walkers", "load")
    missing = [name for name in needed if not callable(getattr(method, name, None))]
    if missing:
        raise InputError(
            f"{type(method).__name__} is no search method: it lacks {', '.join(missing)}",
            where=settings.program,
            mend="docs/how-to/own-search.md has an example",
        )
    checked: SearchMethod[Any] = method
    return checked
