"""Every search method through all jobs of its rounds, with an empirical reference."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import StopRequestedError
from godelta.makers.told import evaluated
from godelta.search import make_method
from godelta.search.walkers import candidate_of
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey
from godelta.workflows.outcome import hopeless

RELAX = {"steps": 15}
METHODS = {
    "bh": {"method": "bh", "walkers": 3, "iterations_per_round": 2, "relax": RELAX,
           "selection": {"evaluations_per_round": 3}},
    "gofee": {"method": "gofee", "iterations_per_round": 2, "candidates": 4, "random_until": 3,
              "relax": RELAX, "selection": {"evaluations_per_round": 3}},
    "gofee-paper": {"method": "gofee", "preset": "paper", "candidates": 4, "random_until": 2, "relax": RELAX},
    # The cheap campaign is one of rss, and what it gives goes before the preset.
    "rss-paper": {"method": "rss", "preset": "paper", "structures_per_round": 1, "batch": 1, "relax": RELAX,
                  "relax_from": 3, "selection": {"evaluations_per_round": 1}},
    "rss-plain": {"method": "rss", "relax_in": "reference", "batch": 2, "structures_per_round": 1,
                  "relax": {"steps": 3}, "selection": {"evaluations_per_round": 2}},
    "bh-plain": {"method": "bh", "relax_in": "reference", "walkers": 2, "relax": {"steps": 2},
                 "selection": {"evaluations_per_round": 2}},
    "bh-paper": {"method": "bh", "preset": "paper", "relax": RELAX},
}  # fmt: skip


@pytest.fixture
def run_rounds(session, begin, run_round):
    """Run some rounds of a method; the campaign's id."""

    def run(name: str, count: int = 4, **changes) -> str:
        key = begin(name, search=METHODS[name], **changes)
        for k in range(count):
            place = RoundKey(key.campaign_id, 0, k)
            model_id = run_round(place)
            rounds.plan_round(session.store, RoundKey(key.campaign_id, 0, k + 1), model_id)
        return key.campaign_id

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_spends_its_budget_on_evaluations(run_rounds, opened, name):
    campaign_id = run_rounds(name)
    campaign = campaigns.get_campaign(opened, campaign_id)
    counts = evaluations.counts(opened, campaign_id, campaign.reference_hash)
    assert counts["ok"] >= 3
    assert counts["pending"] == 0
    closed = [r for r in rounds.rounds_of(opened, campaign_id) if r.state == "closed"]
    assert len(closed) == 4
    best = structures.best(opened, campaign_id, campaign.reference_hash)
    assert best[0]["energy"] < best[-1]["energy"]


@dataclass
class StopAt:
    """Asks for a stop at the n-th look, and at every one after it."""

    n: int
    looks: int = 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.looks >= self.n


def outcome(session, key):
    """All that a search leaves behind, except ids that hold the campaign's random id."""
    found = sorted(structures.round_candidates(session.store, key), key=lambda item: item.candidate_id)
    values = [
        (c.candidate_id, c.move, c.parents, c.accepted, c.model_energy, c.uncertainty, c.positions)
        for c in found
    ]
    return values, rounds.load_search_state(session.store, key)


# The call of the potential at which the first step of a later round begins.
FIRST_STEP = {"bh": 2, "gofee": 1, "gofee-paper": 1, "bh-paper": 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_STEP)
def test_a_round_is_begun_once_whatever_is_evaluated_while_it_is_stopped(session, begin, run_round, name):
    """Stopped before its first step has been saved, and everywhere else, it ends to the same bits."""
    results = []
    for stops in ((), (FIRST_STEP[name], 1, 2, 5)):
        first = begin(f"{name}-{len(stops)}", search=METHODS[name], budget={"chains": 2}, share=True)
        second, other = RoundKey(first.campaign_id, 0, 1), RoundKey(first.campaign_id, 1, 0)
        rounds.plan_round(session.store, second, run_round(first))
        for n in stops:
            with pytest.raises(StopRequestedError):
                run_search(replace(session, should_stop=StopAt(n)), second, 0)
            run_round(other)  # at the first stop; later it is done
        run_search(session, second, 0)
        results.append(outcome(session, second))
        assert results[-1][0]
    assert results[0] == results[1]


def test_the_papers_gofee_evaluates_a_step_from_the_last_structure_first(session, run_rounds):
    campaign_id = run_rounds("gofee-paper", 3)
    former: list[str] = []
    for round_ in rounds.rounds_of(session.store, campaign_id)[:3]:
        chosen = [structures.get_structure(session.store, i) for i in round_.selection]
        assert len([c for c in chosen if c.move != "step"]) <= 1
        if former:
            assert chosen[0].move == "step"
            assert chosen[0].parents == tuple(former)
        former = [c.candidate_id for c in chosen if c.move != "step"]


def test_the_first_structures_of_the_papers_random_search_are_not_relaxed(session, run_rounds):
    campaign_id = run_rounds("rss-paper", 3)
    calls = []
    for round_ in rounds.rounds_of(session.store, campaign_id)[:3]:
        assert len(structures.round_candidates(session.store, round_.key)) == len(round_.selection) == 1
        calls.append(round_.progress["calls"])
    assert calls[:2] == [1, 1]
    assert calls[2] > 1


def test_a_walker_whose_trial_has_a_twin_hops_by_the_twins_energy(session, begin, run_round):
    """A trial equivalent to an evaluated structure is not evaluated again, and is no rejection either."""
    key = begin("twin", search={**METHODS["bh-paper"], "kT": 1e6})
    rounds.plan_round(session.store, RoundKey(key.campaign_id, 0, 1), run_round(key))
    second = RoundKey(key.campaign_id, 0, 1)
    run_search(session, second, 0)
    run_select(session, second, 0)
    parts = session.parts(key.campaign_id)
    method = make_method(parts.config.search, parts.problem)
    state = method.load(rounds.load_search_state(session.store, second))
    (held,) = state.held
    # What was evaluated, turned and called by another name.
    turned = held.positions @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    twin = replace(held, positions=turned, id="twin")
    told = evaluated(session, second, [candidate_of(twin, parts.problem)])
    assert [item.energy for item in told if "twin" in item.names] == [state.references[0]]
    judged = method.judged(replace(state, trials=(twin,)), told)
    assert judged.held[0].id == "twin"
    assert judged.events == {}


@pytest.mark.parametrize("name", ["bh", "gofee"])
@pytest.mark.parametrize(
    ("calculator", "said"), [("NotANumber", "not finite"), ("Bottomless", "absurdly low")]
)
def test_a_foundation_without_sense_ends_the_campaign_with_the_reason(
    begin, run_round, opened, monkeypatch, name, calculator, said
):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "workflows")
    foundation = {"name": "ase", "calculator": f"sick_potentials.{calculator}"}
    first = begin(name, search=METHODS[name], foundation=foundation)
    for k in range(3):
        key = RoundKey(first.campaign_id, 0, k)
        run_round(key)
        rounds.plan_round(opened, RoundKey(first.campaign_id, 0, k + 1), None)
        assert rounds.get_round(opened, key).selection == ()
    reason = hopeless(opened, campaigns.get_campaign(opened, first.campaign_id))
    assert "no structure to evaluate in 3 rounds" in reason
    assert said in reason
