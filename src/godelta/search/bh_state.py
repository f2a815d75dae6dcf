"""State of basin hopping, and its storage."""

from dataclasses import dataclass
from typing import Any, Self

from godelta.arrays import FloatArray, IntArray
from godelta.search.state import pack_state, unpack_state
from godelta.search.walkers import Walkers, packed, unpacked


@dataclass(frozen=True)
class BHState:
    """State between two iterations.

    Parameters
    ----------
    token
        First part of the candidates' ids.
    iteration, done_in_round
        Iterations since the chain and since the round began.
    held
        One per walker: the structure that Metropolis on reference energies has arrived at; None before
        the first evaluation.
    references
        (W,) reference energies of those, eV; NaN where there is none.
    here
        One per walker: where Metropolis on model energies has got to since the round began.
    trials
        One per walker: the round's new structure of lowest model energy.
    history
        (W, 10) last verdicts on reference energies: 1 accepted, 0 rejected, -1 none yet; the newest last.
    events
        What happened to trials at the beginning of the round, counted; told with the first iteration.
    rng
        State of the random generator.
    """

    token: str
    iteration: int
    done_in_round: int
    held: Walkers
    references: FloatArray
    here: Walkers
    trials: Walkers
    history: IntArray
    events: dict[str, int]
    rng: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        values: dict[str, Any] = {
            "token": self.token,
            "iteration": self.iteration,
            "done_in_round": self.done_in_round,
            "events": self.events,
            "rng": self.rng,
        }
        arrays: dict[str, Any] = {"references": self.references, "history": self.history}
        for name in ("held", "here", "trials"):
            more_values, more_arrays = packed(name, getattr(self, name))
            values |= more_values
            arrays |= more_arrays
        return pack_state("bh", values, arrays)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If the bytes are no state of this method and version.
        """
        values, arrays = unpack_state("bh", blob)
        return cls(
            token=values["token"],
            iteration=values["iteration"],
            done_in_round=values["done_in_round"],
            held=unpacked("held", values, arrays),
            references=arrays["references"],
            here=unpacked("here", values, arrays),
            trials=unpacked("trials", values, arrays),
            history=arrays["history"],
            events=values["events"],
            rng=values["rng"],
        )
