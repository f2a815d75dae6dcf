"""A reference that notes every start in a file which only grows, and misbehaves when it is told to."""

import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.emt import EMT

from godelta.store.documents import structure_hash


class CountedEMT(EMT):
    """EMT that takes its time.

    Parameters
    ----------
    log
        The file: a line with the structure's hash and the process id for each start.
    seconds
        How long a computation takes.
    fault
        What the first `times` computations do instead: slow, segfault, hang, memory, nan, garbage or raise.
    """

    def __init__(self, log, seconds=0.5, fault=None, times=0):
        super().__init__()
        self.log, self.seconds = Path(log), seconds
        self.fault, self.times = fault, times

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        before = len(self.log.read_text().splitlines()) if self.log.exists() else 0
        stream = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(stream, f"{structure_hash(atoms)} {os.getpid()}\n".encode())
        os.close(stream)
        time.sleep(self.seconds)
        super().calculate(atoms, properties, system_changes)
        if self.fault and before < self.times:
            getattr(self, f"_{self.fault}")()

    def _slow(self):
        time.sleep(40)

    def _segfault(self):
        import ctypes

        ctypes.string_at(0)

    def _hang(self):
        time.sleep(3600)

    def _memory(self):
        hoard = []
        while True:
            hoard.append(np.ones(10_000_000))
            time.sleep(0.02)

    def _nan(self):
        self.results["energy"] = float("nan")

    def _garbage(self):
        self.results["forces"] = np.full_like(self.results["forces"], 1e7)

    def _raise(self):
        raise RuntimeError("the engine has lost its way")
