"""What the engines share: the task, the result and the failure of one evaluation.

The process of an evaluation imports this module and one engine, and nothing else of godelta: it
has to start fast, so neither ASE nor pydantic is imported here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from godelta.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Task:
    """One structure and the settings of the engine that evaluates it.

    numbers (n,); positions (n, 3) and cell (3, 3) in Å; pbc (3,); settings as plain values, without
    the limits. `launcher` is what starts an engine's own program, e.g. ("mpirun", "-n", "8"); as one of
    the limits it is no part of what `to_json` writes.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: BoolArray
    settings: Mapping[str, Any]
    launcher: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, floats to the last bit."""
        return {
            "numbers": self.numbers.tolist(),
            "positions": self.positions.tolist(),
            "cell": self.cell.tolist(),
            "pbc": self.pbc.tolist(),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], launcher: Sequence[str] = ()) -> "Task":
        """The task that `to_json` wrote."""
        return cls(
            numbers=np.array(data["numbers"], dtype=np.int64),
            positions=np.array(data["positions"], dtype=np.float64).reshape(-1, 3),
            cell=np.array(data["cell"], dtype=np.float64),
            pbc=np.array(data["pbc"], dtype=np.bool_),
            settings=data["settings"],
            launcher=tuple(launcher),
        )


@dataclass(frozen=True, slots=True)
class EngineResult:
    """Energy [eV], forces (n, 3) [eV/Å] without constraints, and the attempts it took."""

    energy: float
    forces: FloatArray
    tried: tuple[str, ...] = ()


class EngineError(Exception):
    """An engine's failure on one structure: a reason code, a message and what was tried."""

    def __init__(self, reason: str, message: str, tried: tuple[str, ...] = ()) -> None:
        self.reason = reason
        self.message = message
        self.tried = tried
        super().__init__(reason, message, tried)


def message_of(error: BaseException) -> str:
    """The type and the text of an error; GPAW's convergence error, for one, has no text."""
    text = str(error).strip()
    name = type(error).__name__
    return f"{name}: {text}" if text else name
