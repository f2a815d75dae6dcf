"""What a run ends with: the best five, evaluations spent, two plots."""

import math
from pathlib import Path

from rich.markup import escape

from godelta.arrays import FloatArray
from godelta.cli.best import lowest, print_best
from godelta.cli.console import console, table
from godelta.store import campaigns, evaluations
from godelta.store.database import Raw, Store
from godelta.store.documents import REFINEMENT_CHAIN, chain_title
from godelta.store.progress import Progress, snapshot
from godelta.store.workspace import Workspace


def print_results(workspace: Workspace, store: Store, campaign_id: str) -> int:
    """Print and plot a campaign's results; the exit code."""
    progress = snapshot(store, campaign_id)
    campaign = campaigns.get_campaign(store, campaign_id)
    rows = lowest(store, campaign, 5)
    console.print()
    if rows:
        console.print(f"[bold]The lowest structures of {progress.name}[/]")
        print_best(rows)
    else:
        console.print(f"{progress.name} has no evaluated structure yet.")
    console.print(
        f"\n{progress.ok + progress.failed} of {progress.budget} evaluations spent"
        f" ({progress.failed} failed) in {progress.closed_rounds} rounds, {progress.elapsed_s:.0f} s."
    )
    if (refinement := progress.refinement) is not None:
        console.print(f"Refinement took {refinement.evaluations} of these: {refinement.told}.")
    _print_shares(progress)
    for path in _plot(workspace, store, campaign_id, campaign.reference_hash, progress.name):
        console.print(f"plot: {path}")
    if progress.state == "failed":
        console.print(f"[red]The campaign failed:[/] {escape(progress.reason or 'no reason is known')}")
        return 1
    if rows:
        console.print(f"\nMore: godelta best {progress.name} -n 10 --export best.extxyz; godelta status")
    return 0


def print_study(store: Store, names: list[str]) -> None:
    """Print the lowest structure of each campaign of a study."""
    shown = table("campaign", "lowest, eV", "eV per atom", "refined", "evaluations", "state")
    for name in names:
        campaign = campaigns.get_campaign(store, name)
        progress = snapshot(store, campaign.campaign_id)
        rows = lowest(store, campaign, 1)
        found = [f"{rows[0]['energy']:.4f}", f"{rows[0]['energy_per_atom']:.4f}"] if rows else ["-", "-"]
        refined = "yes" if rows and rows[0]["refined"] else "no"
        shown.add_row(name, *found, refined, str(progress.ok + progress.failed), progress.state)
    console.print()
    console.print(shown)


def _print_shares(progress: Progress) -> None:
    spent = progress.timings
    total = progress.worker_s
    if not total:
        return
    shares = {
        "potential": spent.get("loading_s", 0.0) + spent.get("potential_s", 0.0),
        "reference": spent.get("reference_s", 0.0),
        "training": spent.get("training_s", 0.0),
    }
    rest = 1.0 - sum(shares.values()) / total
    text = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares.items())
    console.print(f"Workers' time: {text}, engine {rest:.0%}.")


def _plot(workspace: Workspace, store: Store, campaign_id: str, reference: str, name: str) -> list[Path]:
    import numpy as np

    from godelta.analysis.plots import energy_against_evaluations, predicted_against_reference

    history = evaluations.history(store, campaign_id, reference)
    done = [row for row in history if row["status"] == "ok"]
    if not done:
        return []

    def column(rows: list[Raw], name: str) -> FloatArray:
        return np.array([math.nan if row[name] is None else row[name] for row in rows])

    # Before the first training the model's energy is the foundation's: no prediction of a Δ-model.
    predicted = np.where([row["uncertainty"] is None for row in done], math.nan, column(done, "model_energy"))
    figures = {
        "energy.png": energy_against_evaluations(
            column(history, "energy"),
            np.array([row["chain"] for row in history]),
            title=name,
            names={REFINEMENT_CHAIN: chain_title(REFINEMENT_CHAIN)},
        ),
        "parity.png": predicted_against_reference(
            column(done, "energy"),
            column(done, "foundation_energy"),
            predicted,
            column(done, "uncertainty"),
            title=name,
        ),
    }
    folder = workspace.folder / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, figure in figures.items():
        figure.savefig(folder / file, dpi=200)
    return [folder / file for file in figures]
