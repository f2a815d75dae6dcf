"""A campaign as a flow of plain jobflow."""

import itertools

import pytest
from ase.calculators.emt import EMT

from godelta.campaign import CampaignConfig
from godelta.makers.session import Session, use_session
from godelta.reference.isolated import Outcome
from godelta.search.settings import REFINEMENT
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey, StructureDocument
from godelta.store.stopping import end_of_chain
from godelta.systems.packing import unpack_problem
from godelta.workflows.campaign_flow import CampaignFlowMaker, continue_chain
from godelta.workflows.round import RoundFlowMaker

REFINE = {"best": 2, "fmax": 0.3, "evaluations": 10}
# No round finds anything that much lower: a chain ends with its second round.
IMPATIENT = {"stop_without_improvement": 1, "improvement": 100.0}
STATES = ("planned", "searching", "selected", "evaluating", "closed")


@pytest.fixture
def run_jobs(engine, opened):
    """Run a flow in this process; the outputs of its jobs by uuid."""
    from jobflow import SETTINGS, run_locally

    use_session(Session(engine, opened))

    def run(flow):
        return run_locally(flow, store=SETTINGS.JOB_STORE, ensure_success=True, log=False)

    return run


@pytest.fixture
def run_flow(run_jobs):
    """The same with a configuration's flow."""
    return lambda config: run_jobs(CampaignFlowMaker().make(config))


@pytest.fixture
def quick(monkeypatch):
    """Evaluations in this process: EMT takes a millisecond, and a process of its own half a second."""

    def evaluate(atoms, settings, scratch, **more):
        atoms.calc = EMT()
        return Outcome("ok", atoms.get_potential_energy(), atoms.get_forces())

    monkeypatch.setattr("godelta.makers.evaluate.evaluate_isolated", evaluate)


@pytest.fixture
def found(opened):
    """The campaign, and its rounds: (chain, k) in the order in which they were planned."""

    def look(name="cheap"):
        campaign = campaigns.get_campaign(opened, name)
        own = rounds.rounds_of(opened, campaign.campaign_id)
        assert {round_.state for round_ in own} <= {"closed"}
        assert {round_.epoch for round_ in own} == {0}
        own.sort(key=lambda round_: round_.planned_at)
        return campaign, [(round_.chain, round_.k) for round_ in own]

    return look


def refined(store, campaign):
    """What is told of the refinement's tracks last."""
    return rounds.last_round(store, campaign.campaign_id, REFINEMENT_CHAIN).statistics[REFINEMENT]["tracks"]


def is_paid_once(store, campaign):
    attempts = [len(raw["attempts"]) for raw in store.evaluations.find()]
    return set(attempts) == {1} and campaign.spent == len(attempts) and campaign.reserved == ()


def test_run_locally(run_flow, cheap_config, opened):
    config = cheap_config(budget={"chains": 2, "rounds": 2})
    responses = run_flow(config)
    campaign = campaigns.get_campaign(opened, "cheap")
    assert campaign.state == "finished"
    own = rounds.rounds_of(opened, campaign.campaign_id)
    assert [(r.chain, r.k, r.state) for r in own] == [(c, k, "closed") for c in (0, 1) for k in (0, 1)]
    outputs = [answer.output for indices in responses.values() for answer in indices.values()]
    assert {"campaign_id": campaign.campaign_id, "name": "cheap"} in outputs
    assert campaign.spent > 0


def test_running_it_again_goes_on_with_more_rounds(run_flow, cheap_config, opened):
    run_flow(cheap_config(budget={"rounds": 1}))
    first = campaigns.get_campaign(opened, "cheap")
    run_flow(cheap_config(budget={"rounds": 2}))
    again = campaigns.get_campaign(opened, "cheap")
    assert again.campaign_id == first.campaign_id
    assert [r.state for r in rounds.rounds_of(opened, again.campaign_id)] == ["closed", "closed"]
    assert again.state == "finished"


