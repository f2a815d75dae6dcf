"""Settings of the search methods."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from godelta.search.weights import GeneratorWeights, MoveWeights
from godelta.settings import Settings

REFINEMENT = "refinement"  # the move that makes a step of a structure that is refined
REFERENCE_STEP = "reference step"  # one that makes a step of a relaxation in the reference


class RelaxSettings(Settings):
    """Relaxation of candidates in the potential."""

    steps: int = Field(100, ge=0, description="most steps per structure")
    fmax: float = Field(0.05, gt=0, description="convergence: largest force on a moving atom, eV/Å")
    max_step: float = Field(0.3, gt=0, description="longest displacement of an atom per step, Å")


class RefineSettings(Settings):
    """Relaxation of the lowest structures at the reference level, when the search has ended."""

    best: int = Field(0, ge=0, le=100, description="how many of the lowest structures; 0: none")
    fmax: float = Field(
        0.05, gt=0, description="a minimum: no reference force on a moving atom is larger, eV/Å"
    )
    evaluations: int = Field(
        30, ge=1, le=1000, description="most evaluations for each of them, beyond `budget.evaluations`"
    )
    steps: int = Field(
        100, ge=1, description="most steps on the model between two evaluations of a structure"
    )


class SelectionSettings(Settings):
    """Which candidates of a round are evaluated at the reference level."""

    choose: Literal["acquisition", "random", "walkers", "expected_improvement"] = Field(
        "acquisition",
        description="lowest E - kappa sigma first; at random; `walkers`: the same, structures that walkers"
        " stand on before others; or largest expected improvement on the best evaluation first",
    )
    kappa: float = Field(2.0, ge=0, description="weight of the uncertainty in E - kappa sigma")
    evaluations_per_round: int = Field(5, ge=1, le=1000)
    diverse: bool = Field(
        False,
        description="count each candidate that is taken as observed, before the next one is chosen: a round"
        " does not ask the same thing twice",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a newer key where it says what was so before: older campaigns keep their identity."""
        values: dict[str, Any] = write(self)
        if not self.diverse:
            values.pop("diverse", None)
        return values


