"""Draw the README's picture from a finished run of the example.

Usage: make run && python benchmarks/example_picture.py demo docs/images/ag4s2.png
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase.visualize.plot import plot_atoms

from godelta.store import campaigns, evaluations, structures
from godelta.store.workspace import Workspace

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8F98"


def main(folder: Path, target: Path) -> None:
    store = Workspace(folder).connect(start=True)
    campaign = campaigns.get_campaign(store, "ag4s2")
    place = (store, campaign.campaign_id, campaign.reference_hash)
    history = [row for row in evaluations.history(*place) if row["status"] == "ok"]
    best = structures.get_structure(store, structures.best(*place, 1)[0]["structure_id"]).atoms()
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), width_ratios=[1.25, 1.1, 0.8])
    draw_energies(left, history)
    draw_parity(middle, history)
    draw_structure(right, best)
    figure.tight_layout(w_pad=2.0)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=160)


def draw_energies(axes, history):
    energies = np.array([row["energy"] for row in history])
    relative = energies - energies.min()
    count = np.arange(1, len(energies) + 1)
    axes.scatter(count, relative, s=14, color=GREY, alpha=0.7, linewidths=0, label="evaluation")
    axes.step(count, np.minimum.accumulate(relative), where="post", color=BLUE, label="lowest so far")
    axes.set(xlabel="GFN1-xTB evaluations", ylabel="energy above the lowest (eV)", ylim=(-0.05, 2.0))
    axes.legend(frameon=False, loc="upper right")


def draw_parity(axes, history):
    known = [row for row in history if row["uncertainty"] is not None]
    reference = np.array([row["energy"] for row in known])
    foundation = np.array([row["foundation_energy"] for row in known])
    shifted = foundation + np.median(reference - foundation)
    model = np.array([row["model_energy"] for row in known])
    zero, sigma = reference.min(), np.array([row["uncertainty"] for row in known])
    span = (-0.6, 1.7)
    axes.plot(span, span, color=GREY, linewidth=0.8)
    axes.plot(reference - zero, shifted - zero, "o", ms=4, mfc="none", mec=GREY, label="CHGNet, shifted")
    axes.errorbar(
        reference - zero, model - zero, yerr=sigma, fmt="o", ms=4, color=ORANGE, elinewidth=0.8,
        label="CHGNet + Δ, when selected",
    )  # fmt: skip
    axes.set(xlabel="GFN1-xTB (eV)", ylabel="predicted (eV)", xlim=span, ylim=span)
    axes.legend(frameon=False, loc="upper left", fontsize=8)


def draw_structure(axes, atoms):
    atoms.positions -= atoms.get_center_of_mass()
    _, vectors = np.linalg.eigh(atoms.positions.T @ atoms.positions)
    atoms.positions = atoms.positions @ vectors[:, ::-1]  # the longest axis across, the shortest towards us
    atoms.cell = None
    plot_atoms(atoms, axes, radii=0.6, rotation="15x,20y,0z")
    axes.set_axis_off()
    axes.set_title(f"{atoms.get_chemical_formula('metal')}, the lowest found", fontsize=10)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
