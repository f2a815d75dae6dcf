"""The guard: the small process between a worker and an engine that leaves nothing behind.

`python -m godelta.reference.guard SCRATCH [COMMAND PREFIX...]`. It leads a new session, forks the
engine's process, and waits for its end or for the end of its own standard input, a pipe that the
worker holds: that ends when the worker closes it, and when the worker dies, however it dies. Then
all of the guard's descendants are ended. As a child subreaper (Linux) it also inherits those that
lost their parents or left the session. On its standard output it reports {"returncode", "cpu_s",
"peak_rss_mb"}; the engine writes to log.txt instead.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE = 3.0  # s between SIGTERM and SIGKILL: srun and mpirun hand SIGTERM on to their ranks
LOG = "log.txt"

WORKER_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(scratch: Path, prefix: list[str]) -> None:
    """Run the engine in `scratch`, end whatever it leaves, and report."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Ctrl-C and SLURM's SIGTERM are the worker's business; it closes the pipe.
    for number in WORKER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    guard = os.getpid()
    engine = os.fork()
    if engine == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *WORKER_SIGNALS):
            signal.signal(number, signal.SIG_DFL)
        _become_engine(scratch, prefix, guard)
    status: int | None = None
    while status is None:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            status = _reap(engine)
        if 0 in readable and not os.read(0, 1):
            break
    if status is None:
        status = _terminate(engine, wake)
    _kill_all()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = {
        "returncode": os.waitstatus_to_exitcode(status) if status is not None else -signal.SIGKILL,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_rss_mb": usage.ru_maxrss / (1024.0 if sys.platform == "linux" else 1024.0**2),
    }
    with suppress(BrokenPipeError):  # the worker is gone
        os.write(1, json.dumps(report).encode())


def _become_engine(scratch: Path, prefix: list[str], guard: int) -> None:
    """Turn the forked process into the engine, or into the command prefix that launches it."""
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)
    log = os.open(scratch / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(scratch)
    if prefix:
        command = [*prefix, sys.executable, "-P", "-m", "godelta.reference.child", str(scratch)]
        try:
            os.execvp(command[0], command)
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error}\n")
            sys.stderr.flush()
            os._exit(127)
    from godelta.reference.child import main as evaluate

    evaluate(scratch)
    sys.stdout.flush()
    sys.exit(0)


def _reap(engine: int) -> int | None:
    """Collect ended descendants; the wait status of the engine's process if it is among them."""
    found = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return found
            if pid == engine:
                found = status
    except ChildProcessError:
        return found


def _terminate(engine: int, wake: int) -> int | None:
    """SIGTERM to all, and some time to act on it."""
    for pid in _children():
        _signal(pid, signal.SIGTERM)
    _signal(-engine, signal.SIGTERM)
    status = None
    end = time.monotonic() + GRACE
    while status is None and (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([wake], [], [], left)
        if readable:
            os.read(wake, 4096)
            status = _reap(engine)
    return status


def _kill_all() -> None:
    """SIGKILL to every descendant, until there is none: orphans come to us as our own children."""
    while children := _children():
        for pid in children:
            _signal(pid, signal.SIGKILL)
        for pid in children:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue


def _children() -> list[int]:
    """Our own children, from /proc."""
    me = os.getpid()
    path = Path(f"/proc/{me}/task/{me}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
