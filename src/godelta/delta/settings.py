"""Settings of the Δ-model."""

from typing import Literal

from pydantic import Field

from godelta.settings import Settings

SOAP_PRESETS: dict[str, dict[str, float | int]] = {
    "paper": {"r_cut": 7.0, "n_max": 3, "l_max": 2, "sigma": 1.0},
    "accurate": {"r_cut": 6.0, "n_max": 6, "l_max": 4, "sigma": 0.5},
}


class SOAPSettings(Settings):
    """Parameters of the local SOAP descriptor (dscribe's GTO convention)."""

    r_cut: float = Field(7.0, gt=1.0, le=20.0, description="cutoff radius, Å")
    n_max: int = Field(3, ge=1, le=12, description="radial basis functions")
    l_max: int = Field(2, ge=0, le=9, description="highest angular momentum")
    sigma: float = Field(1.0, gt=0.05, description="width of the atomic Gaussians, Å")
    weighting_power: float = Field(2.0, ge=1.0, description="m of w(r) = [1 + 2u³ - 3u²]^m, u = r/r_cut")


class DeltaSettings(Settings):
    """Settings of the Δ-model: a sparse GP on local SOAP.

    `preset: paper` keeps the choices of arXiv 2507.18485: one kernel for all species, CUR inducing
    points, one constant mean, length scale 40, noise 0.01 sqrt(n_atoms) eV.
    """

    preset: Literal["default", "paper"] = "default"
    descriptor: Literal["soap"] = "soap"
    soap: SOAPSettings = SOAPSettings()
    inducing_points: int = Field(1000, ge=1, le=20000)
    inducing_selection: Literal["fps", "cur"] = "fps"
    hyperparameters: Literal["marginal_likelihood", "fixed"] = "marginal_likelihood"
    length_scale: float | None = Field(None, gt=0, description="used when fixed; feature units")
    noise: float = Field(
        1e-4,
        gt=0,
        description="relative noise variance lambda when fixed: variance of structure A is s² lambda n_A",
    )
    species_kernels: bool = Field(True, description="atoms of different species do not correlate")
    species_mean: bool = Field(True, description="one prior mean per species, else one constant per atom")
    energy_window: float = Field(5.0, gt=0, description="eV above the best; residuals beyond it count softly")
    seed: int = Field(0, ge=0, description="seed of sub-sampling in the choice of inducing points")
