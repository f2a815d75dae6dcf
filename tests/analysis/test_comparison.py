"""Methods side by side, on histories made by hand."""

import math

import matplotlib.image
import numpy as np
import pytest

from godelta.analysis.comparison import Trace, compare, runs_by_measure
from godelta.analysis.success import Runs, cost_to, interval_of_cost
from godelta.analysis.success_plot import success_curves


def trace(*energies, cpu=2.0, ended=False):
    times = cpu * np.arange(1, len(energies) + 1)
    return Trace(np.array(energies, dtype=float), times, cpu * (len(energies) + 1), ended=ended)


FAST = [trace(5, 0.01), trace(5, 4, 0.0), trace(math.nan, 0.02), trace(3, 2, 1)]
SLOW = [trace(5, 4, 3, 0.0), trace(5, 4, 3, 2, 1), trace(9, 8, 7, 6, 5), trace(1, 1, 1, 1, 0.04)]


def test_costs_are_those_of_the_first_success_or_of_the_end():
    runs = runs_by_measure(FAST, 0.0, within=0.05, price_s=10.0)
    assert runs["evaluations"].succeeded.tolist() == [True, True, True, False]
    assert runs["evaluations"].costs.tolist() == [2, 3, 2, 3]
    assert runs["cpu_s"].costs.tolist() == [
        4,
        6,
        4,
        8,
    ]  # the last one with what it spent after its evaluations
    assert runs["accounted_s"].costs.tolist() == [24, 36, 24, 38]


def test_the_best_cell_and_the_ratios_to_it():
    cells = {
        name: runs_by_measure(traces, 0.0, within=0.05, price_s=10.0)
        for name, traces in (("slow", SLOW), ("fast", FAST))
    }
    slow, fast = compare(cells)
    assert (slow.name, slow.runs, slow.successes) == ("slow", 4, 2)
    assert (fast.successes, fast.costs["evaluations"].to_half, slow.costs["evaluations"].to_half) == (3, 2, 5)
    assert fast.low == pytest.approx(0.3006, abs=1e-3)  # Wilson's, 3 of 4
    assert fast.costs["accounted_s"].best
    assert fast.costs["accounted_s"].ratio is None
    cost = slow.costs["evaluations"]
    assert cost.ratio.value == 2.5
    assert cost.ratio.low <= 2.5 <= cost.ratio.high
    assert 0 < cost.p < 0.2
    assert slow.spent == {"evaluations": 19, "cpu_s": 8 + 12 + 12 + 10, "accounted_s": 42 + 190}


def test_none_is_best_where_no_run_has_succeeded():
    cells = {name: runs_by_measure([trace(5, 4), trace(3)], 0.0, within=0.05, price_s=1.0) for name in "ab"}
    for cell in compare(cells):
        assert cell.successes == 0
        assert not any(cost.best for cost in cell.costs.values())
        assert all(math.isinf(cost.to_half) for cost in cell.costs.values())


def test_runs_that_gave_up_hold_the_curve_down_and_cost_what_they_cost():
    gave_up = [trace(*[5.0] * 20, ended=True) for _ in range(5)]
    found = [trace(*[5.0] * (n - 1), 0.0, ended=True) for n in (50, 60, 70, 80, 100)]
    runs = runs_by_measure([*gave_up, *found], 0.0, within=0.05, price_s=10.0)
    (cell,) = compare({"all": runs})
    assert (cell.runs, cell.successes) == (10, 5)
    assert cell.costs["evaluations"].to_half == 100
    assert cell.costs["cpu_s"].to_half == 200
    assert cell.spent["evaluations"] == 5 * 20 + 360
    assert cell.spent["cpu_s"] == 5 * 42 + 720
    line = success_curves({"all": runs}).axes[0].get_lines()[0]
    assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (100, pytest.approx(0.5))


def test_campaigns_that_failed_before_their_first_evaluation_are_failures():
    found = [trace(*[5.0] * n, 0.0) for n in range(10, 25)]
    (cell,) = compare(
        {"all": runs_by_measure([*found, *[trace(ended=True)] * 5], 0.0, within=0.05, price_s=0.0)}
    )
    assert (cell.runs, cell.successes) == (20, 15)
    assert cell.costs["evaluations"].to_half == 20  # of the tenth of twenty
    assert cell.spent["evaluations"] == sum(range(11, 26))


def test_where_nothing_succeeded():
    cells = {name: runs_by_measure([trace(5, 4), trace(5)], 0.0, within=0.05, price_s=0.0) for name in "ab"}
    a, b = compare(cells)
    assert a.successes == b.successes == 0
    assert math.isinf(a.costs["cpu_s"].to_half)
    assert math.isnan(b.costs["cpu_s"].p)
    assert math.isnan(b.costs["cpu_s"].ratio.value)


def test_the_interval_of_a_cost_holds_it_nineteen_times_of_twenty():
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        costs = rng.exponential(100.0, size=20)
        runs = Runs(np.minimum(costs, 150.0), costs < 150.0)
        low, high = interval_of_cost(runs, seed=seed, resamples=300)
        assert low <= cost_to(runs) <= high
        held += low <= 100.0 * math.log(2.0) <= high
    assert 86 <= held <= 100
    assert interval_of_cost(Runs(np.ones(1), np.ones(1, dtype=bool))) == (0.0, math.inf)


def test_a_trace_needs_a_time_for_each_energy():
    with pytest.raises(ValueError, match="one energy and one time"):
        Trace(np.zeros(3), np.zeros(2), 1.0)


@pytest.mark.parametrize(("priced", "panels"), [(True, 3), (False, 2)])
def test_curves_end_where_the_fractions_are(tmp_path, priced, panels):
    cells = {
        name: runs_by_measure(traces, 0.0, within=0.05, price_s=10.0)
        for name, traces in (("slow", SLOW), ("fast", FAST))
    }
    figure = success_curves(cells, priced=priced, title="made by hand")
    assert len(figure.axes) == panels
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["slow (2/4)", "fast (3/4)"]
    assert lines[1].get_ydata()[-1] == pytest.approx(0.75)
    figure.savefig(tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png")[..., :3].std() > 0.02
