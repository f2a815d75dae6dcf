"""Settings of the foundation potential."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from godelta.settings import Settings

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "float64"]


class WeightSettings(Settings):
    """What all potentials share whose weights may come from a file."""

    weights: str | None = Field(
        None,
        min_length=1,
        description="file with the weights, absolute, from ~, or within the folder $GODELTA_WEIGHTS",
    )

    @model_serializer(mode="wrap")
    def _without_absent_weights(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `weights` where there are none: campaigns of before are hashed without it."""
        values: dict[str, Any] = serialise(self)
        if values.get("weights") is None:
            values.pop("weights", None)
        return values


class CHGNetSettings(WeightSettings):
    """CHGNet; its weights come with the package."""

    name: Literal["chgnet"] = "chgnet"
    model: Literal["0.3.0", "r2scan"] = "0.3.0"
    device: Device = "cpu"


class MACEMP0Settings(WeightSettings):
    """MACE-MP-0, trained on MPtrj."""

    name: Literal["mace-mp-0"] = "mace-mp-0"
    model: Literal["small", "medium", "large"] = "medium"
    device: Device = Field("auto", description="auto: a GPU where there is one")
    dtype: Precision = Field("float32", description="floating-point type of the evaluation")


class MACEMPA0Settings(WeightSettings):
    """MACE-MPA-0, trained on MPtrj and a part of Alexandria."""

    name: Literal["mace-mpa-0"] = "mace-mpa-0"
    device: Device = Field("auto", description="auto: a GPU where there is one")
    dtype: Precision = Field("float32", description="floating-point type of the evaluation")


class SevenNetSettings(WeightSettings):
    """SevenNet-0, trained on MPtrj; its weights come with the package."""

    name: Literal["sevennet-0"] = "sevennet-0"
    device: Device = "cpu"
    dtype: Precision = Field("float32", description="floating-point type of the evaluation")


class ORBSettings(WeightSettings):
    """ORB-v2 of MPtrj alone."""

    name: Literal["orb-v2-mptrj"] = "orb-v2-mptrj"
    device: Device = Field("auto", description="auto: a GPU where there is one")
    dtype: Precision = Field("float32", description="floating-point type of the evaluation")


class ASEFoundationSettings(Settings):
    """Any ASE calculator by import path; energies without a per-atom embedding."""

    name: Literal["ase"] = "ase"
    calculator: str = Field(description="import path, e.g. ase.calculators.emt.EMT")
    arguments: dict[str, Any] = Field(default_factory=dict)


FoundationSettings = Annotated[
    CHGNetSettings
    | MACEMP0Settings
    | MACEMPA0Settings
    | SevenNetSettings
    | ORBSettings
    | ASEFoundationSettings,
    Field(discriminator="name"),
]
