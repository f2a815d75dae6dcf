import numpy as np
import pytest

from godelta.search.selection import choose, choose_one_by_one, wanted
from godelta.search.settings import SelectionSettings

ENERGIES = np.array([3.0, 1.0, 2.0, 0.0, 1.5])
APART = np.arange(5)


def _choose(uncertainties, groups=APART, count=5, seed=0, last=None, best=None, **settings):
    rng = np.random.default_rng(seed)
    told = SelectionSettings(**settings)
    return choose(ENERGIES, np.array(uncertainties), groups, told, count, rng, last=last, best=best).tolist()


def test_lowest_acquisition_first():
    assert _choose([1.6, 0.1, 0.0, 0.1, 2.0], kappa=2.0) == [4, 0, 3, 1, 2]
    assert _choose([1.6, 0.1, 0.0, 0.1, 2.0], kappa=0.0) == [3, 1, 4, 2, 0]


def test_without_uncertainty_the_energy_decides():
    assert _choose([np.nan] * 5, count=3) == [3, 1, 4]


def test_one_per_group_its_best_and_none_of_what_was_evaluated():
    assert _choose([0.0] * 5, groups=np.array([0, 1, 1, -1, 0])) == [1, 4]


def test_random_order_is_uniform_and_reproducible():
    draws = [_choose([0.0] * 5, choose="random", count=2, seed=s) for s in range(2000)]
    counts = np.bincount(np.ravel(draws), minlength=5)
    np.testing.assert_allclose(counts, 800, atol=110)
    assert draws[7] == _choose([0.0] * 5, choose="random", count=2, seed=7)


def test_those_marked_come_last():
    last = np.array([False, False, False, True, False])
    assert _choose([0.0] * 5, last=last) == [1, 4, 2, 0, 3]
    assert all(_choose([0.0] * 5, choose="random", seed=s, last=last)[-1] == 3 for s in range(20))


def test_nothing_to_choose_from():
    empty = np.empty(0)
    chosen = choose(empty, empty, empty.astype(int), SelectionSettings(), 3, np.random.default_rng(0))
    assert chosen.tolist() == []
    assert _choose([0.0] * 5, count=0) == []
    assert _choose([0.0] * 5, count=-2) == []


def test_the_expected_improvement_is_that_of_a_normal_distribution():
    settings = SelectionSettings(choose="expected_improvement")
    sigma = np.array([0.5, 1.0, 0.2, 2.0, 0.0])
    drawn = np.random.default_rng(0).normal(size=(200_000, 5)) * sigma + ENERGIES
    expected = np.maximum(1.8 - drawn, 0.0).mean(axis=0)
    found = wanted(ENERGIES, sigma, settings, 1.8)
    np.testing.assert_allclose(found[:4], expected[:4], rtol=0.02, atol=0.002)
    assert found[4] == pytest.approx(0.3)
    assert _choose(sigma, best=1.8, choose="expected_improvement")[:2] == [3, 1]
    # What is hopeless is still in the order of its energies, and without any evaluation kappa decides.
    assert _choose([0.0] * 5, best=-50.0, choose="expected_improvement") == [3, 1, 4, 2, 0]
    assert _choose([1.6, 0.1, 0.0, 0.1, 2.0], choose="expected_improvement") == [4, 0, 3, 1, 2]


class Twins:
    """Uncertainties of 1 eV, of which an observation leaves nothing to a candidate and its neighbour."""

    def __init__(self):
        self.deviations = np.ones(5)

    def observe(self, k):
        self.deviations = np.where(abs(np.arange(5) - k) <= 1, 0.0, self.deviations)


def test_one_by_one_the_neighbour_of_what_is_taken_comes_later():
    settings = SelectionSettings(kappa=2.0)
    arguments = (ENERGIES, APART, settings)
    assert _choose([1.0] * 5) == [3, 1, 4, 2, 0]
    always = lambda k, taken: True  # noqa: E731
    assert choose_one_by_one(*arguments, 5, Twins(), always).tolist() == [3, 1, 4, 2, 0]
    near = np.array([3.0, 0.1, 0.6, 0.0, 0.5])
    assert choose_one_by_one(near, APART, settings, 3, Twins(), always).tolist() == [3, 1, 4]
    close = np.array([3.0, 1.9, 0.05, 0.0, 9.0])
    assert choose_one_by_one(close, APART, settings, 2, Twins(), always).tolist() == [3, 1]
    assert _choose([1.0] * 5, count=2) == [3, 1]


def test_one_by_one_nothing_known_and_one_of_each_group():
    settings = SelectionSettings()
    asked = []

    def is_new(k, taken):
        asked.append((k, list(taken)))
        return k != 1

    groups = np.array([0, 1, 2, 2, -1])
    assert choose_one_by_one(ENERGIES, groups, settings, 5, Twins(), is_new).tolist() == [3, 0]
    assert asked == [(3, []), (1, [3]), (0, [3])]
    nothing = np.full(5, np.nan)
    assert choose_one_by_one(nothing, APART, settings, 5, Twins(), is_new).tolist() == []


def test_older_campaigns_keep_their_identity():
    assert "diverse" not in SelectionSettings().model_dump()
    assert SelectionSettings(diverse=True).model_dump()["diverse"]
