"""What `godelta check --slurm` looks at within a batch job: as a worker of that class would find it."""

import os
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from godelta.errors import GodeltaError
from godelta.store import checks
from godelta.store.checks import CheckLine, Doubt
from godelta.store.credentials import address_of
from godelta.store.database import Store, connect
from godelta.store.workspace import SCRATCH, Workspace
from godelta.workflows import slurm
from godelta.workflows.worker_needs import Question, check_needs, described, line

FOLDER = "checks"  # in the workspace's state
QUESTION, ANSWER = "question.json", "answer.json"
TUNNEL = "compute nodes that cannot reach the server need a tunnel: docs/how-to/ssh-tunnel.md"
CONNECT_MS = 15_000
PINGS = 11
SLOW_MS = 50.0
CLOCK_S = 5.0, 60.0  # that are told, and that are wrong
MIN_FREE = 1e9  # bytes
WRITTEN = bytes(1 << 20)


def folder_of(workspace: Workspace, token: str) -> Path:
    """The folder of a batch job that checks."""
    return workspace.state / FOLDER / token


def check_here(workspace: Workspace, token: str) -> list[CheckLine]:
    """Look at everything that a worker needs here, and tell the submitter by database and by file."""
    folder = folder_of(workspace, token)
    question = next((q for q in map(_read, (folder, Path.cwd())) if q is not None), None)
    lines = [
        line("environment", _environment),
        line("workspace", lambda: _workspace(workspace, folder, question)),
    ]
    opened: list[Store] = []
    lines.append(line("database", lambda: _database(workspace, opened)))
    if opened:
        lines += _of_database(opened[0], token, question)
    lines.append(line("scratch", lambda: _scratch(workspace)))
    if question is not None:
        lines += check_needs(workspace, question)
    lines.append(line("end of the job", _end))
    if not _answered(opened, token, lines):
        for place in {folder, Path.cwd()}:
            if (place / QUESTION).is_file():
                _write_answer(place, lines)
    return lines


def _answered(opened: list[Store], token: str, lines: list[CheckLine]) -> bool:
    """Answer by the database, if it is there and the submitter's."""
    try:
        return bool(opened) and checks.answer(opened[0], token, lines)
    except PyMongoError as error:
        lines.append(CheckLine(name="answer", verdict="no", what=described(error), mend=TUNNEL))
        return False


def _of_database(store: Store, token: str, question: Question | None) -> list[CheckLine]:
    lines = [line("clock", lambda: _clock(store))]
    if question is not None:
        lines.insert(0, line("same database", lambda: _same_database(store, token, question)))
    return lines


def _read(folder: Path) -> Question | None:
    try:
        return Question.model_validate_json((folder / QUESTION).read_bytes())
    except (OSError, ValidationError):
        return None


def _write_answer(folder: Path, lines: list[CheckLine]) -> None:
    text = TypeAdapter(list[CheckLine]).dump_json(lines)
    try:
        (folder / f"{ANSWER}.new").write_bytes(text)
        (folder / f"{ANSWER}.new").replace(folder / ANSWER)
    except OSError as error:
        print(f"the answer cannot be written: {error}", file=sys.stderr)  # noqa: T201 - into the job's output


def _environment() -> str:
    import godelta

    place = Path(godelta.__file__).parent
    return f"{socket.gethostname()}, Python {platform.python_version()} of {sys.prefix}, godelta in {place}"


def _workspace(workspace: Workspace, folder: Path, question: Question | None) -> str | Doubt:
    if _read(folder) is None:
        theirs = f", the submitter's is {question.workspace}" if question else ""
        raise GodeltaError(
            "the file that the submitter made in its workspace is not seen from here",
            where=f"{folder} on {socket.gethostname()}{theirs}",
            mend="the workspace has to lie on a file system that the compute nodes share, and --workspace in"
            " rocket_launch of the qadapter file has to name it",
        )
    return _writable(folder, str(workspace.folder), "make room in the workspace, or ask for a larger quota")


