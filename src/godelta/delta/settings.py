"""Settings of the Δ-model."""

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from godelta.delta.pretrain import PretrainSettings
from godelta.settings import Settings

# `paper` is the descriptor of arXiv 2507.18485, AGOX's default weighting (m = 2) included. `balanced`
# is the default: at about `paper`'s cost, a third of its errors on clusters of metals, and better forces on
# Ag4S2. `compact` is better still on metals, and too short-sighted for Ag4S2.
SOAP_PRESETS: dict[str, dict[str, float | int]] = {
    "paper": {"r_cut": 7.0, "n_max": 3, "l_max": 2, "sigma": 1.0, "weighting_power": 2.0},
    "balanced": {"r_cut": 6.0, "n_max": 4, "l_max": 3, "sigma": 0.5, "weighting_power": 2.0},
    "compact": {"r_cut": 5.0, "n_max": 4, "l_max": 3, "sigma": 0.5, "weighting_power": 2.0},
    "accurate": {"r_cut": 6.0, "n_max": 6, "l_max": 4, "sigma": 0.5, "weighting_power": 2.0},
}

# `none`: no Δ-model; the search goes by the bare foundation. `accurate`: the large descriptor.
# `paper`: one kernel, amplitude 1 eV, length scale 40 and noise 0.01 sqrt(n_atoms) eV.
DELTA_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "none": {},
    "accurate": {"soap": "accurate"},
    "paper": {
        "soap": "paper",
        "inducing_points": 1000,
        "inducing_selection": "cur",
        "hyperparameters": "fixed",
        "length_scale": 40.0,
        "noise": 1e-4,
        "amplitude": 1.0,
        "species_kernels": False,
        "species_mean": False,
        "forces_as": "copies",
        "force_directions": 0,
    },
}

# Stored settings name every key but these, for the sake of the digests of older campaigns. What they leave
# out is not the default of today: forces were learned as copies.
_NOT_ALWAYS_STORED = {"pretrain_from", "forces_as", "aggregation", "pooling"}
_CHANGED_DEFAULTS = ("forces_as", "force_directions")  # which campaigns of before keep
_EMBEDDING_KEYS = ("aggregation", "pooling")
# Forces make one vector per structure better on clusters of metals, worse on Ag4S2 (docs/design.md).
_VECTOR_DEFAULTS: dict[str, Any] = {"forces_as": "copies", "force_directions": 0}


class SOAPSettings(Settings):
    """Parameters of the local SOAP descriptor (dscribe's GTO convention)."""

    r_cut: float = Field(6.0, gt=1.0, le=20.0, description="cutoff radius, Å")
    n_max: int = Field(4, ge=1, le=12, description="radial basis functions")
    l_max: int = Field(3, ge=0, le=9, description="highest angular momentum")
    sigma: float = Field(0.5, gt=0.05, description="width of the atomic Gaussians, Å")
    weighting_power: float = Field(2.0, ge=1.0, description="m of w(r) = [1 + 2u³ - 3u²]^m, u = r/r_cut")

    @classmethod
    def preset(cls, name: str) -> "SOAPSettings":
        """The named preset; raises ValueError for an unknown name."""
        if name not in SOAP_PRESETS:
            raise ValueError(f"unknown SOAP preset {name!r}; choose from {', '.join(SOAP_PRESETS)}")
        return cls.model_validate(SOAP_PRESETS[name])


