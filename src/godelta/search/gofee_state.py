"""State of GOFEE, and its storage."""

from dataclasses import dataclass
from typing import Any, Self

from godelta.arrays import FloatArray
from godelta.search.state import pack_state, unpack_state


@dataclass(frozen=True)
class GOFEEState:
    """State between two iterations.

    Parameters
    ----------
    token
        First part of the candidates' ids.
    iteration, done_in_round
        Iterations since the chain and since the round began.
    parents, parent_names
        (K, N, 3) positions in Å of the round's parents, and the candidates that they were.
    steps, step_parents
        (S, N, 3) positions in Å one step down from evaluated structures, and the candidates that those were.
        They wait for the round's first iteration.
    followed
        Candidates from which such a step has been taken, and the steps themselves.
    events
        What happened at the beginning of the round, counted; told with the first iteration.
    rng
        State of the random generator.
    """

    token: str
    iteration: int
    done_in_round: int
    parents: FloatArray
    parent_names: tuple[str, ...]
    steps: FloatArray
    step_parents: tuple[str, ...]
    followed: tuple[str, ...]
    events: dict[str, int]
    rng: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        values = {
            "token": self.token,
            "iteration": self.iteration,
            "done_in_round": self.done_in_round,
            "parent_names": self.parent_names,
            "step_parents": self.step_parents,
            "followed": self.followed,
            "events": self.events,
            "rng": self.rng,
        }
        return pack_state("gofee", values, {"parents": self.parents, "steps": self.steps})

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If the bytes are no state of this method and version.
        """
        values, arrays = unpack_state("gofee", blob)
        return cls(
            token=values["token"],
            iteration=values["iteration"],
            done_in_round=values["done_in_round"],
            parents=arrays["parents"],
            parent_names=tuple(values["parent_names"]),
            steps=arrays["steps"],
            step_parents=tuple(values["step_parents"]),
            followed=tuple(values["followed"]),
            events=values["events"],
            rng=values["rng"],
        )
