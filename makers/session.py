"""What a job works with: the database, the campaign's parts, and a way to be asked to stop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from ase import Atoms

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.delta.model import DeltaModel, Learnt
from godelta.foundation import Foundation, Potential, PotentialBatch
from godelta.makers.features import RememberedSlopes, StoredEmbeddings, StoredFeatures, StoredForces
from godelta.makers.heartbeat import Heartbeat
from godelta.makers.potentials import PotentialCache
from godelta.store import campaigns, models
from godelta.store.database import Store
from godelta.store.programs import refuse_programs
from godelta.store.weights import CampaignWeights
from godelta.store.workspace import Workspace
from godelta.systems.packing import unpack_problem
from godelta.systems.problem import SearchProblem


class StopRequestedError(KeyboardInterrupt):
    """The worker was asked to stop; what is saved stays, and the round is taken up again later."""


@dataclass(frozen=True)
class CampaignParts:
    """A campaign's configuration and problem, and the potential that its search starts from."""

    config: CampaignConfig
    problem: SearchProblem
    potentials: PotentialCache
    weights: CampaignWeights

    @property
    def foundation(self) -> Foundation:
        """The foundation potential, loaded on first use.

        Raises
        ------
        InputError
            Its weights are not those that the campaign was begun with.
        """
        found = self.potentials.get(self.config.foundation)
        self.weights.agree(found.identity.weights_sha256)
        return found

    @cached_property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        numbers = np.concatenate([self.problem.template.numbers, self.problem.numbers])
        return tuple(int(z) for z in np.unique(numbers))


@dataclass
class Session:
    """One worker's view of the workspace; potentials and models stay loaded between jobs."""

    workspace: Workspace
    store: Store
    should_stop: Callable[[], bool] = lambda: False
    heartbeat: Heartbeat = field(init=False)
    features: StoredFeatures = field(init=False)
    embeddings: StoredEmbeddings = field(init=False)
    foundation_forces: StoredForces = field(init=False)
    slopes: RememberedSlopes = field(default_factory=RememberedSlopes)
    potentials: PotentialCache = field(default_factory=PotentialCache)
    _parts: dict[str, CampaignParts] = field(default_factory=dict)
    _learnt: dict[str, Learnt] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.heartbeat = Heartbeat(self.store)
        self.features = StoredFeatures(self.store)
        self.embeddings = StoredEmbeddings(self.store)
        self.foundation_forces = StoredForces(self.store)

    def parts(self, campaign_id: str) -> CampaignParts:
        """The campaign's configuration, with the budget as it is now, and its problem.

        Raises
        ------
        InputError
            It would run what the workspace does not allow.
        """
        config = CampaignConfig.model_validate(campaigns.get_campaign(self.store, campaign_id).config)
        known = self._parts.get(campaign_id)
        if known is None or known.config != config:
            refuse_programs(config, self.workspace)
        if known is None:
            problem = unpack_problem(campaigns.load_problem(self.store, campaign_id))
            weights = CampaignWeights(self.store, campaign_id)
            known = self._parts[campaign_id] = CampaignParts(config, problem, self.potentials, weights)
        elif known.config != config:
            known = self._parts[campaign_id] = replace(known, config=config)
        return known

    def learnt(self, model_id: str | None) -> Learnt:
        """A stored model, nothing for None; only the last few are kept in memory."""
        if model_id is None:
            return Learnt()
        if model_id not in self._learnt:
            while len(self._learnt) >= 4:
                self._learnt.pop(next(iter(self._learnt)))
            self._learnt[model_id] = Learnt.from_bytes(models.load_model(self.store, model_id))
        return self._learnt[model_id]

    def potential(self, campaign_id: str, model_id: str | None) -> "WatchedPotential":
        """Foundation + what the model has learnt of a campaign."""
        learnt = self.learnt(model_id)
        model = DeltaModel(self.parts(campaign_id).foundation, learnt.correction, learnt.repulsion)
        return WatchedPotential(model, self.should_stop)


@dataclass
class WatchedPotential:
    """A potential that adds up its time and lets a job be stopped between two calls."""

    potential: Potential
    should_stop: Callable[[], bool]
    seconds: float = 0.0
    calls: int = 0

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> PotentialBatch:
        """As the potential itself.

        Raises
        ------
        StopRequestedError
            The worker was asked to stop.
        """
        if self.should_stop():
            raise StopRequestedError
        start = time.perf_counter()
        batch = self.potential.evaluate(structures, kappa=kappa, uncertainty=uncertainty)
        self.seconds += time.perf_counter() - start
        self.calls += len(structures)
        return batch


_current: Session | None = None


def use_session(session: Session) -> None:
    """Make the session that this process's jobs run in known."""
    global _current  # noqa: PLW0603 - FireWorks hands jobs no context of ours
    _current = session


def current_session() -> Session:
    """The process's session; opened from $GODELTA_WORKSPACE where none was set, as under `rlaunch`."""
    if _current is None:
        workspace = Workspace.find()
        logs.write_to(workspace.logs)
        use_session(Session(workspace, workspace.connect()))
    assert _current is not None
    return _current