class _Generates(Settings):
    """What methods that begin from made-up structures share."""

    generators: GeneratorWeights | None = Field(
        None, description="weights of the kinds of structures to begin from; none: random ones only"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not given of newer keys: older campaigns keep their identity."""
        values: dict[str, Any] = write(self)
        return _without_newer(values)


def _without_newer(values: dict[str, Any]) -> dict[str, Any]:
    for key in ("generators", "moves"):
        if values.get(key, values) is None:
            del values[key]
    if "moves" in values:
        values.pop("permutations", None)
    return values


# As the papers do on a surrogate: a model of few evaluations would lead astray.
RSS_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "structures_per_round": 1,
        "batch": 1,
        "relax_from": 5,
        "relax": {"steps": 100, "fmax": 0.05},
        "selection": {"evaluations_per_round": 1},
    },
}


_RELAX_IN = (
    "`reference`: plain search without a Δ-model; each step of a relaxation is an evaluation, each round one"
    " step of all structures,"
)


def _every_walker(data: Any, key: str, default: int) -> Any:
    """Where structures are relaxed in the reference, a round evaluates one step of each."""
    if not isinstance(data, Mapping) or data.get("relax_in") != "reference":
        return data
    selection = data.get("selection", {})
    if not isinstance(selection, Mapping):
        return data
    return {**data, "selection": {"evaluations_per_round": data.get(key, default), **selection}}


def _refuse_idle(relax_in: str, walkers: int, key: str, selection: SelectionSettings) -> None:
    if relax_in == "reference" and selection.evaluations_per_round != walkers:
        raise ValueError(
            f"with `relax_in: reference` a round evaluates one step of each structure:"
            f" selection.evaluations_per_round has to be {walkers}, as `{key}` is"
        )


class RSSSettings(_Generates):
    """Random structure search on the model.

    `preset: paper` evaluates every structure, those of the first four iterations as they are made.
    """

    method: Literal["rss"] = "rss"
    preset: Literal["default", "paper"] = "default"
    structures_per_round: int = Field(20, ge=1, description="random structures relaxed in one round")
    batch: int = Field(
        10, ge=1, description="structures relaxed together; the state is saved after each batch"
    )
    relax_from: int = Field(
        1, ge=1, description="iteration (batch) of a chain from which on structures are relaxed"
    )
    relax_in: Literal["model", "reference"] = Field("model", description=_RELAX_IN + " `batch` at a time")
    relax: RelaxSettings = RelaxSettings()
    selection: SelectionSettings = SelectionSettings()

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        return _every_walker(_with_preset(data, RSS_PRESETS), "batch", 10)

    @model_validator(mode="after")
    def _every_walker_is_evaluated(self) -> Self:
        _refuse_idle(self.relax_in, self.batch, "batch", self.selection)
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys where they say what was so before: older campaigns keep their identity."""
        values = _without_newer(write(self))
        if self.preset == "default":
            values.pop("preset", None)
            if self.relax_from == 1:
                values.pop("relax_from", None)
        if self.relax_in == "model":
            values.pop("relax_in", None)
        return values


REX_PRESETS: dict[str, dict[str, Any]] = {
    "default": {"relax": {"fmax": 0.025}},
    "paper": {
        "walkers": 10,
        "iterations_per_round": 100,
        "swap_every": 10,
        "kT_min": 0.02,
        "kT_max": 2.0,
        "amplitude_min": 0.1,
        "amplitude_max": 5.0,
        "adaptive": True,
        "permutations": 0.0,
        "relax": {"steps": 100, "fmax": 0.025},
        "selection": {"choose": "random", "evaluations_per_round": 5},
    },
}


# The paper's moves, for keys of a mapping `moves` that are not given.
_PAPER_MOVES = {"rattle": 1.0, "permutation": 0.0}


def _filled(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and the defaults of all other keys, level by level."""
    values = {**defaults, **given}
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(values[key], Mapping):
            values[key] = _filled(values[key], default)
    return values


def _with_preset(data: Any, presets: Mapping[str, Mapping[str, Any]]) -> Any:
    """What was given, and the preset's values of all other keys."""
    if not isinstance(data, Mapping):
        return data
    preset = data.get("preset", "default")
    known = isinstance(preset, str) and preset in presets
    return _filled(data, presets[preset]) if known else data


class REXSettings(_Generates):
    """Replica exchange; kT in eV, amplitudes in Å.

    `preset: paper` sets what arXiv 2507.18485 used, where a key is not given.
    """

    method: Literal["rex"] = "rex"
    preset: Literal["default", "paper"] = "default"
    walkers: int = Field(10, ge=2, le=200)
    iterations_per_round: int = Field(10, ge=1)
    swap_every: int = Field(10, ge=1, description="iterations between sweeps of swaps")
    kT_min: float = Field(0.02, gt=0)
    kT_max: float = Field(2.0, gt=0)
    amplitude_min: float = Field(0.1, gt=0, description="rattle amplitude of the lowest rung at the start")
    amplitude_max: float = Field(5.0, gt=0, description="rattle amplitude of the highest rung at the start")
    permutations: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of moves that exchange two unlike atoms instead of rattling; not beside `moves`",
    )
    moves: MoveWeights | None = Field(
        None, description="weights of the kinds of moves; none: as `permutations` says"
    )
    adaptive: bool = Field(True, description="adapt each rung's amplitude to an acceptance of one half")
    relax: RelaxSettings = RelaxSettings(fmax=0.025)
    selection: SelectionSettings = SelectionSettings()

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        preset = data.get("preset", "default")
        if data.get("moves") is not None and "permutations" in data:
            raise ValueError("give either `moves` or `permutations`, which is `moves.permutation` now")
        if preset == "paper" and isinstance(data.get("moves"), Mapping):
            data = {**data, "moves": {**_PAPER_MOVES, **data["moves"]}}
        return _filled(data, REX_PRESETS[preset]) if preset in REX_PRESETS else data

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.kT_min >= self.kT_max:
            raise ValueError(f"kT_min ({self.kT_min:g} eV) must be below kT_max ({self.kT_max:g} eV)")
        if self.amplitude_min > self.amplitude_max:
            raise ValueError("amplitude_min must not be above amplitude_max")
        return self

    def move_weights(self) -> MoveWeights:
        """Weights of all moves."""
        p = self.permutations
        return self.moves or MoveWeights(rattle=1.0 - p, permutation=p)


BH_PRESETS: dict[str, dict[str, Any]] = {
    "default": {"selection": {"choose": "walkers"}},
    "paper": {
        "walkers": 1,
        "iterations_per_round": 1,
        "kT": 0.25,
        "rattled": 0.25,
        "amplitude": 3.0,
        "moves": _PAPER_MOVES,
        "relax": {"steps": 100, "fmax": 0.05},
        "selection": {"choose": "walkers", "evaluations_per_round": 1},
    },
}


class BHSettings(_Generates):
    """Basin hopping on the model, Metropolis on reference energies; kT in eV, lengths in Å.

    `preset: paper` is one walker and one evaluation for each hop, as in arXiv 2507.18485.
    """

    method: Literal["bh"] = "bh"
    preset: Literal["default", "paper"] = "default"
    walkers: int = Field(5, ge=1, le=200, description="walkers; all of them relax in one batch")
    iterations_per_round: int = Field(
        4, ge=1, description="hops in one round; more than one are judged by model energies"
    )
    kT: float = Field(0.25, gt=0)
    rattled: float = Field(0.25, gt=0, le=1, description="share of the placed atoms that a move rattles")
    amplitude: float = Field(3.0, gt=0, description="radius of the ball that an atom is rattled within")
    moves: MoveWeights = MoveWeights()
    relax_in: Literal["model", "reference"] = Field("model", description=_RELAX_IN + " one for each walker")
    relax: RelaxSettings = RelaxSettings()
    selection: SelectionSettings = SelectionSettings(choose="walkers")

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        return _every_walker(_with_preset(data, BH_PRESETS), "walkers", 5)

    @model_validator(mode="after")
    def _every_walker_is_evaluated(self) -> Self:
        _refuse_idle(self.relax_in, self.walkers, "walkers", self.selection)
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys where they say what was so before: older campaigns keep their identity."""
        values = _without_newer(write(self))
        if self.relax_in == "model":
            values.pop("relax_in", None)
        return values


GOFEE_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "iterations_per_round": 1,
        "candidates": 10,
        "random_until": 4,
        "random_share": 0.2,
        "rattled": 3.0,
        "amplitude": 3.0,
        "moves": _PAPER_MOVES,
        "kappa": 2.0,
        "follow_up": True,
        "relax": {"steps": 100, "fmax": 0.05},
        "selection": {"choose": "acquisition", "kappa": 2.0, "evaluations_per_round": 2},
    },
}


class GOFEESettings(_Generates):
    """GOFEE on the Δ-model: relaxations of E - kappa sigma; lengths in Å.

    `preset: paper` evaluates, per iteration, the lowest E - kappa sigma of 10 candidates and one step down
    from the one before, as arXiv 2507.18485 does.
    """

    method: Literal["gofee"] = "gofee"
    preset: Literal["default", "paper"] = "default"
    iterations_per_round: int = Field(4, ge=1)
    candidates: int = Field(10, ge=1, le=1000, description="of an iteration; all of them relax in one batch")
    random_until: int = Field(4, ge=0, description="iterations of a chain in which all candidates are new")
    random_share: float = Field(
        0.2, ge=0, le=1, description="share of new ones later; the others are moved parents"
    )
    rattled: float = Field(3.0, gt=0, description="atoms that a move rattles, on average")
    amplitude: float = Field(3.0, gt=0, description="radius of the ball that an atom is rattled within")
    moves: MoveWeights = MoveWeights()
    kappa: float = Field(2.0, ge=0, description="weight of the uncertainty in relaxations")
    follow_up: bool = Field(
        False,
        description="evaluate one step along the reference forces of each evaluated structure too; half of"
        " `evaluations_per_round` is for steps",
    )
    relax: RelaxSettings = RelaxSettings()
    selection: SelectionSettings = SelectionSettings()

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, data: Any) -> Any:
        return _with_preset(data, GOFEE_PRESETS)

    @model_validator(mode="after")
    def _room_for_steps(self) -> Self:
        if self.follow_up and self.selection.evaluations_per_round < 2:
            raise ValueError("`follow_up` needs selection.evaluations_per_round of 2 or more")
        return self


class OwnSearchSettings(Settings):
    """A search method of one's own, by import path; called as Class(settings, problem, **arguments)."""

    method: Literal["own"] = "own"
    program: str = Field(description="import path, e.g. godelta.examples.monotonic_hopping.MonotonicHopping")
    arguments: dict[str, Any] = Field(default_factory=dict)
    relax: RelaxSettings = RelaxSettings()
    selection: SelectionSettings = SelectionSettings()


SearchSettings = Annotated[
    RSSSettings | REXSettings | BHSettings | GOFEESettings | OwnSearchSettings,
    Field(discriminator="method"),
]


def is_plain(settings: SearchSettings) -> TypeGuard[RSSSettings | BHSettings]:
    """Whether structures are relaxed in the reference itself, and no model is learnt."""
    return isinstance(settings, RSSSettings | BHSettings) and settings.relax_in == "reference"
