"""Relaxation at the reference level, with foundation + Δ as the guide.

Each step costs one evaluation, and all that it knows of the reference is in the trajectory: it can be stopped
anywhere, and its evaluations are ones that the Δ-model learns from like any other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.foundation.base import Potential, PotentialBatch
from godelta.search.proposals import Proposal, relax_proposals, structure_at
from godelta.search.proposals import candidate as as_candidate
from godelta.search.settings import REFINEMENT, RefineSettings, RelaxSettings
from godelta.search.state import Candidate, Evaluated, chain_token, pack_state, unpack_state
from godelta.systems.problem import SearchProblem

SAME = 1e-3  # Å: a proposal that moves no atom further says that there is no way down
FLAT = 1e-3  # eV: energies so close are told apart by their forces
FIRST_TETHER, HIGHEST_TETHER = 2.0, 600.0  # eV/Å²
MOST_MISSES = 3  # evaluations in a row that failed

Status = Literal["running", "converged", "spent", "stuck", "failed"]


@dataclass(frozen=True)
class Track:
    """One structure on its way to a minimum of the reference.

    Parameters
    ----------
    start
        Id of the candidate that it began from.
    at
        Id of the one of lowest reference energy so far, where it stands.
    positions, forces
        (N, 3) in Å and eV/Å of that one, at the reference level.
    energy
        Reference energy there, eV.
    pending
        Id of the candidate that is being evaluated; "" where none is.
    tether
        Spring constant in eV/Å² that holds each atom to where it stands, 0 while the model can be trusted.
    evaluations
        Paid for since the start.
    misses
        Evaluations in a row that failed, or were refused.
    """

    start: str
    at: str
    positions: FloatArray
    energy: float
    forces: FloatArray
    pending: str = ""
    tether: float = 0.0
    evaluations: int = 0
    misses: int = 0
    status: Status = "running"

    def fmax(self, problem: SearchProblem) -> float:
        """Largest reference force on a moving atom where it stands, eV/Å."""
        return float(np.linalg.norm(self.forces[problem.moving], axis=1).max(initial=0.0))


@dataclass(frozen=True)
class RefinementState:
    """All tracks, ended ones too, how many rounds of steps there were, and whether this one's was taken."""

    token: str
    iteration: int
    tracks: tuple[Track, ...]
    stepped: bool = False

    def to_bytes(self) -> bytes:
        """Everything needed to continue bit for bit."""
        plain = [
            {key: value for key, value in vars(track).items() if key not in ("positions", "forces")}
            for track in self.tracks
        ]
        stacked = {
            name: np.array([getattr(track, name) for track in self.tracks]).reshape(len(self.tracks), -1, 3)
            for name in ("positions", "forces")
        }
        values = {"token": self.token, "iteration": self.iteration, "stepped": self.stepped, "tracks": plain}
        return pack_state(REFINEMENT, values, stacked if self.tracks else {})

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If the bytes are no state of a refinement of this version.
        """
        values, arrays = unpack_state(REFINEMENT, blob)
        tracks = []
        for k, plain in enumerate(values["tracks"]):
            if plain["status"] not in get_args(Status):
                raise ValueError(f"unknown status of a refinement: {plain['status']}")
            tracks.append(Track(**plain, positions=arrays["positions"][k], forces=arrays["forces"][k]))
        return cls(values["token"], values["iteration"], tuple(tracks), values["stepped"])


@dataclass(frozen=True)
class Refinement:
    """Steps of structures to minima of the reference; one evaluation for each step.

    A step relaxes the structure in the model, whose forces are shifted so that they are the reference's
    where the structure stands: E(x) + (F(x0) - F_ref(x0)) (x - x0). Such a first-order consistent model
    leads to a minimum of the reference, however rough its curvatures are, if steps that went up are taken
    again with a shorter reach (Alexandrov et al., Struct. Optim. 15, 16 (1998)); here a spring to where each
    atom stands, as of Levenberg and Marquardt, shortens them. Between steps the Δ-model learns, so that its
    curvatures get better too.
    """

    settings: RefineSettings
    problem: SearchProblem

    def start(self, rng: np.random.Generator) -> RefinementState:
        """No track yet."""
        return RefinementState(chain_token(rng), 0, ())

    def begin(self, state: RefinementState, structures: Sequence[Evaluated]) -> RefinementState:
        """With a track from each of these structures; one whose forces are small has ended already."""
        new = [
            Track(item.names[0], item.names[0], item.positions, item.energy, item.forces)
            for item in structures
        ]
        return replace(state, tracks=(*state.tracks, *(self._settled(track) for track in new)))

    def judge(
        self,
        state: RefinementState,
        evaluated: Sequence[Evaluated],
        waiting: Collection[str] = (),
        refused: Collection[str] = (),
    ) -> RefinementState:
        """What came of the evaluations that were pending; one that is missing has failed.

        Ended tracks go on where the settings allow more than they did, or ask for smaller forces.

        Parameters
        ----------
        waiting
            Ids of candidates that nobody has tried to evaluate yet: they stay pending.
        refused
            Ids of candidates that were to be evaluated and have no result. They stay pending too, for a few
            times.
        """
        known = {name: item for item in evaluated for name in item.names}
        tracks = []
        for track in state.tracks:
            if track.pending in refused:
                missed = replace(track, misses=track.misses + 1)
                given_up = missed.misses >= MOST_MISSES
                tracks.append(self._settled(replace(missed, pending="")) if given_up else missed)
            elif track.pending and track.pending in waiting:
                tracks.append(track)
            else:
                tracks.append(self._judged(track, known))
        return replace(state, tracks=tuple(tracks), stepped=False)

    def encourage(self, state: RefinementState) -> RefinementState:
        """Tracks that failed run again, and none has failed yet: somebody may have mended the reference."""
        tracks = []
        for track in state.tracks:
            if track.status == "failed":  # with a reach of its own: what has failed is not evaluated again
                track = replace(track, status="running", tether=FIRST_TETHER / 2.0)  # noqa: PLW2901
            tracks.append(replace(track, misses=0))
        return replace(state, tracks=tuple(tracks))

    def step(self, state: RefinementState, potential: Potential) -> tuple[RefinementState, list[Candidate]]:
        """The next structures to be evaluated, of the first `best` tracks that run."""
        iteration = state.iteration + 1
        room = self.settings.best - sum(bool(track.pending) for track in state.tracks)
        tracks: list[Track] = []
        candidates: list[Candidate] = []
        for number, track in enumerate(state.tracks):
            after, new = track, None
            if track.status == "running" and not track.pending and len(candidates) < room:
                after, new = self._stepped(track, potential, (state.token, iteration, number))
            tracks.append(after)
            candidates += [new] if new is not None else []
        return replace(state, iteration=iteration, tracks=tuple(tracks), stepped=True), candidates

    def load(self, blob: bytes) -> RefinementState:
        """The state whose `to_bytes` gave these bytes.

        Raises
        ------
        ValueError
            If they are no refinement of this problem.
        """
        state = RefinementState.from_bytes(blob)
        if any(track.positions.shape != (len(self.problem.moving), 3) for track in state.tracks):
            raise ValueError("the stored refinement does not fit the search's atoms")
        return state

    def report(self, state: RefinementState) -> list[dict[str, Any]]:
        """Where each track stands, for people and for those who ask whether more is to be done."""
        return [
            {
                "start": track.start,
                "at": track.at,
                "status": track.status,
                "energy": track.energy,
                "fmax": track.fmax(self.problem),
                "evaluations": track.evaluations,
            }
            for track in state.tracks
        ]

    def _judged(self, track: Track, known: Mapping[str, Evaluated]) -> Track:
        if not track.pending:
            again = replace(track, status="running") if track.status in ("converged", "spent") else track
            return self._settled(again)
        new = known.get(track.pending)
        paid = replace(track, pending="", evaluations=track.evaluations + 1)
        if new is None:
            tether = max(FIRST_TETHER, 16.0 * track.tether)
            return self._settled(replace(paid, misses=track.misses + 1, tether=tether))
        moved = replace(paid, at=track.pending, positions=new.positions, energy=new.energy, forces=new.forces)
        flat = abs(new.energy - track.energy) < FLAT
        better = moved.fmax(self.problem) < track.fmax(self.problem) if flat else new.energy < track.energy
        if better:
            weaker = track.tether / 2.0 if track.tether > FIRST_TETHER / 8.0 else 0.0
            return self._settled(replace(moved, misses=0, tether=weaker))
        return self._settled(replace(paid, misses=0, tether=max(FIRST_TETHER, 4.0 * track.tether)))

    def _settled(self, track: Track) -> Track:
        """With the status that follows from where it stands."""
        if track.status != "running":
            return track
        if track.fmax(self.problem) <= self.settings.fmax:
            return replace(track, status="converged")
        if track.misses >= MOST_MISSES:
            return replace(track, status="failed")
        if track.evaluations >= self.settings.evaluations:
            return replace(track, status="spent")
        return replace(track, status="stuck") if track.tether > HIGHEST_TETHER else track

    def _stepped(
        self, track: Track, potential: Potential, name: tuple[str, int, int]
    ) -> tuple[Track, Candidate | None]:
        """The track with its next structure; stuck where the model leads nowhere."""
        tether = track.tether
        while tether <= HIGHEST_TETHER:
            found = self._followed(track, tether, potential)
            if found is not None:
                proposal = Proposal(found, REFINEMENT, (track.at,))
                as_it_is = RelaxSettings(steps=0)
                (relaxed,) = relax_proposals([proposal], potential, as_it_is, self.problem)
                token, iteration, number = name
                new = as_candidate(
                    proposal, relaxed, token=token, iteration=iteration, walker=number, accepted=True
                )
                if relaxed.dropped is None:
                    return replace(track, tether=tether, pending=new.id), new
            tether = max(FIRST_TETHER, 4.0 * tether)
        return replace(track, status="stuck"), None

    def _followed(self, track: Track, tether: float, potential: Potential) -> FloatArray | None:
        """Positions (N, 3) that the shifted model leads to; None where it leads nowhere, or goes astray."""
        s = self.settings
        here = structure_at(self.problem, track.positions)
        (forces,) = potential.evaluate([here]).forces
        shifted = _Shifted(potential, track.positions, forces - track.forces, tether)
        goal = RelaxSettings(steps=s.steps, fmax=s.fmax / 5.0, max_step=0.2)
        (relaxed,) = relax_proposals([Proposal(track.positions, REFINEMENT, ())], shifted, goal, self.problem)
        moved = np.linalg.norm(relaxed.atoms.positions - track.positions, axis=1).max()
        return None if relaxed.dropped is not None or moved < SAME else relaxed.atoms.positions


@dataclass(frozen=True)
class _Shifted:
    """A potential with other forces at one place, and springs to it.

    E(x) + shift (x - x0) + tether |x - x0|² / 2, with shift (N, 3) in eV/Å and the tether in eV/Å².
    """

    potential: Potential
    origin: FloatArray
    shift: FloatArray
    tether: float

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> PotentialBatch:
        """As the potential itself, without deviations: they do not matter here."""
        batch = self.potential.evaluate(structures, kappa=kappa, uncertainty=uncertainty and kappa > 0)
        moved = [atoms.positions - self.origin for atoms in structures]
        added = [float((self.shift * d).sum() + 0.5 * self.tether * (d * d).sum()) for d in moved]
        return replace(
            batch,
            energies=batch.energies + np.array(added),
            forces=[f - self.shift - self.tether * d for f, d in zip(batch.forces, moved, strict=True)],
        )
