"""Settings of the foundation potential."""

from typing import Annotated, Any, Literal

from pydantic import Field

from godelta.settings import Settings


class CHGNetSettings(Settings):
    """CHGNet; its weights come with the package."""

    name: Literal["chgnet"] = "chgnet"
    model: Literal["0.3.0", "r2scan"] = "0.3.0"
    device: Literal["cpu", "cuda"] = "cpu"


class ASEFoundationSettings(Settings):
    """Any ASE calculator by import path; energies without a per-atom embedding."""

    name: Literal["ase"] = "ase"
    calculator: str = Field(description="import path, e.g. ase.calculators.emt.EMT")
    arguments: dict[str, Any] = Field(default_factory=dict)


FoundationSettings = Annotated[CHGNetSettings | ASEFoundationSettings, Field(discriminator="name")]
