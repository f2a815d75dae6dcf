"""Ends an engine, its guard or its worker right before the n-th change of a file; first on PYTHONPATH.

$KILL_POINT names a folder with order.json: {"within": the scratch folder, "n", "victim"}, n = 0 for nobody.
There `points` gets a line for every change that the guard and the engine are about to make.
"""

import atexit
import json
import os
import signal
import sys
import time
from pathlib import Path

FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
GUARD = "godelta.reference.guard"
ENGINE = "godelta.reference.child"

fsync, write = os.fsync, os.write


def path_of(descriptor):
    """Where it leads; a pipe is nowhere."""
    return Path(f"/proc/self/fd/{descriptor}").resolve()


class Hook:
    def __init__(self, folder):
        order = json.loads((folder / "order.json").read_text())
        self.within, self.n, self.victim = order["within"], order["n"], order["victim"]
        self.points = os.open(folder / "points", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        if GUARD in sys.orig_argv:
            self.guard = os.getpid()
            # A launcher may stand between the guard and the engine, which has a hook of its own then.
            os.environ["KILL_POINT_PROCESSES"] = f"{self.guard} {os.getppid()}"
        self.guard, self.worker = map(int, os.environ["KILL_POINT_PROCESSES"].split())

    def begin(self):
        sys.addaudithook(self.audit)
        os.fsync, os.write, json.dump = self.fsync, self.write, self.dump
        atexit.register(self.before, "exit")

    def audit(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not isinstance(path, int):
                self.before_file("open", path)
        elif event in FILE_EVENTS:
            self.before_file(event, arguments[0])

    def fsync(self, descriptor):
        self.before_file("fsync", path_of(descriptor))
        fsync(descriptor)

    def write(self, descriptor, data):
        if descriptor == 1 and os.getpid() == self.guard:
            self.before("report")
        self.before_file("write", path_of(descriptor))
        return write(descriptor, data)

    def dump(self, data, stream):
        """Half of it is in the file already."""
        text = json.dumps(data)
        stream.write(text[: len(text) // 2])
        stream.flush()
        self.before_file("write", stream.name)
        stream.write(text[len(text) // 2 :])

    def before_file(self, what, path):
        path = Path.cwd() / os.fsdecode(path)
        if str(path).startswith(self.within):
            self.before(f"{what} {path.name}")

    def before(self, what):
        is_guard = os.getpid() == self.guard
        write(self.points, f"{'guard' if is_guard else 'engine'} {what}\n".encode())
        if os.pread(self.points, 1_000_000, 0).count(b"\n") != self.n:
            return
        victims = {"engine": os.getpid(), "guard": self.guard, "worker": self.worker}
        os.kill(victims[self.victim], signal.SIGKILL)
        if not is_guard:  # what ended the guard or the worker has to end the engine too
            time.sleep(60.0)


if {GUARD, ENGINE} & set(sys.orig_argv):
    Hook(Path(os.environ["KILL_POINT"])).begin()
