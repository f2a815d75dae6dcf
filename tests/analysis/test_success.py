"""Statistics of success against textbook values."""

import numpy as np
import pytest
from ase import Atoms

from godelta.analysis.success import (
    Runs,
    cost_to,
    first_success,
    interval_of_cost,
    logrank_p,
    ratio_of_costs,
    success_curve,
    wilson,
)


def runs(*costs, cut=(), never=()):
    """Successes at these costs, runs censored at those of `cut`, and ones that `never` succeed."""
    if len(never):
        every = np.array([*costs, *cut, *never], dtype=float)
        return Runs(every, np.arange(len(every)) < len(costs), np.arange(len(every)) >= len(costs) + len(cut))
    return Runs(np.array([*costs, *cut], dtype=float), np.arange(len(costs) + len(cut)) < len(costs))


# Remission of leukaemia in weeks (Freireich et al., Blood 21, 699 (1963)), in every textbook of survival.
TREATED = runs(6, 6, 6, 7, 10, 13, 16, 22, 23, cut=(6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35))
PLACEBO = runs(1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)


@pytest.mark.parametrize(("successes", "count"), [(10, 20), (0, 20), (20, 20), (3, 7)])
def test_wilson_by_its_formula(successes, count):
    z, p = 1.959963984540054, successes / count
    centre = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    assert wilson(successes, count) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_ten_of_twenty_are_30_to_70_percent():
    assert wilson(10, 20) == pytest.approx((0.299, 0.701), abs=1e-3)


def test_kaplan_meier_of_the_textbook():
    at = np.array([5.9, 6, 7, 9, 10, 13, 16, 22, 23, 35], dtype=float)
    surviving = [1.0, 0.857, 0.807, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448, 0.448]
    curve = success_curve(TREATED, at)
    assert curve.fraction == pytest.approx(1 - np.array(surviving), abs=6e-4)
    assert (curve.low <= curve.fraction + 1e-12).all()
    assert (curve.high >= curve.fraction - 1e-12).all()
    assert (curve.high[1:] - curve.low[1:] > 0.1).all()
    # R's survfit(conf.type = "log-log") at 10 weeks: survival 0.753, 0.503 to 0.889
    assert (1 - curve.high[4], 1 - curve.low[4]) == pytest.approx((0.503, 0.889), abs=1e-3)
    assert cost_to(TREATED) == 23
    assert cost_to(PLACEBO) == 8


def test_where_nothing_has_ended_early_it_is_the_fraction_with_wilsons_band():
    curve = success_curve(runs(3, 5, 5, cut=[10] * 7), np.array([0.0, 3, 4, 5, 10]))
    assert curve.fraction == pytest.approx([0, 0.1, 0.1, 0.3, 0.3])
    bands = [wilson(k, 10) for k in (0, 1, 1, 3, 3)]
    assert np.transpose([curve.low, curve.high]) == pytest.approx(np.array(bands))


HALF_GAVE_UP = runs(50, 60, 70, 80, 100, never=[20] * 5)


def test_runs_that_ended_early_without_success_never_succeed():
    curve = success_curve(HALF_GAVE_UP, np.array([0.0, 20, 49, 50, 70, 100]))
    assert curve.fraction == pytest.approx([0, 0, 0, 0.1, 0.3, 0.5])
    bands = [wilson(k, 10) for k in (0, 0, 0, 1, 3, 5)]
    assert np.transpose([curve.low, curve.high]) == pytest.approx(np.array(bands))
    assert cost_to(HALF_GAVE_UP) == 100
    assert cost_to(HALF_GAVE_UP, 0.51) == np.inf
    assert interval_of_cost(HALF_GAVE_UP, resamples=200)[1] == np.inf
    under_way = runs(50, 60, 70, 80, 100, cut=[20] * 5)
    assert success_curve(under_way, np.array([100.0])).fraction == pytest.approx([1.0])


def test_runs_under_way_are_censored_beside_ones_that_never_succeed():
    some = runs(10, 30, cut=[20], never=[5])
    curve = success_curve(some, np.array([10.0, 20, 30]))
    assert curve.fraction == pytest.approx([0.25, 0.25, 1 - 0.75 * 0.5])
    assert cost_to(some, 0.6) == 30


def test_nothing_is_said_beyond_the_largest_cost():
    curve = success_curve(HALF_GAVE_UP, np.array([100.0, 101, 1e6]))
    assert np.isnan([curve.fraction[1:], curve.low[1:], curve.high[1:]]).all()
    assert np.isfinite([curve.fraction[0], curve.low[0], curve.high[0]]).all()


def test_up_to_a_common_budget_it_makes_no_difference_how_the_runs_ended():
    at = np.arange(0.0, 81.0)
    found = [
        success_curve(runs(12, 30, 30, 77, **how), at) for how in ({"cut": [80] * 6}, {"never": [80] * 6})
    ]
    for one, other in zip(*((c.fraction, c.low, c.high) for c in found), strict=True):
        assert one == pytest.approx(other)
    pairs = [
        (runs(12, 30, 77, **how), runs(5, 6, 7, **how)) for how in ({"cut": [80] * 4}, {"never": [80] * 4})
    ]
    assert logrank_p(*pairs[0]) == pytest.approx(logrank_p(*pairs[1]))
    assert ratio_of_costs(*pairs[0], 0.4, resamples=50) == ratio_of_costs(*pairs[1], 0.4, resamples=50)


