"""What of a document from the database may become an object, and so run: jobs of godelta, nothing else.

FireWorks and jobflow build whatever class or function a document names. Whoever can write to the database
could have a worker run anything; so every document is looked at before it reaches them. Only plain data, the
classes of jobflow that a stored job consists of, and jobs that are defined in godelta pass.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from pymongo.database import Database

REFUSED = "refused"  # field of a Firework that was set aside, with the reason
# Where jobs are defined; helpers elsewhere in godelta are nothing that a document may call.
HOMES = ("godelta.makers.", "godelta.workflows.")
TASK = "{{jobflow.managers.fireworks.JobFiretask}}"
PARTS = frozenset(
    {
        ("jobflow.core.job", "Job"),
        ("jobflow.core.job", "JobConfig"),
        ("jobflow.core.reference", "OutputReference"),
    }
)
STORED_OUTPUT = ("jobflow.core.schemas", "JobStoreDocument")
# Others make FireWorks copy files, change folders, read files into the database or run tasks beside the job.
SPEC_KEYS = frozenset({"_tasks", "_category", "_priority", "_add_launchpad_and_fw_id", "_exception_details"})
_MARKS = frozenset({"@module", "@class", "@callable", "@bound"})


class UntrustedError(ValueError):
    """A document names what is not godelta's; nothing of it was built or run."""


def check_job(raw: Mapping[str, Any]) -> None:
    """Let a Firework or a Launch pass, as it is stored.

    Raises
    ------
    UntrustedError
        Something in it is not godelta's.
    """
    for part in _dicts(raw):
        if "_fw_name" in part and part["_fw_name"] != TASK:
            raise UntrustedError(f"the task {part['_fw_name']!r} is not one that godelta's jobs are made of")
        if "_tasks" in part:
            _check_spec(part)
        if part.get("trackers"):
            raise UntrustedError("it would copy files into the database (trackers)")
        if "gridfs_id" in part:
            raise UntrustedError("a part of it is kept elsewhere (gridfs_id)")
        if "job" in part and part.get("store") is not None:
            raise UntrustedError("it brings its own job store")
        if _MARKS & part.keys():
            _check_object(part)


def check_output(raw: Mapping[str, Any]) -> None:
    """Let the stored output of a job pass: plain data, which is all that godelta's jobs return.

    Raises
    ------
    UntrustedError
        It holds more than that.
    """
    for part in _dicts(raw):
        own = part is raw and (part.get("@module"), part.get("@class")) == STORED_OUTPUT
        if "_fw_name" in part or (_MARKS & part.keys() and not own):
            raise UntrustedError(f"the output of a job holds {_named(part)}, which is no plain data")


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a document, the outer ones first."""
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _dicts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _dicts(inner)


def _check_spec(spec: Mapping[str, Any]) -> None:
    strange = sorted(key for key in spec if key.startswith("_") and key not in SPEC_KEYS)
    if strange:
        raise UntrustedError(f"its spec asks FireWorks for {', '.join(strange)}")


def _check_object(part: Mapping[str, Any]) -> None:
    """Check a mapping that would become an object; those within it are looked at by themselves."""
    if "@class" in part and "@callable" not in part:
        _check_class(part)
    elif "@callable" in part and "@class" not in part:
        _check_function(part)
    else:
        raise UntrustedError(f"it holds half an object: {_named(part)}")


def _check_class(part: Mapping[str, Any]) -> None:
    from jobflow import Maker

    module, name = part.get("@module"), part["@class"]
    if (module, name) in PARTS:
        attributes = part.get("attributes", ()) if name == "OutputReference" else ()
        if any(str(word).startswith("_") for pair in attributes for word in pair):
            raise UntrustedError("it reaches into the inner parts of an output")
        return
    found = getattr(_home(part), str(name), None)
    if not (isinstance(found, type) and issubclass(found, Maker) and found.__module__ == module):
        raise UntrustedError(f"{_named(part)} is no maker of godelta")


def _check_function(part: Mapping[str, Any]) -> None:
    """Only what is marked as a job: godelta's modules also hold what they have imported."""
    path, bound = str(part["@callable"]).split("."), part.get("@bound")
    found: Any = _home(part)
    for name in path:
        found = None if name.startswith("_") else getattr(found, name, None)
    its_maker = isinstance(bound, Mapping) and (bound.get("@module"), bound.get("@class")) == (
        part.get("@module"),
        path[0],
    )
    whole = len(path) == 2 if its_maker else bound is None and len(path) == 1
    if not whole or not hasattr(found, "original") or found.__module__ != part.get("@module"):
        raise UntrustedError(f"{_named(part)} is no job of godelta")


def _home(part: Mapping[str, Any]) -> ModuleType:
    module = part.get("@module")
    if not (isinstance(module, str) and module.startswith(HOMES)):
        raise UntrustedError(f"{_named(part)} is not godelta's")
    try:
        return import_module(module)
    except ImportError:
        raise UntrustedError(f"{_named(part)} is not in this version of godelta") from None


def _named(part: Mapping[str, Any]) -> str:
    if "_fw_name" in part:
        return repr(part["_fw_name"])
    return repr(f"{part.get('@module')}.{part.get('@class', part.get('@callable'))}")


def refused_jobs(database: Database[dict[str, Any]]) -> list[tuple[int, str, str]]:
    """The jobs that were set aside: number, name and reason."""
    found = database["fireworks"].find({REFUSED: {"$exists": True}}, {"fw_id": 1, "name": 1, REFUSED: 1})
    return [(raw["fw_id"], str(raw.get("name", "")), raw[REFUSED]) for raw in found.sort("fw_id")]
