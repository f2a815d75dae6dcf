import numpy as np

from godelta.search.selection import choose
from godelta.search.settings import SelectionSettings

ENERGIES = np.array([3.0, 1.0, 2.0, 0.0, 1.5])
APART = np.arange(5)


def _choose(uncertainties, groups=APART, count=5, seed=0, last=None, **settings):
    rng = np.random.default_rng(seed)
    return choose(
        ENERGIES, np.array(uncertainties), groups, SelectionSettings(**settings), count, rng, last
    ).tolist()


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
