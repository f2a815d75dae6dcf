"""`godelta models`: the Δ-models of a campaign, their errors over rounds, and whether they know them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from godelta.cli.console import console, print_json, table
from godelta.cli.drawing import save_figure
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns, models, rounds
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, chain_number

if TYPE_CHECKING:
    from godelta.analysis.calibration import Calibration
    from godelta.arrays import FloatArray


@dataclass(frozen=True)
class ModelsOptions:
    """What the command line said.

    Parameters
    ----------
    plot
        Picture to write.
    export
        Folder to make of a model.
    model
        Beginning of that model's id; none: the latest one of the first chain.
    output
        table or json.
    """

    plot: Path | None = None
    export: Path | None = None
    model: str | None = None
    output: str = "table"


def show_models(name: str, folder: Path | None, options: ModelsOptions) -> None:
    """Print a campaign's models; draw their calibration and export one where asked to.

    Raises
    ------
    InputError
        There is no such campaign or model, or a file cannot be written.
    """
    from godelta.analysis.calibration import calibration
    from godelta.workflows.model_records import held_out, model_record, proposals_of

    plot, output = options.plot, options.output
    store = open_existing(folder).connect(start=True)
    campaign = campaigns.get_campaign(store, name)
    if options.model is not None and options.export is None:
        raise InputError("--model chooses what to export", mend="give --export FOLDER, or leave --model out")
    proposals = proposals_of(store, campaign)
    closed = [one for one in rounds.rounds_of(store, campaign.campaign_id) if one.next_model_id is not None]
    rows = [model_record(store, round_, proposals) for round_ in closed]
    share = bool(campaign.config.get("share", True))
    sets = {"proposed by searches": (proposals.errors, proposals.deviations)}
    sets |= {"held out": held} if (held := held_out(store, closed, share=share)) is not None else {}
    summary = {label: calibration(*pair) for label, pair in sets.items()}
    if output == "json":
        known = {label: None if one is None else asdict(one) for label, one in summary.items()}
        print_json({"models": rows, "calibration": known})
    elif not rows:
        console.print(f"{name} has no model yet: the first one is trained at the end of the first round.")
    else:
        _print(rows, summary)
    if plot is not None:
        _plot(sets, plot, campaign.name)
        if output == "table":
            console.print(f"plot: {plot}")
    if options.export is not None:
        _export(store, campaign, rows, options)


def _export(
    store: Store, campaign: CampaignDocument, rows: list[dict[str, Any]], options: ModelsOptions
) -> None:
    from godelta.campaign import CampaignConfig
    from godelta.delta.export import export_model
    from godelta.delta.model import Learnt

    assert options.export is not None
    chosen = _chosen(rows, options.model)
    learnt = Learnt.from_bytes(models.load_model(store, chosen))
    config = CampaignConfig.model_validate(campaign.config)
    export_model(options.export, learnt, config.foundation, campaign=campaign.name)
    if options.output == "table":
        console.print(f"model {chosen[:8]} exported to {options.export}")


def _chosen(rows: list[dict[str, Any]], start: str | None) -> str:
    """The id of the model that begins so; by default the latest one of the first chain.

    Raises
    ------
    InputError
        There is none, or more than one.
    """
    if not rows:
        raise InputError("there is no model yet", mend="wait for the first round's end: `godelta status`")
    if start is None:
        return str([row for row in rows if row["chain"] == rows[0]["chain"]][-1]["model_id"])
    found = {str(row["model_id"]) for row in rows if row["model_id"].startswith(start)}
    if len(found) != 1:
        what = "several models' ids begin so" if found else "no such model"
        raise InputError(what, where=start, mend="`godelta models CAMPAIGN` lists them")
    return found.pop()


def _print(rows: list[dict[str, Any]], summary: "dict[str, Calibration | None]") -> None:
    shown = table(
        "chain", "after round", "model", "evaluations", "failed", "LOO error", "LOO z",
        "next round: n", "MAE", "z",
    )  # fmt: skip
    for row in rows:
        met = row["next_round"]
        shown.add_row(
            chain_number(row["chain"]),
            str(row["after_round"]),
            row["model_id"][:8],
            str(row["evaluations"]),
            str(row["failed"]),
            _number(row["metrics"].get("loo_rmse_ev")),
            _number(row["metrics"].get("loo_z_rms"), 2),
            "-" if met is None else str(met["n"]),
            _number(None if met is None else met["mae"]),
            _number(None if met is None else met["z_rms"], 2),
        )
    console.print(shown)
    console.print(
        "[dim]errors in eV: leave-one-out root mean square, and mean absolute of the next round's proposals;"
        " z: error over predicted deviation, 1 where uncertainties are right[/]\n"
    )
    _print_calibration(summary)


def _print_calibration(summary: "dict[str, Calibration | None]") -> None:
    from godelta.analysis.calibration import LEVELS

    shown = table("state", "n", "MAE", "RMSE", "z", *(f"in {level:.0%}" for level in LEVELS), "rank")
    shown.columns[0].header = "uncertainties"
    for label, one in summary.items():
        if one is None:
            continue
        shares = [f"{share:.0%}" for share in one.coverage]
        shown.add_row(
            label, str(one.n), _number(one.mae), _number(one.rmse), _number(one.z_rms, 2), *shares,
            _number(one.spearman, 2),
        )  # fmt: skip
    if shown.row_count:
        console.print(shown)
        console.print(
            "[dim]in 68%: share of the errors within the interval that should hold 68 %;"
            " rank: Spearman's correlation of error and deviation[/]"
        )


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _plot(sets: "dict[str, tuple[FloatArray, FloatArray]]", path: Path, title: str) -> None:
    from godelta.analysis.plots import observed_against_expected_coverage

    if not any(len(errors) for errors, _ in sets.values()):
        raise InputError(
            "there is nothing to plot: no prediction has been evaluated yet",
            where=str(path),
            mend="wait for the second round: `godelta status` tells how far the campaign is",
        )
    figure = observed_against_expected_coverage(sets, title=title)
    save_figure(figure, path)
