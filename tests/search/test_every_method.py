"""What holds for every search method and any system."""

import numpy as np
import pytest
from ase import Atoms
from every_method import METHODS, Springs, rounds
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from godelta.errors import GodeltaError
from godelta.foundation.base import PotentialBatch
from godelta.search import make_method
from godelta.search.settings import is_plain
from godelta.systems.confinement import Confinement
from godelta.systems.geometry import MinimumImage, radii_of
from godelta.systems.problem import SearchProblem


class Absurd:
    """The ground opens under every structure as soon as it moves."""

    def __init__(self):
        self.calls = 0

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        self.calls += 1
        e = np.full(len(structures), -1e6 * self.calls)
        return PotentialBatch(e, [np.ones((len(a), 3)) for a in structures], e, e * 0)


@st.composite
def problems(draw):
    """Clusters in skewed confinements, and slabs with skewed cells, in 2-D and 3-D confinements."""
    symbols = draw(st.lists(st.sampled_from(["Cu", "Ag", "O"]), min_size=2, max_size=6))
    numbers = Atoms(symbols).numbers.astype(np.int64)
    skew = st.floats(-0.4, 0.4)
    kind = draw(st.sampled_from(["cluster", "slab", "flat"]))
    if kind == "cluster":
        edge = draw(st.floats(6.0, 9.0))
        spans = edge * (np.eye(3) + np.triu([[0, draw(skew), draw(skew)], [0, 0, draw(skew)], [0] * 3]))
        region = Confinement(spans, 0.5 * (np.full(3, 25.0) - spans.sum(axis=0)), (True,) * 3)
        return SearchProblem(Atoms(cell=np.eye(3) * 25.0), np.zeros(0, dtype=bool), numbers, region)
    repeats = draw(st.integers(2, 3))
    a = np.array([2.6 * repeats, 0.0, 0.0])
    b = 2.6 * repeats * np.array([draw(st.floats(-0.6, 0.6)), draw(st.floats(0.9, 1.3)), 0.0])
    places = np.array([(i / repeats, j / repeats) for i in range(repeats) for j in range(repeats)])
    positions = places @ np.stack([a, b]) + (0, 0, 6.0)
    cell = np.stack([a, b, (0.0, 0.0, 22.0)])
    template = Atoms("Cu" * len(places), positions, cell=cell, pbc=(True, True, False))
    if kind == "flat":
        region = Confinement(cell[:2], np.array([0.0, 0.0, 7.9]), (False, False))
    else:
        spans = np.stack([a, b, (0.0, 0.0, draw(st.floats(4.0, 7.0)))])
        region = Confinement(spans, np.array([0.0, 0.0, 6.5]), (False, False, True))
    fixed = np.array(draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places))))
    return SearchProblem(template, fixed, numbers, region)


def overlap(problem, positions):
    """The shortest distance of a placed atom to any other, over the sum of covalent radii."""
    radii = radii_of(np.concatenate([problem.template.numbers, problem.numbers]))
    image = MinimumImage.of(problem.template.cell.array, problem.template.pbc)
    placed = np.flatnonzero(problem.placed)
    ratio = image.distances(positions[placed], positions) / (radii[placed, None] + radii)
    ratio[np.arange(len(placed)), placed] = np.inf
    return ratio.min()


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), seed=st.integers(0, 1000))
def test_no_template_atom_moves_none_leaves_and_none_overlap(name, problem, seed):
    method = make_method(METHODS[name], problem)
    try:
        candidates, statistics = rounds(method, Springs(), 3, seed)
    except GodeltaError:  # of some systems there is no structure; hypothesis says if that is common
        reject()
    assert candidates or any(s.dropped for s in statistics)
    held = np.flatnonzero(problem.fixed)
    for candidate in candidates:
        positions = candidate.atoms.positions
        np.testing.assert_array_equal(positions[held], problem.template.positions[held])
        assert problem.confinement.contains(positions[problem.placed]).all()
        assert overlap(problem, positions) > 0.5
        np.testing.assert_array_equal(candidate.atoms.numbers[problem.placed], problem.numbers)
        assert candidate.atoms.cell == pytest.approx(problem.template.cell)


@pytest.mark.parametrize("name", [name for name, one in METHODS.items() if not is_plain(one)])
def test_a_model_without_ground_ends_every_round_in_counted_events(name, cluster):
    method = make_method(METHODS[name].model_copy(update={"preset": "default"}), cluster("Cu3Ag"))
    candidates, statistics = rounds(method, Absurd(), 4, 0)
    assert len(statistics) >= 4
    assert not any(c.converged for c in candidates)
    if name != "rss-paper":  # whose first iteration does not relax
        assert candidates == []
    assert sum(s.dropped.get("energy is absurdly low", 0) for s in statistics) > 0


@pytest.mark.parametrize("name", METHODS)
def test_a_confinement_without_room_is_said(name, cluster):
    method = make_method(METHODS[name], cluster("Cu30", edge=2.0))
    with pytest.raises(GodeltaError, match="no random structure fits"):
        rounds(method, Springs(), 1, 0)
