"""What a mongod's log says, for people."""

import json
from pathlib import Path

import psutil

from godelta.errors import GodeltaError

LITTLE_BYTES = 2_000_000  # a mongod that ended with less than this free had not enough

# Words of the log, what they mean, how to mend it; the first that fits holds.
_FULL = ("the disk is full", "make space; nothing acknowledged is lost, the same command goes on")
_CAUSES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("No space left on device", '"error": 28', "Insufficient free space"), *_FULL),
    (
        ("featureCompatibilityVersion", "unsupported WiredTiger", "WT_INCOMPATIBLE"),
        "the data were written by another version of MongoDB",
        "set GODELTA_MONGOD to a mongod of the version that wrote them",
    ),
    (
        ("Permission denied", "Operation not permitted", "Read-only file system"),
        "mongod may not read or write its data",
        "give yourself the rights to that folder and all that lies in it",
    ),
    (
        ("WiredTiger error",),
        "the data are damaged, or not those of a MongoDB server",
        "move this folder away and start again; then: godelta db restore FILE, if you have a backup",
    ),
)


def log_tail(path: Path, lines: int = 8) -> str:
    """The last messages of a mongod log, errors first choice, as plain text."""
    if not path.exists():
        return "(no log was written)"
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 100_000))
        raw = stream.read().decode(errors="replace").splitlines()
    # Only the latest run matters; mongod appends.
    starts = [i for i, line in enumerate(raw) if "***** SERVER RESTARTED *****" in line]
    entries = [_log_entry(line) for line in raw[starts[-1] if starts else 0 :]]
    severe = [text for severity, text in entries if severity in "EF"]
    return "\n".join((severe or [text for _, text in entries])[-lines:])


def explain_end(home: Path, log: Path, otherwise: str) -> GodeltaError:
    """Why a server did not start, or ended by itself, from what it left behind.

    Parameters
    ----------
    home
        Folder of the server.
    log
        The server's log.
    otherwise
        What to say before the end of the log where its words are unknown.
    """
    # A full disk shows itself in many ways, damaged data among them.
    if home.is_dir() and psutil.disk_usage(str(home)).free < LITTLE_BYTES:
        return GodeltaError(_FULL[0], where=str(home), mend=f"{_FULL[1]}\n  details: {log}")
    tail = log_tail(log)
    for words, what, mend in _CAUSES:
        if any(word in tail for word in words):
            return GodeltaError(what, where=str(home / "data"), mend=f"{mend}\n  details: {log}")
    return GodeltaError(
        f"{otherwise}:\n{tail}", where=str(log), mend="mend what its last lines say; try again"
    )


def _log_entry(line: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        return "I", line
    return entry.get("s", "I"), f"{entry.get('msg', '')} {json.dumps(entry.get('attr', {}))[:400]}"
