"""Random structure search and basin hopping that relax in the reference itself."""

import numpy as np
import pytest
from ase.calculators.emt import EMT
from pydantic import ValidationError

from godelta.search import make_method
from godelta.search.plain import GIVEN_UP, REJECTED
from godelta.search.relax import relax
from godelta.search.settings import REFERENCE_STEP, BHSettings, RelaxSettings, RSSSettings
from godelta.search.state import Evaluated, InformedMethod

RELAX = RelaxSettings(steps=60, fmax=0.05)


@pytest.fixture
def reference(from_calculator):
    return from_calculator(EMT())


def told(candidates, reference):
    batch = reference.evaluate([c.atoms for c in candidates])
    return [
        Evaluated((c.id,), c.atoms.positions, float(e), f)
        for c, e, f in zip(candidates, batch.energies, batch.forces, strict=True)
    ]


def run(method, reference, count, *, fails=lambda k: False):
    """So many rounds; the candidates and statistics of each."""
    assert isinstance(method, InformedMethod)
    rng = np.random.default_rng(3)
    state = method.inform(method.start(reference, rng), [], reference)
    known, found = [], []
    for k in range(count):
        step = method.step(state, reference)
        found.append(step)
        if not fails(k):
            known += told(step.candidates, reference)
        state = method.load(step.state.to_bytes())
        assert method.finished(state)
        state = method.inform(method.next_round(state, reference, rng), known, reference)
    return found


def test_steps_are_those_of_a_relaxation_in_the_reference(cluster, reference):
    problem = cluster("Cu4Ag")
    method = make_method(RSSSettings(relax_in="reference", batch=2, relax=RELAX), problem)
    rounds = run(method, reference, 40)
    first = [c.atoms for c in rounds[0].candidates]
    for walker, expected in enumerate(relax(first, reference, RELAX, problem)):
        path = [c for step in rounds for c in step.candidates if c.walker == walker]
        ends = [i for i, c in enumerate(path) if c.move != REFERENCE_STEP][1]  # where the next one begins
        assert ends == expected.evaluations
        np.testing.assert_allclose(path[ends - 1].atoms.positions, expected.atoms.positions, atol=1e-9)
        assert [c.parents for c in path[1:ends]] == [(c.id,) for c in path[: ends - 1]]


def test_hops_begin_from_the_minimum_that_metropolis_arrived_at(cluster, reference):
    problem = cluster("Cu4Ag")
    settings = BHSettings(relax_in="reference", walkers=1, kT=1e-6, relax=RELAX)
    rounds = run(make_method(settings, problem), reference, 150)
    made = [step.candidates[0] for step in rounds]
    energies = {
        c.id: e for c, e in zip(made, reference.evaluate([c.atoms for c in made]).energies, strict=True)
    }
    begins = [i for i, c in enumerate(made) if c.move != REFERENCE_STEP]
    assert len(begins) > 4
    best = None
    for end in begins[1:]:
        here = made[end - 1]
        if best is None or energies[here.id] < energies[best]:  # kT is next to nothing
            best = here.id
        assert made[end].parents == (best,)
    assert sum(step.statistics.dropped.get(REJECTED, 0) for step in rounds) > 0
    accepted = sum(count["accepted"] for step in rounds for count in step.statistics.moves.values())
    relaxed = sum(count["relaxed"] for step in rounds for count in step.statistics.moves.values())
    assert 0 < accepted < relaxed == len(begins) - 1


def test_a_failed_evaluation_ends_a_relaxation(cluster, reference):
    method = make_method(RSSSettings(relax_in="reference", batch=2, relax=RELAX), cluster("Cu4Ag"))
    rounds = run(method, reference, 4, fails=lambda k: k == 1)
    assert [c.move for c in rounds[1].candidates] == [REFERENCE_STEP] * 2
    assert [c.move for c in rounds[2].candidates] == ["random"] * 2
    assert rounds[2].statistics.dropped[GIVEN_UP] == 2


def test_every_structure_is_evaluated_in_every_round():
    assert RSSSettings(relax_in="reference", batch=3).selection.evaluations_per_round == 3
    assert BHSettings.model_validate({"relax_in": "reference"}).selection.evaluations_per_round == 5
    with pytest.raises(ValidationError, match=r"evaluations_per_round has to be 3"):
        RSSSettings.model_validate(
            {"relax_in": "reference", "batch": 3, "selection": {"evaluations_per_round": 2}}
        )
    assert "relax_in" not in RSSSettings().model_dump()  # campaigns of before keep their identity
    assert "relax_in" not in BHSettings().model_dump()
