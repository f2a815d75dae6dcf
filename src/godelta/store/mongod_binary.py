"""Where the MongoDB server's program is."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from godelta.errors import GodeltaError


def find_mongod() -> Path:
    """Locate the server's binary: GODELTA_MONGOD, then PATH, then the extra `mongod`.

    Raises
    ------
    GodeltaError
        Where none of the three has it, or GODELTA_MONGOD names no executable file.
    """
    chosen = os.environ.get("GODELTA_MONGOD")
    if chosen:
        if os.access(chosen, os.X_OK) and Path(chosen).is_file():
            return Path(chosen).resolve()
        raise GodeltaError(
            f"{chosen} is not an executable file",
            where="GODELTA_MONGOD",
            mend="set GODELTA_MONGOD to the path of a mongod binary, or unset it",
        )
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    name = "mongod.exe" if sys.platform == "win32" else "mongod"
    # The spec of a top-level package is found without importing it.
    spec = importlib.util.find_spec("fiftyone")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(location) / "db" / "bin" / name
        if os.access(binary, os.X_OK):
            return binary
    raise GodeltaError(
        "no MongoDB server (mongod) found",
        mend="one of: set GODELTA_MONGOD to the path of a mongod binary; put mongod on PATH; "
        'or install one with: pip install "godelta[mongod]"',
    )