class DeltaSettings(Settings):
    """Settings of the Δ-model: a sparse GP on local SOAP, or a GP on the foundation's own features.

    `descriptor: embedding` is the Δ-model of arXiv 2502.21179; it needs a foundation that has features.
    `preset: paper` keeps the choices of arXiv 2507.18485: one kernel for all species, CUR inducing
    points, one constant mean, amplitude 1 eV, length scale 40, noise 0.01 sqrt(n_atoms) eV. A preset
    changes the defaults only: keys that are given keep their values. `preset: none` is no Δ-model at all:
    the search goes by the bare foundation, and evaluations only tell what that is worth.
    """

    preset: Literal["default", "accurate", "paper", "none"] = "default"
    descriptor: Literal["soap", "embedding"] = Field(
        "soap", description="what structures are compared by: local SOAP, or the foundation's features"
    )
    aggregation: Literal["atomic", "species", "global"] = Field(
        "atomic",
        description="of an embedding: atom by atom, or one vector for each species, or one for the structure",
    )
    pooling: Literal["mean", "sum"] = Field(
        "mean", description="how atoms are put together in the aggregations `global` and `species`"
    )
    soap: SOAPSettings = Field(
        SOAPSettings(), description="preset `balanced`, `compact`, `accurate` or `paper`, or a mapping"
    )
    inducing_points: int = Field(1000, ge=1, le=20000)
    inducing_selection: Literal["fps", "cur"] = "fps"
    hyperparameters: Literal["marginal_likelihood", "leave_one_out", "fixed"] = "marginal_likelihood"
    length_scale: float | None = Field(
        None, gt=0, description="used when fixed, feature units; none: twice the median feature distance"
    )
    noise: float = Field(
        1e-4,
        gt=0,
        description="relative noise variance lambda when fixed: variance of structure A is s² lambda n_A",
    )
    amplitude: float | None = Field(
        None, gt=0, description="prior standard deviation s when fixed, eV per atom; none: from the data"
    )
    species_kernels: bool = Field(True, description="atoms of different species do not correlate")
    species_mean: bool = Field(True, description="one prior mean per species, else one constant per atom")
    force_directions: int = Field(
        100,
        ge=0,
        le=1000,
        description="directions along which each evaluation's forces are learned too, at most; 0: energies"
        " only, the default of the aggregations `species` and `global`; of others, all of up to 33 moving"
        " atoms",
    )
    forces_as: Literal["gradients", "copies"] = Field(
        "gradients",
        description="how forces are learned: as derivatives of the kernel, or as energies of displaced"
        " copies, which say less and are all that the aggregations `species` and `global` know",
    )
    energy_window: float = Field(5.0, gt=0, description="eV above the best; residuals beyond it count softly")
    seed: int = Field(0, ge=0, description="seed of sub-sampling in the choice of inducing points")
    pretrain_from: PretrainSettings | None = Field(
        None, description="campaigns to learn from before the first round: names, or a mapping"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "default")
        defaults = DELTA_PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        if values.get("aggregation") in ("global", "species"):
            defaults = {**_VECTOR_DEFAULTS, **defaults}
        if set(cls.model_fields) - values.keys() <= _NOT_ALWAYS_STORED:
            defaults = {**defaults, "forces_as": "copies"}
        return {**defaults, **values}

    def with_defaults_of(self, older: Self) -> Self:
        """These settings, and defaults as they were for `older` where these say nothing themselves."""
        if (self.descriptor, self.aggregation) != (older.descriptor, older.aggregation):
            return self
        unsaid = set(_CHANGED_DEFAULTS) - self.model_fields_set
        return self.model_copy(update={key: getattr(older, key) for key in unsaid})

    @model_validator(mode="after")
    def _keys_belong_to_the_descriptor(self) -> Self:
        if self.descriptor == "soap" and (self.aggregation, self.pooling) != ("atomic", "mean"):
            raise ValueError("aggregation and pooling belong to `descriptor: embedding`")
        if self.aggregation != "atomic" and self.forces_as != "copies":
            raise ValueError("`forces_as: gradients` compares atoms: with `aggregation: atomic`, or SOAP")
        if self.descriptor == "embedding" and self.preset != "default":
            raise ValueError(
                f"preset `{self.preset}` is one of SOAP; leave it out with `descriptor: embedding`"
            )
        return self

    @model_validator(mode="after")
    def _none_learns_nothing(self) -> Self:
        if self.preset == "none" and self.pretrain_from is not None:
            raise ValueError("`preset: none` learns nothing: leave out `pretrain_from`, or the preset")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what SOAP has no use for, and newer keys: older campaigns keep their identity."""
        values: dict[str, Any] = write(self)
        if values["pretrain_from"] is None:
            del values["pretrain_from"]
        if self.forces_as == "copies":
            values.pop("forces_as", None)
        if self.descriptor == "soap":
            for key in _EMBEDDING_KEYS:
                values.pop(key, None)
        return values

    @field_validator("soap", mode="before")
    @classmethod
    def _soap_by_name(cls, value: Any) -> Any:
        return SOAPSettings.preset(value) if isinstance(value, str) else value