def _scratch(workspace: Workspace) -> str | Doubt:
    workspace.prepare()
    mend = f"`export {SCRATCH}=FOLDER` in pre_rocket names another place"
    where = "" if os.environ.get(SCRATCH, "").strip() else f" (in the workspace; {SCRATCH} is not set)"
    return _writable(workspace.scratch, f"{workspace.scratch}{where}", mend)


def _writable(folder: Path, called: str, mend: str) -> str | Doubt:
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(WRITTEN)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            same = stream.read() == WRITTEN
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise GodeltaError(f"cannot be written: {error.strerror}", where=called, mend=mend) from None
    if not same:
        raise GodeltaError("what was written is not what is read", where=called, mend=mend)
    found = f"{called}, {free / 1e9:.1f} GB free"
    return found if free > MIN_FREE else Doubt(found, mend)


def _database(workspace: Workspace, opened: list[Store]) -> str | Doubt:
    """Open the database and write to it; it is added to `opened` where it answers."""
    uri, name = workspace.database_uri(start=False)
    address = address_of(uri)
    try:
        store = connect(uri, name, timeout_ms=CONNECT_MS)
    except GodeltaError as error:
        if isinstance(error.__cause__, ServerSelectionTimeoutError):
            mend = TUNNEL
            if workspace.settings().database.is_private:
                mend = "the workspace's private server is for one machine: docs/how-to/database.md"
            raise GodeltaError(error.what, where=f"{address}, from here", mend=mend) from error
        raise
    opened.append(store)
    try:
        written = checks.try_writing(store)
    except OperationFailure as error:
        said = (error.details or {}).get("errmsg", error)
        raise GodeltaError(
            f"it cannot be written with a majority: {said}",
            where=address,
            mend="the database's user needs the role readWrite, and the server has to be a replica set",
        ) from error
    if not written:
        raise GodeltaError(
            "what a majority has acknowledged is not what is read",
            where=address,
            mend="see rs.status()",
        )
    milliseconds = 1000.0 * _round_trip(store)
    found = f"{name} on {address}, written by a majority and read back, round trip {milliseconds:.1f} ms"
    if milliseconds < SLOW_MS:
        return found
    return Doubt(found, "every job asks a few dozen times: a server nearer to the compute nodes saves that")


def _round_trip(store: Store) -> float:
    """Median time of an answer of the server, s."""
    times = []
    for _ in range(PINGS):
        began = time.perf_counter()
        store.db.command("ping")
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _same_database(store: Store, token: str, question: Question) -> str:
    if checks.read_note(store, token) != question.nonce:
        raise GodeltaError(
            "this is not the submitter's database: the note that it left is not here",
            where=f"{store.db.name}, from here",
            mend="both have to read the same URI and name: see godelta.yaml, its uri_env or uri_file on the"
            " compute node, and what pre_rocket exports",
        )
    return "the submitter's note is here"


def _clock(store: Store) -> str | Doubt:
    began = time.time()
    server = store.now().timestamp()
    ahead = (began + time.time()) / 2.0 - server
    said = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database server's"
    mend = "ask the cluster's support for a time service (NTP) there, or on the server"
    if abs(ahead) > CLOCK_S[1]:
        raise GodeltaError(
            f"the clock is {said}; leases of evaluations would be wrong",
            where=socket.gethostname(),
            mend=mend,
        )
    return Doubt(said, mend) if abs(ahead) > CLOCK_S[0] else said


def _end() -> str:
    end = slurm.own_end()
    if end is None:
        raise GodeltaError(
            "a worker here does not know when SLURM will end its job",
            where=socket.gethostname(),
            mend="`walltime` in the qadapter file; before SLURM 23.02 `squeue` has to answer here",
        )
    return f"known, in {(end - time.time()) / 60.0:.0f} min"