def test_log_rank_keeps_runs_that_never_succeed_at_risk():
    all_of_them = runs(*range(50, 100, 5))
    assert logrank_p(HALF_GAVE_UP, all_of_them) == pytest.approx(
        logrank_p(runs(50, 60, 70, 80, 100, cut=[1e4] * 5), all_of_them)
    )
    assert logrank_p(HALF_GAVE_UP, all_of_them) < 0.05
    assert logrank_p(runs(50, 60, 70, 80, 100, cut=[20] * 5), all_of_them) > 0.5


def test_ratios_draw_runs_that_never_succeed_as_such():
    fast = runs(*range(10, 20))
    found = ratio_of_costs(HALF_GAVE_UP, fast, resamples=200)
    assert found.value == 100 / 14
    assert found.high == np.inf  # a draw with more than five that never do
    assert np.isfinite(ratio_of_costs(runs(50, 60, 70, 80, 100, cut=[20] * 5), fast, resamples=200).high)


def test_log_rank_of_the_textbook():
    from scipy.stats import chi2

    assert logrank_p(TREATED, PLACEBO) == pytest.approx(chi2.sf(16.793, 1), rel=1e-3)
    assert logrank_p(PLACEBO, PLACEBO) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9, 1.0])
def test_the_cost_to_a_fraction_is_where_the_curve_reaches_it(share):
    rng = np.random.default_rng(4)
    some = Runs(rng.integers(1, 30, 40).astype(float), rng.uniform(size=40) < 0.7)
    grid = np.arange(0.0, 31.0)
    reached = grid[success_curve(some, grid).fraction >= share - 1e-12]
    assert cost_to(some, share) == (reached[0] if reached.size else np.inf)


def test_half_of_the_runs():
    assert cost_to(runs(1, 2, 3, 4)) == 2
    assert cost_to(runs(1, 2, 3, cut=[9, 9, 9])) == 3
    assert cost_to(runs(1, 2, cut=[9, 9, 9])) == np.inf
    assert cost_to(runs(1, 2, cut=[9, 9, 9]), 0.4) == 2


def test_ratio_of_runs_that_differ_by_a_factor():
    rng = np.random.default_rng(1)
    slow = Runs(rng.exponential(100.0, 40), np.ones(40, dtype=bool))
    fast = Runs(slow.costs / 5, slow.succeeded)
    found = ratio_of_costs(fast, slow, resamples=500)
    assert found.value == pytest.approx(0.2)
    assert 0.08 < found.low < 0.2 < found.high < 0.5
    assert ratio_of_costs(fast, slow, resamples=500) == found


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(2), 0
    for seed in range(60):
        a = Runs(rng.exponential(1.0, 20), np.ones(20, dtype=bool))
        b = Runs(rng.exponential(2.0, 20), np.ones(20, dtype=bool))
        found = ratio_of_costs(a, b, resamples=200, seed=seed)
        hits += found.low <= 0.5 <= found.high
    assert hits >= 52


def test_ratios_of_what_was_not_reached():
    never, always = runs(cut=[5.0] * 8), runs(1, 2, 3, 4, 5, 6)
    assert ratio_of_costs(never, always, resamples=50).value == np.inf
    assert ratio_of_costs(always, never, resamples=50).high == 0.0
    single = ratio_of_costs(runs(4), runs(2))
    assert (single.value, single.low, single.high) == (2.0, 0.0, np.inf)
    neither = ratio_of_costs(never, never, resamples=50)
    assert np.isnan(neither.value)
    assert (neither.low, neither.high) == (0.0, np.inf)


def test_first_success():
    energies = np.array([np.nan, -1.0, -2.96, -3.0])
    assert first_success(energies, -3.0) == 2
    assert first_success(energies, -3.0, within=0.01) == 3
    assert first_success(energies, -4.0) is None
    assert first_success(np.empty(0), -4.0) is None


def test_an_equivalent_structure_is_a_success():
    rng = np.random.default_rng(7)
    target, other = (Atoms("Ag4S", rng.uniform(-3, 3, (5, 3))) for _ in range(2))
    turned = target.copy()
    turned.rotate(70, [1, 2, 3])
    turned.rattle(0.01, seed=1)
    energies = np.array([np.nan, -1.0, -2.5, -3.0])
    structures = [turned, other, turned, target]  # the first one failed
    assert first_success(energies, -3.0, structures=structures, target=target) == 2
    assert first_success(energies, -3.0, structures=[other] * 4, target=target) == 3
    assert first_success(energies, -9.0, structures=[other] * 4, target=target) is None
    with pytest.raises(ValueError, match="one structure for each"):
        first_success(energies, -3.0, target=target)


@pytest.mark.parametrize(
    ("costs", "flags"), [([], []), ([1.0], [True, False]), ([-1.0], [True]), ([np.nan], [True])]
)
def test_bad_runs_are_refused(costs, flags):
    with pytest.raises(ValueError, match="runs"):
        Runs(np.array(costs, dtype=float), np.array(flags, dtype=bool))


def test_every_run_needs_to_say_whether_it_ended():
    with pytest.raises(ValueError, match="one flag each"):
        Runs(np.ones(2), np.ones(2, dtype=bool), np.ones(3, dtype=bool))
