"""The process that evaluates in another environment: `python -m godelta.foundation.child FOLDER`."""

import json
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from godelta import __version__
from godelta.errors import GodeltaError, InputError
from godelta.foundation.elsewhere import JOB, RESULT, STRUCTURES, tell, unpack_structures
from godelta.foundation.kept import evaluate_kept
from godelta.foundation.settings import FoundationSettings


def main(place: Path) -> None:
    """Evaluate the job in a folder, and leave there what became of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is done is saved on the way out
    result: dict[str, Any] = {"done": True}
    try:
        with redirect_stdout(sys.stderr):  # packages have things to say
            _evaluate(place)
    except GodeltaError as error:
        known = {"what": error.what, "where": error.where, "mend": error.mend}
        result = {"input": isinstance(error, InputError), **known}
    (place / RESULT).write_text(json.dumps(result))


def _evaluate(place: Path) -> None:
    job = json.loads((place / JOB).read_text())
    if job["version"] != __version__:
        raise InputError(
            f"godelta is {__version__} in this environment and {job['version']} where it was asked from",
            mend="install the same version in both",
        )
    settings: FoundationSettings = TypeAdapter[FoundationSettings](FoundationSettings).validate_python(
        job["settings"]
    )
    structures = unpack_structures((place / STRUCTURES).read_bytes())
    evaluate_kept(settings, Path(job["folder"]), structures, tell)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
