"""State of a replica exchange, and its storage."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.search.state import pack_state, unpack_state

HISTORY = 10  # iterations that the acceptance is taken over


@dataclass(frozen=True, slots=True)
class Walker:
    """The structure that a rung holds: positions (N, 3) in Å, energies in eV at the round's model.

    `id`, `iteration`, `rung`, `move` and `parents` tell how the structure came about.
    """

    positions: FloatArray
    energy: float
    foundation_energy: float
    uncertainty: float
    id: str
    iteration: int
    rung: int
    move: str
    parents: tuple[str, ...]
    converged: bool


@dataclass(frozen=True)
class REXState:
    """State between two iterations.

    Parameters
    ----------
    token
        First part of the candidates' ids.
    iteration, done_in_round
        Iterations since the chain and since the round began.
    walkers
        One per rung, coldest first; None where every structure so far has been dropped.
    amplitudes
        (W,) rattle amplitudes in Å; they stay with the rung.
    history
        (W, 10) last acceptances: 1 accepted, 0 rejected, -1 none yet; the newest is last.
    rng
        State of the random generator.
    """

    token: str
    iteration: int
    done_in_round: int
    walkers: tuple[Walker | None, ...]
    amplitudes: FloatArray
    history: IntArray
    rng: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        held = [w for w in self.walkers if w is not None]
        values = {
            "token": self.token,
            "iteration": self.iteration,
            "done_in_round": self.done_in_round,
            "rng": self.rng,
            "origins": [
                None if w is None else [w.id, w.iteration, w.rung, w.move, list(w.parents), w.converged]
                for w in self.walkers
            ],
        }
        shape = (len(held), -1, 3) if held else (0, 0, 3)
        arrays = {
            "positions": np.reshape([w.positions for w in held], shape),
            "energies": np.reshape([[w.energy, w.foundation_energy, w.uncertainty] for w in held], (-1, 3)),
            "amplitudes": self.amplitudes,
            "history": self.history,
        }
        return pack_state("rex", values, arrays)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If the bytes are no state of this method and version.
        """
        values, arrays = unpack_state("rex", blob)
        held = iter(zip(arrays["positions"], arrays["energies"].tolist(), strict=True))
        walkers: list[Walker | None] = []
        for origin in values["origins"]:
            if origin is None:
                walkers.append(None)
                continue
            positions, (energy, foundation_energy, uncertainty) = next(held)
            name, iteration, rung, move, parents, converged = origin
            walkers.append(
                Walker(
                    positions, energy, foundation_energy, uncertainty,
                    name, iteration, rung, move, tuple(parents), converged,
                )
            )  # fmt: skip
        return cls(
            values["token"],
            values["iteration"],
            values["done_in_round"],
            tuple(walkers),
            arrays["amplitudes"],
            arrays["history"],
            values["rng"],
        )
