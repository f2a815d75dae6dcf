"""Settings of the search methods."""

from typing import Annotated, Literal

from pydantic import Field

from godelta.settings import Settings


class RelaxSettings(Settings):
    """Relaxation of candidates in the potential."""

    steps: int = Field(100, ge=0, description="most steps per structure")
    fmax: float = Field(0.05, gt=0, description="convergence: largest force on a moving atom, eV/Å")
    max_step: float = Field(0.2, gt=0, description="longest displacement of an atom per step, Å")


class SelectionSettings(Settings):
    """Which candidates of a round are evaluated at the reference level."""

    choose: Literal["acquisition", "random"] = Field(
        "acquisition", description="lowest E - kappa sigma first, or at random"
    )
    kappa: float = Field(2.0, ge=0, description="weight of the uncertainty in E - kappa sigma")
    evaluations_per_round: int = Field(5, ge=1, le=1000)


class RSSSettings(Settings):
    """Random structure search on the model."""

    method: Literal["rss"] = "rss"
    structures_per_round: int = Field(20, ge=1, description="random structures relaxed in one round")
    batch: int = Field(
        10, ge=1, description="structures relaxed together; the state is saved after each batch"
    )
    relax: RelaxSettings = RelaxSettings()
    selection: SelectionSettings = SelectionSettings()


class REXSettings(Settings):
    """Replica exchange (arXiv 2507.18485); kT in eV, amplitudes in Å."""

    method: Literal["rex"] = "rex"
    preset: Literal["default", "paper"] = "default"
    walkers: int = Field(10, ge=2, le=200)
    iterations_per_round: int = Field(10, ge=1)
    swap_every: int = Field(10, ge=1, description="iterations between sweeps of swaps")
    kT_min: float = Field(0.02, gt=0)
    kT_max: float = Field(2.0, gt=0)
    amplitude_min: float = Field(0.1, gt=0, description="rattle amplitude of the lowest rung at the start")
    amplitude_max: float = Field(5.0, gt=0, description="rattle amplitude of the highest rung at the start")
    adaptive: bool = Field(True, description="adapt each rung's amplitude to an acceptance of one half")
    relax: RelaxSettings = RelaxSettings(fmax=0.025)
    selection: SelectionSettings = SelectionSettings()


SearchSettings = Annotated[RSSSettings | REXSettings, Field(discriminator="method")]
