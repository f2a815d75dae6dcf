"""ASE calculators that misbehave in every way that an engine may; imported by path in a child process."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


class Calm(Calculator):
    """Zero energy and forces; each case below overrides `misbehave`."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}
        self.misbehave()

    def misbehave(self):
        pass


class Segfault(Calm):
    def misbehave(self):
        ctypes.string_at(0)


class Killed(Calm):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Terminated(Calm):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGTERM)


class Hang(Calm):
    """Hangs, deaf to SIGTERM, and has a child that hangs too."""

    def misbehave(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(SLEEPER)
        time.sleep(600)


class SpinInC(Calm):
    """Holds the interpreter's lock forever, as a library in a loop does."""

    def misbehave(self):
        ctypes.PyDLL(None).sleep(600)


class MemoryEater(Calm):
    def misbehave(self):
        eaten = []
        while True:
            eaten.append(np.ones(8 * 1024**2 // 8))
            time.sleep(0.005)


class ChildEatsMemory(Calm):
    def misbehave(self):
        code = "import time\nx = [bytearray(8 * 1024**2) for _ in range(40)]\ntime.sleep(600)"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)


class RaisesMemoryError(Calm):
    def misbehave(self):
        raise MemoryError


class QuietExit(Calm):
    def misbehave(self):
        sys.exit(0)


class HardExit(Calm):
    def misbehave(self):
        os._exit(3)


class Garbage(Calm):
    """Leaves half a result and goes."""

    def misbehave(self):
        Path("result.json").write_text('{"status": "ok", "energy": -1')
        os._exit(0)


class Forged(Calm):
    """Leaves a complete result of another structure."""

    def misbehave(self):
        result = {"status": "ok", "energy": -1.0, "forces": [], "tried": [], "wall_s": 0.1}
        Path("result.json").write_text(json.dumps(result | {"task_sha256": "0000"}))
        os._exit(0)


class NotANumber(Calm):
    def misbehave(self):
        self.results["energy"] = float("nan")


class InfiniteForce(Calm):
    def misbehave(self):
        self.results["forces"][0, 0] = np.inf


class WrongShape(Calm):
    def misbehave(self):
        self.results["forces"] = self.results["forces"][:-1]


class Ragged(Calm):
    def misbehave(self):
        self.results["forces"] = np.array("nothing")


class HugeForce(Calm):
    def misbehave(self):
        self.results["forces"][0, 0] = 1192.0
        self.results["forces"][1, 0] = -1192.0


class NetForce(Calm):
    def misbehave(self):
        self.results["forces"][:, 2] = 1.0


class KohnShamConvergenceError(Exception):
    """As GPAW's: it comes without a text."""


class NotConverged(Calm):
    def misbehave(self):
        sys.stdout.write("iteration 333: no luck\n")
        raise KohnShamConvergenceError


class EmptyMessage(Calm):
    def misbehave(self):
        raise ZeroDivisionError


class Orphan(Calm):
    """A good result, but a grandchild in a session of its own stays behind."""

    def misbehave(self):
        subprocess.Popen(SLEEPER, start_new_session=True)


class OrphanAndHang(Calm):
    """Double fork and a new session: as daemons do."""

    def misbehave(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.execv(SLEEPER[0], SLEEPER)
        time.sleep(600)


class KillsGuard(Calm):
    """Ends the process that watches it, from within a process that it leaves behind."""

    def misbehave(self):
        subprocess.Popen(SLEEPER)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)


def no_class_but_a_number():
    return 42


class Talkative(Calm):
    """Prints its environment, and fails with a password that it found elsewhere."""

    def misbehave(self):
        sys.stdout.write(f"{dict(os.environ)}\n")
        sys.stdout.write("connecting to mongodb://me:" + "found-else" + "where@h/\n")
        sys.stdout.flush()
        raise RuntimeError("no answer from mongodb://me:" + "found-else" + "where@h/")
