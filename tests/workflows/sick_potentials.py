"""ASE calculators that fail on purpose; imported by path, also by workers and children."""

import os

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT


class _Sick(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = self.answer(len(atoms))

    def answer(self, n):
        raise NotImplementedError


class NotANumber(_Sick):
    def answer(self, n):
        return {"energy": float("nan"), "forces": np.full((n, 3), np.nan)}


class WrongShape(_Sick):
    def answer(self, n):
        return {"energy": 0.0, "forces": np.zeros((n + 1, 3))}


class FlatForces(_Sick):
    def answer(self, n):
        return {"energy": 0.0, "forces": np.zeros(3 * n)}


class Garbage(_Sick):
    def answer(self, n):
        return {"energy": "low", "forces": "strong"}


class NoEnergy(_Sick):
    def answer(self, n):
        return {"energy": None, "forces": np.zeros((n, 3))}


class Explodes(_Sick):
    def answer(self, n):
        return {"energy": -1e12, "forces": np.full((n, 3), 1e9)}


class Raises(_Sick):
    def answer(self, n):
        raise RuntimeError("no licence on this machine")


class Bottomless(EMT):
    """Each call finds a lower energy than the one before."""

    calls = 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        Bottomless.calls += 1
        self.results["energy"] -= 1e3 * Bottomless.calls


class OutOfMemory(_Sick):
    def answer(self, n):
        raise MemoryError


class FailsUntilMended(EMT):
    """Fails while the file named by $GODELTA_TEST_BROKEN exists."""

    def calculate(self, *args, **kwargs):
        if os.path.exists(os.environ["GODELTA_TEST_BROKEN"]):  # noqa: PTH110
            raise RuntimeError("the scratch disk is full")
        super().calculate(*args, **kwargs)
