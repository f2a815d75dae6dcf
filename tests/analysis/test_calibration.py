"""Errors against deviations: numbers that are known."""

import numpy as np
import pytest

from godelta.analysis.calibration import LEVELS, calibration, coverage


def test_errors_drawn_from_their_deviations():
    rng = np.random.default_rng(0)
    deviations = rng.uniform(0.1, 2.0, 20_000)
    found = calibration(rng.normal(0.0, deviations), deviations)
    assert found.n == 20_000
    assert found.z_rms == pytest.approx(1.0, abs=0.02)
    assert found.coverage == pytest.approx(LEVELS, abs=0.01)
    assert found.spearman == pytest.approx(0.5, abs=0.1)
    too_sure = calibration(rng.normal(0.0, deviations), deviations / 3.0)
    assert too_sure.z_rms == pytest.approx(3.0, abs=0.05)
    assert too_sure.coverage[2] < 0.55


def test_by_hand():
    found = calibration(np.array([1.0, -2.0, 0.0, np.nan, 1.0]), np.array([1.0, 4.0, 2.0, 1.0, np.nan]))
    assert (found.n, found.mae) == (3, 1.0)
    assert found.rmse == pytest.approx(np.sqrt(5 / 3))
    assert found.z_rms == pytest.approx(np.sqrt((1 + 0.25) / 3))
    assert found.coverage == pytest.approx((2 / 3, 2 / 3, 1.0))
    assert found.spearman == pytest.approx(0.5)


def test_too_little_to_tell():
    assert calibration(np.empty(0), np.empty(0)) is None
    assert calibration(np.array([np.nan]), np.array([1.0])) is None
    assert calibration(np.array([1.0, 2.0]), np.ones(2)).spearman is None
    assert calibration(np.array([1.0, 2.0, 3.0]), np.ones(3)).spearman is None


def test_coverage_grows_from_nothing_to_all():
    shares = coverage(np.array([0.0, 0.5, -1.0]), np.linspace(0.0, 1.0, 11))
    assert (shares[0], shares[-1]) == (pytest.approx(1 / 3), 1.0)
    assert (np.diff(shares) >= 0).all()
