"""The section about a campaign's Δ-models."""

from collections import defaultdict

from godelta.analysis.calibration import LEVELS, calibration
from godelta.analysis.plots import observed_against_expected_coverage, predicted_against_reference
from godelta.analysis.report.data import CampaignData
from godelta.analysis.report.figures import error_over_rounds
from godelta.analysis.report.parts import Part, Plot, Prose, Section, Table
from godelta.analysis.report.words import MOST_ROWS, folded, number


def model_section(data: CampaignData) -> Section | None:
    """The Δ-model: parity, calibration, errors over rounds."""
    if not data.has_delta:
        text = "This campaign has no Δ-model: the search went by the bare foundation."
        return Section("model", "Δ-model", [Prose(text), *_parity(data)])
    if not data.models:
        text = "The first model is trained at the end of the first round."
        return Section("model", "Δ-model", [Prose(text)])
    parts = _parity(data)
    history = data.history
    known = history.ok
    errors = history.energies[known] - history.predicted[known]
    sets = {"proposed by searches": (errors, history.deviations[known])}
    sets |= {"held out": data.held_out} if data.held_out is not None else {}
    summary = {label: calibration(*pair) for label, pair in sets.items()}
    if any(one is not None for one in summary.values()):
        parts.append(
            Plot(
                observed_against_expected_coverage(sets),
                "Observed share of errors within each central interval against the expected one",
                "On the diagonal, uncertainties are right.",
            )
        )
    by_chain: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in data.models:
        if row.next_mae is not None:
            by_chain[row.chain].append((row.after_round + 1, row.next_mae))
    if any(len(points) > 1 for points in by_chain.values()):
        parts.append(
            Plot(
                error_over_rounds(by_chain),
                "Mean absolute error of the predictions of each round's selected structures",
                "Error of each round's selected structures, predicted before their evaluation.",
            )
        )
    columns = ["uncertainties", "n", "MAE", "RMSE", "z", *(f"in {level:.0%}" for level in LEVELS), "rank"]
    rows = [
        [
            label, str(one.n), number(one.mae), number(one.rmse), number(one.z_rms, 2),
            *(f"{share:.0%}" for share in one.coverage), number(one.spearman, 2),
        ]
        for label, one in summary.items()
        if one is not None
    ]  # fmt: skip
    if rows:
        note = (
            "Errors in eV. z: root mean square of error over predicted deviation, 1 where uncertainties are"
            " right. In 68%: share of errors in the interval that should hold 68 %. Rank: Spearman's"
            " correlation of error and deviation."
        )
        parts.append(Table("calibration of uncertainties", columns, rows, frozenset({columns[0]}), note))
    parts.append(_models(data))
    return Section("model", "Δ-model: parity and calibration", parts)


def _parity(data: CampaignData) -> list[Part]:
    history = data.history
    ok = history.ok
    if not ok.any():
        return []
    figure = predicted_against_reference(
        history.energies[ok], history.foundation[ok], history.predicted[ok], history.deviations[ok]
    )
    alt = "Energies predicted before the evaluation against those of the reference"
    return [Plot(figure, alt, "Predicted when selected, against the reference. Bars: predicted deviations.")]


def _models(data: CampaignData) -> Table:
    columns = [
        "chain", "after round", "model", "evaluations", "LOO error", "LOO z", "next round: n", "MAE", "z",
    ]  # fmt: skip
    rows = [
        [
            row.chain, str(row.after_round), row.model_id[:8], str(row.evaluations), number(row.loo_rmse),
            number(row.loo_z, 2), str(row.next_n) if row.next_n else "-", number(row.next_mae),
            number(row.next_z, 2),
        ]
        for row in data.models[:MOST_ROWS]
    ]  # fmt: skip
    note = "LOO: root mean square of errors of evaluations left out one by one, eV."
    title = f"{len(rows)} of {len(data.models)} models"
    texts = frozenset({"chain", "model"})
    return Table("Δ-models", columns, rows, texts, note, folded=folded(rows, title))
