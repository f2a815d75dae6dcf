import numpy as np
import pytest

from godelta.delta.inducing import choose_inducing, cur_rows, farthest_points, median_distance, quotas


def test_farthest_points_cover_separate_groups():
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=100.0, size=(6, 4))
    X = np.repeat(centres, 50, axis=0) + rng.normal(scale=0.1, size=(300, 4))
    assert set(farthest_points(X, 6) // 50) == set(range(6))


def test_farthest_points_equal_the_direct_definition():
    X = np.random.default_rng(1).normal(size=(40, 3))
    chosen = list(farthest_points(X, 10))
    for k in range(1, 10):
        nearest = np.linalg.norm(X[:, None] - X[chosen[:k]][None], axis=-1).min(axis=1)
        assert chosen[k] == int(np.argmax(nearest))


def test_farthest_points_stop_at_duplicates():
    X = np.repeat(np.random.default_rng(2).normal(size=(3, 5)), 4, axis=0)
    assert len(farthest_points(X, 10)) == 3


def test_cur_prefers_rows_that_nothing_else_spans():
    X = np.zeros((101, 5))
    X[:100, 0] = 1.0
    X[100, 3] = 1.0
    picks = [100 in cur_rows(X, 5, np.random.default_rng(seed)) for seed in range(50)]
    assert np.mean(picks) > 0.9  # uniform sampling would give 0.05
    chosen = cur_rows(X, 30, np.random.default_rng(0))
    assert len(set(chosen)) == 30


@pytest.mark.parametrize(
    ("available", "total"), [([900, 100], 100), ([995, 5, 0], 10), ([3, 3, 3], 2), ([2, 2], 9)]
)
def test_quotas(available, total):
    result = quotas(np.array(available), total)
    assert (result <= available).all()
    assert (result[np.array(available) > 0] >= 1).all()
    assert result.sum() == max(min(total, sum(available)), np.count_nonzero(available))


def test_every_environment_is_taken_while_there_are_few():
    groups = [np.random.default_rng(k).normal(size=(n, 4)) for k, n in enumerate((7, 0, 5))]
    for taken, group in zip(
        choose_inducing(groups, 12, "fps", np.random.default_rng(0)), groups, strict=True
    ):
        np.testing.assert_array_equal(taken, group)


@pytest.mark.parametrize("selection", ["fps", "cur"])
def test_choice_is_limited_and_deterministic(selection):
    groups = [np.random.default_rng(k).normal(size=(n, 4)) for k, n in enumerate((4000, 300, 0))]
    first, second = (choose_inducing(groups, 50, selection, np.random.default_rng(7)) for _ in range(2))
    assert [len(part) for part in first] == [47, 3, 0]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_median_distance():
    points = np.array([[0.0], [1.0], [3.0]])
    rng = np.random.default_rng(0)
    assert median_distance([points, np.zeros((0, 1))], rng) == 2.0
    assert median_distance([np.full((2, 4), 3.0)], rng) == pytest.approx(0.05 * 6.0)