@pytest.mark.usefixtures("quick")
def test_it_refines_when_the_search_has_ended(run_flow, cheap_config, opened, found):
    run_flow(cheap_config(budget={"rounds": 1}, refine=REFINE))
    campaign, order = found()
    assert campaign.state == "finished"
    assert order == [(0, 0), *((REFINEMENT_CHAIN, k) for k in range(len(order) - 1))]
    assert {track["status"] for track in refined(opened, campaign)} == {"converged"}
    assert is_paid_once(opened, campaign)


@pytest.mark.usefixtures("quick")
def test_it_refines_what_was_searched_before(run_flow, cheap_config, opened, found):
    run_flow(cheap_config(budget={"rounds": 1}))
    run_flow(cheap_config(budget={"rounds": 1}, refine=REFINE))
    campaign, order = found()
    assert campaign.state == "finished"
    assert len(order) > 2
    assert {track["status"] for track in refined(opened, campaign)} == {"converged"}
    run_flow(cheap_config(budget={"rounds": 1}, refine=REFINE))
    assert found() == (campaign.model_copy(update={"updated_at": found()[0].updated_at}), order)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("share", [True, False])
def test_chains_that_end_at_different_times(run_flow, cheap_config, opened, found, share):
    """The first chain is at its end before the second one's second round is planned."""
    budget = {"chains": 2, "rounds": 5, "evaluations": 40, **IMPATIENT}
    responses = run_flow(cheap_config(share=share, budget=budget, refine=REFINE))
    campaign, order = found()
    assert campaign.state == "finished"
    searched = [place for place in order if place[0] != REFINEMENT_CHAIN]
    assert sorted(searched) == [(c, k) for c in (0, 1) for k in (0, 1)]
    assert order[: len(searched)] == searched  # nothing is refined before all chains have ended
    assert len(order) > len(searched)
    assert is_paid_once(opened, campaign)
    # Each round was made once.
    retrained = [
        answer.output
        for indices in responses.values()
        for answer in indices.values()
        if isinstance(answer.output, dict) and "model_id" in answer.output
    ]
    assert len(retrained) == len(order)


