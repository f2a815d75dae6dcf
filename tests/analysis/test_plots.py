import io

import numpy as np
import pytest

from godelta.analysis.plots import energy_against_evaluations, predicted_against_reference

ENERGIES = np.array([-10.0, np.nan, -12.0, -11.0, -13.0, -9.0])
CHAINS = np.array([0, 0, 1, 0, 1, 0])


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _points(axes, marker):
    return sorted(
        (float(x), float(y))
        for line in axes.get_lines()
        if line.get_marker() == marker
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    )


def _labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_evaluation_is_drawn_above_the_lowest():
    axes = energy_against_evaluations(ENERGIES, CHAINS).axes[0]
    assert _points(axes, "o") == [(1, 3.0), (3, 1.0), (4, 2.0), (5, 0.0), (6, 4.0)]
    assert [x for x, _ in _points(axes, "x")] == [2.0]
    assert "(eV)" in axes.get_ylabel()
    assert {"chain 0", "chain 1", "failed (1)"} <= set(_labels(axes))


def test_running_best_falls_per_chain_and_reaches_the_end():
    axes = energy_against_evaluations(ENERGIES, CHAINS).axes[0]
    steps = [line for line in axes.get_lines() if line.get_drawstyle() == "steps-post"]
    assert [list(line.get_ydata()) for line in steps] == [[3.0, 2.0, 2.0, 2.0], [1.0, 0.0, 0.0]]
    assert all(line.get_xdata()[-1] == 6 for line in steps)
    assert steps[0].get_color() != steps[1].get_color()


def test_the_legend_calls_a_chain_what_it_is_told():
    labels = _labels(energy_against_evaluations(ENERGIES, CHAINS, names={1: "refinement"}).axes[0])
    assert {"chain 0", "refinement"} <= set(labels)
    assert "chain 1" not in labels


def test_far_energies_are_arrows_and_do_not_stretch_the_axis():
    energies = np.append(np.linspace(1.0, 0.0, 40), 500.0)
    axes = energy_against_evaluations(energies, np.zeros(41, dtype=int)).axes[0]
    assert axes.get_ylim()[1] < 1.5
    assert [x for x, _ in _points(axes, "^")] == [41.0]
    assert "beyond the axis" in _labels(axes)


@pytest.mark.parametrize("energies", [[], [np.nan], [np.nan, np.nan], [-3.0], [-3.0, -3.0]])
def test_few_or_failed_evaluations_are_drawn_too(energies):
    figure = energy_against_evaluations(np.array(energies), np.zeros(len(energies), dtype=int))
    assert _png(figure).startswith(b"\x89PNG")


def test_errors_in_the_legend_are_those_of_the_data():
    reference = np.array([0.0, 1.0, 2.0, 3.0])
    foundation = np.array([10.0, 11.0, 12.0, 17.0])  # the median shift leaves 0, 0, 0, 4
    predicted = np.array([np.nan, 1.5, 2.0, 3.0])
    figure = predicted_against_reference(reference, foundation, predicted, np.full(4, 0.1))
    first, second = _labels(figure.axes[0])
    assert "MAE 1.00 eV, RMSE 2.00 eV" in first
    assert "MAE 0.17 eV, RMSE 0.29 eV" in second


def test_uncertainties_are_bars():
    reference = np.array([-5.0, -4.0])
    sigma = np.array([0.25, np.nan])
    axes = predicted_against_reference(reference, reference, reference, sigma).axes[0]
    (bars,) = axes.collections
    heights = [float(np.ptp(segment[:, 1])) for segment in bars.get_segments()]
    assert heights == pytest.approx([0.5, 0.0])


def test_parity_has_equal_axes_relative_to_the_lowest_reference():
    reference = np.array([-105.0, -104.0, -103.0])
    axes = predicted_against_reference(reference, reference + 50, reference, np.zeros(3)).axes[0]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim()[0] == pytest.approx(-0.1)
    assert _points(axes, "o")[0] == pytest.approx((0.0, 0.0))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_parity_without_a_model_yet(count):
    values = np.arange(float(count))
    nothing = np.full(count, np.nan)
    figure = predicted_against_reference(values, values, nothing, nothing)
    assert _png(figure).startswith(b"\x89PNG")


def test_figures_are_made_at_200_dpi_without_pyplot():
    figure = energy_against_evaluations(ENERGIES, CHAINS, title="Cu13")
    assert figure.dpi == 200
    assert figure.axes[0].get_title(loc="left") == "Cu13"
    assert figure.canvas.manager is None
