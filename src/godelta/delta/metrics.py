"""What is told of a fit."""

from godelta.delta.left_out import Diagnostics
from godelta.delta.local_kernel import LocalKernel
from godelta.delta.sparse_gp import Posterior


def fit_hyperparameters(kernel: LocalKernel, posterior: Posterior) -> dict[str, float | int]:
    """What a fit chose: plain numbers; amplitude in eV per atom, noise relative to its square.

    discrepancy: deviation, eV per root of the number of atoms, that every prediction has.
    """
    return {
        "inducing_points": kernel.size,
        "length_scale": kernel.length_scale,
        "amplitude": posterior.amplitude / posterior.scale,
        "uncertainty_scale": posterior.scale,
        "noise": posterior.noise,
        "discrepancy": posterior.amplitude * posterior.discrepancy**0.5,
        "mean_scale": posterior.mean_scale,
    }


def fit_metrics(diagnostics: Diagnostics) -> dict[str, float | int | None]:
    """Errors of a fit as a campaign's documents have them."""
    return {
        "n_structures": diagnostics.n_structures,
        "n_inside_window": diagnostics.n_inside,
        "log_evidence": diagnostics.log_evidence,
        "loo_rmse_ev": diagnostics.loo_rmse,
        "loo_rmse_ev_per_atom": diagnostics.loo_rmse_per_atom,
        "loo_z_rms": diagnostics.loo_z,
    }
