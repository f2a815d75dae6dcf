"""Weight files: where they lie, whether they are whole, and what they are known by.

Nothing here touches the network: on a cluster's node a download hangs or fails late.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from godelta.errors import InputError

FOLDER_VARIABLE = "GODELTA_WEIGHTS"


@dataclass(frozen=True)
class Source:
    """Where the weights of one potential are looked for, and where a person gets them.

    Parameters
    ----------
    potential
        The potential's name, for messages.
    file
        Name of the file in the folder $GODELTA_WEIGHTS.
    url
        Where to get it; None where it comes with the package.
    elsewhere
        Further places, in order: what the package ships or has downloaded.
    """

    potential: str
    file: str
    url: str | None
    elsewhere: Callable[[], Sequence[Path]] = field(default=lambda: ())


@dataclass(frozen=True)
class Shipped:
    """A weight file of an installed package, and the hash that the package says it has."""

    package: str
    path: Path
    sha256: str | None


def weights_folder() -> Path | None:
    """The folder $GODELTA_WEIGHTS, None where the variable is not set."""
    value = os.environ.get(FOLDER_VARIABLE)
    return Path(value).expanduser() if value else None


def find_weights(source: Source, chosen: str | None = None) -> Path:
    """The weight file: that of the setting, else in $GODELTA_WEIGHTS, else the package's own.

    Raises
    ------
    InputError
        There is none; the message tells where to get it and where to put it.
    """
    folder = weights_folder()
    if chosen is not None:
        return _chosen(source, chosen, folder)
    candidates = [folder / source.file] if folder is not None else []
    for path in (*candidates, *source.elsewhere()):
        if path.is_file():
            return path
    raise InputError(
        f"the weights of {source.potential} are not to be found: {source.file}",
        where=str(folder) if folder is not None else f"${FOLDER_VARIABLE} (not set)",
        mend=how_to_get(source),
    )


def how_to_get(source: Source) -> str:
    """Where a person gets the weights, and where they put them."""
    if source.url is None:
        return "correct the path, or leave `weights` out to take those that come with the package"
    place = weights_folder()
    here = f"as {source.file} to a folder that ${FOLDER_VARIABLE} names"
    put = here if place is None else f"to {place / source.file}"
    return f"download {source.url} {put}, or give the file as `foundation: {{weights: PATH}}`"


def _chosen(source: Source, chosen: str, folder: Path | None) -> Path:
    given = Path(chosen).expanduser()
    if not given.is_absolute() and folder is None:
        raise InputError(
            f"the weight file of {source.potential} has a relative path, which starts from the folder"
            f" ${FOLDER_VARIABLE}, and that is not set",
            where=chosen,
            mend=f"give an absolute path, or set ${FOLDER_VARIABLE}",
        )
    path = given if folder is None else folder / given  # an absolute path stays itself
    if path.is_file():
        return path
    raise InputError(
        f"the weight file of {source.potential} does not exist", where=str(path), mend=how_to_get(source)
    )


_hashes: dict[tuple[str, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; computed once while it stays as it is.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        state = path.stat()
        key = (str(path.resolve()), state.st_mtime_ns, state.st_size)
        if key not in _hashes:
            with path.open("rb") as stream:
                _hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _hashes[key]


def read_weights(path: Path) -> tuple[BytesIO, str]:
    """A weight file and its SHA-256: what is hashed is what is loaded.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return BytesIO(content), hashlib.sha256(content).hexdigest()


def shipped_file(package: str, file: str) -> Shipped:
    """A file that a package ships, with its hash in the package's own record.

    Parameters
    ----------
    file
        Path within site-packages, e.g. chgnet/pretrained/0.3.0/NAME; the last part may be a pattern.

    Raises
    ------
    InputError
        The package is not installed, or lacks the file.
    """
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise InputError(f"{package} is not installed", mend=f"pip install {package}") from None
    for entry in installed.files or ():
        if entry.match(file) and Path(str(installed.locate_file(entry))).is_file():
            known = entry.hash.value if entry.hash is not None and entry.hash.mode == "sha256" else None
            return Shipped(package, Path(str(installed.locate_file(entry))), known and _hexadecimal(known))
    raise InputError(
        f"{package} {installed.version} lacks its weights: {file}",
        mend=_reinstall(package, installed.version),
    )


def verify_shipped(shipped: Shipped, sha256: str) -> None:
    """Refuse a file that is not as its package shipped it.

    Raises
    ------
    InputError
        The hashes differ.
    """
    if shipped.sha256 is not None and sha256 != shipped.sha256:
        raise InputError(
            f"the weights are damaged: their sha256 is {sha256}, {shipped.package} shipped {shipped.sha256}",
            where=str(shipped.path),
            mend=_reinstall(shipped.package, distribution(shipped.package).version),
        )


def damaged(source: Source, path: Path, error: Exception) -> InputError:
    """What to say of a file that does not load."""
    told = str(error).strip().splitlines()
    first = f"{type(error).__name__}: {told[0][:200]}" if told else type(error).__name__
    return InputError(
        f"the weights of {source.potential} cannot be loaded, damaged or of another potential ({first})",
        where=str(path),
        mend=f"replace the file: {how_to_get(source)}" if source.url else how_to_get(source),
    )


def _reinstall(package: str, version: str) -> str:
    return f"pip install --force-reinstall --no-deps {package}=={version}"


def _hexadecimal(value: str) -> str:
    """A record's hash, base64 without its padding, as the usual digits."""
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"the weight file cannot be read: {error.strerror or error}",
        where=str(path),
        mend="see that the file is there, and that you may read it",
    )