@pytest.fixture
def close(opened):
    """Close a chain's next round with one evaluation of an energy in eV."""
    numbers = itertools.count(1)

    def make(campaign_id, chain, energy):
        last = rounds.last_round(opened, campaign_id, chain)
        key = RoundKey(campaign_id, chain, 0 if last is None else last.k + 1)
        rounds.plan_round(opened, key, None)
        level = campaigns.get_campaign(opened, campaign_id).reference_hash
        problem = unpack_problem(campaigns.load_problem(opened, campaign_id))
        places = problem.confinement.corner + [[0.1 + 2.6 * (k % 2), 2.6 * (k // 2), 0.1] for k in range(4)]
        places[0, 0] += 1e-3 * next(numbers)
        document = StructureDocument.from_atoms(
            problem.structure(places),
            campaign_id=campaign_id,
            chain=chain,
            round=key.k,
            foundation_energy=0.0,
            model_energy=0.0,
        )
        structures.add_candidates(opened, [document])
        claim = evaluations.claim(opened, document.structure_hash, level, "me", 60, wanted=document)
        evaluations.commit_ok(opened, claim, energy, places * 0)
        for old, new in itertools.pairwise(STATES):
            chosen = {"selection": [document.structure_id]} if new == "selected" else {}
            rounds.change_state(opened, key, 0, old, new, **chosen)
        return key

    return make


def why(store, campaign_id, chain):
    config = CampaignConfig.model_validate(campaigns.get_campaign(store, campaign_id).config)
    return end_of_chain(store, config, rounds.last_round(store, campaign_id, chain))


@pytest.mark.usefixtures("quick")
def test_a_chain_that_had_ended_goes_on_when_another_one_has_found_something(
    start, close, run_jobs, opened, found
):
    budget = {"chains": 2, "rounds": 3, "evaluations": 20, "stop_without_improvement": 1}
    campaign_id = start(share=True, budget=budget)
    close(campaign_id, 1, 30.0)
    close(campaign_id, 0, 30.0)
    close(campaign_id, 1, 30.0)
    close(campaign_id, 0, 30.0)
    assert why(opened, campaign_id, 0) == "no improvement over 1 round"
    after = continue_chain.original(campaign_id, 0, 1, RoundFlowMaker(), {})
    # The other one is not to be waited for: it has ended as well.
    assert after.addition is None
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    opened.campaigns.update_one({"campaign_id": campaign_id}, {"$set": {"state": "running"}})
    last = close(campaign_id, 1, 20.0)
    assert why(opened, campaign_id, 0) is None
    assert why(opened, campaign_id, 1) == "all its rounds are done"
    response = continue_chain.original(campaign_id, 1, last.k, RoundFlowMaker(), {})
    assert response.output == {"campaign_id": campaign_id, "ended": False}
    run_jobs(response.addition)
    campaign, order = found()
    assert order[-1] == (0, 2)
    assert campaign.state == "finished"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("refine", [{}, {"refine": REFINE}], ids=["", "refined"])
def test_a_chain_between_two_rounds_has_not_ended(start, close, run_jobs, opened, found, refine):
    """Where jobs run side by side: what the other chain is to go on with is not planned yet."""
    campaign_id = start(budget={"chains": 2, "rounds": 3, "evaluations": 20, **IMPATIENT}, **refine)
    keys = [close(campaign_id, chain, 30.0) for chain in (0, 1, 0)]
    assert why(opened, campaign_id, 0) == "no improvement over 1 round"
    answers = [
        continue_chain.original(campaign_id, key.chain, key.k, RoundFlowMaker(), {}) for key in keys[:0:-1]
    ]
    assert campaigns.get_campaign(opened, campaign_id).state == "running"
    for answer in answers:
        run_jobs(answer.addition)
    campaign, order = found()
    assert campaign.state == "finished"
    assert order[:4] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert {chain for chain, _ in order[4:]} == ({REFINEMENT_CHAIN} if refine else set())
    attempts = [len(raw["attempts"]) for raw in opened.evaluations.find()]
    assert set(attempts) == {1}


@pytest.mark.usefixtures("quick")
def test_what_refinement_finds_is_no_reason_to_search_on(run_flow, cheap_config, opened, found):
    budget = {"rounds": 8, "evaluations": 60, "stop_without_improvement": 1, "improvement": 0.3}
    run_flow(cheap_config(search={"relax": {"steps": 0}}, budget=budget, refine=REFINE))
    campaign, order = found()
    assert campaign.state == "finished"
    begun = order.index((REFINEMENT_CHAIN, 0))
    assert all(chain == REFINEMENT_CHAIN for chain, _ in order[begun:])
    tracks = refined(opened, campaign)
    first = evaluations.energies(
        opened,
        [structures.get_structure(opened, tracks[0]["start"]).structure_hash],
        campaign.reference_hash,
    )
    assert tracks[0]["energy"] < min(first.values()) - 0.3


def test_a_job_that_is_run_again_adds_the_round_that_it_has_planned(start, close, engine, opened):
    use_session(Session(engine, opened))
    campaign_id = start(budget={"chains": 2, "rounds": 3, "evaluations": 20})
    first = close(campaign_id, 0, 30.0)
    for _ in range(2):  # the first time it was killed before its answer was stored
        response = continue_chain.original(campaign_id, 0, first.k, RoundFlowMaker(), {})
        assert response.output["ended"] is False
        assert "chain 0 round 1" in response.addition[0].name
    rounds.change_state(opened, RoundKey(campaign_id, 0, 1), 0, "planned", "searching")
    late = continue_chain.original(campaign_id, 0, first.k, RoundFlowMaker(), {})
    assert late.addition is None
    assert campaigns.get_campaign(opened, campaign_id).state == "running"
