import numpy as np
import pytest

from godelta.analysis.unseen import count_unseen


def test_counted_by_hand():
    # minima A to D; chain 0: A A B, chain 1: A C, chain 2: B D D D
    found = count_unseen(np.array([0, 0, 1, 0, 2, 1, 3, 3, 3]), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2]))
    assert (found.chains, found.minima, found.observations, found.once) == (3, 4, 6, 2)
    assert found.mass == pytest.approx(1 / 3)


def test_agreement_and_none():
    assert count_unseen(np.array([4, 4]), np.array([0, 1])).mass == 0.0
    assert count_unseen(np.array([4, 5]), np.array([0, 1])).mass == 1.0


def test_nothing_is_said_of_one_chain():
    assert count_unseen(np.array([0, 1]), np.array([3, 3])).mass is None
    assert count_unseen(np.empty(0, dtype=int), np.empty(0, dtype=int)).mass is None


def test_right_on_average_where_chains_draw_independently():
    """Each chain finds each of 40 minima with a probability of its own: the truth is known."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.7, 2.0, size=40)
    estimates = []
    for _ in range(300):
        chains, labels = np.nonzero(rng.uniform(size=(4, 40)) < probability)
        estimates.append(count_unseen(labels, chains).mass)

    def new_after(others):
        return (probability * (1 - probability) ** others).sum() / probability.sum()

    assert np.mean(estimates) == pytest.approx(new_after(3), abs=0.01)
    assert new_after(4) < np.mean(estimates)  # a little too high for one chain more
