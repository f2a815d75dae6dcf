"""The end of chains that find nothing lower: from the database alone, however often it is asked."""

import itertools

import pytest

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey, StructureDocument
from godelta.store.stopping import end_of_chain
from godelta.workflows.minima import best_minima, low_minima
from godelta.workflows.planner import advance
from godelta.workflows.submit import register
from godelta.workflows.waiting import look, waits

STATES = ("planned", "searching", "selected", "evaluating", "closed")


@pytest.fixture
def close(opened):
    """Close a chain's next round with evaluations of these energies in eV; None: a failed one.

    All are versions of one structure; a pair (energy, kind) is of another one.
    """
    numbers = iter(range(1, 1000))

    def make(campaign_id, chain, *energies, refused=None, move=""):
        last = rounds.last_round(opened, campaign_id, chain)
        k = 0 if last is None else last.k + (last.state == "closed")
        key = RoundKey(campaign_id, chain, k)
        rounds.plan_round(opened, key, None)
        level = campaigns.get_campaign(opened, campaign_id).reference_hash
        documents = []
        for value in energies:
            energy, kind = value if isinstance(value, tuple) else (value, 0)
            atoms = campaign_atoms(opened, campaign_id)
            atoms.positions[-1, 1] += 0.7 * kind
            atoms.positions[0, 0] += 1e-3 * next(numbers)
            document = StructureDocument.from_atoms(
                atoms, campaign_id=campaign_id, chain=chain, round=k, foundation_energy=0.0, model_energy=0.0,
                move=move,
            )  # fmt: skip
            structures.add_candidates(opened, [document])
            claim = evaluations.claim(opened, document.structure_hash, level, "me", 60, wanted=document)
            if energy is None:
                evaluations.commit_failed(opened, claim, "engine_error", "no")
            else:
                evaluations.commit_ok(opened, claim, energy, atoms.positions * 0)
            documents.append(document)
        for old, new in itertools.pairwise(STATES):
            ids = [document.structure_id for document in documents]
            chosen = {"selection": ids, "statistics.refused": refused or {}} if new == "selected" else {}
            rounds.change_state(opened, key, 0, old, new, **chosen)
        return rounds.get_round(opened, key)

    return make


def campaign_atoms(store, campaign_id):
    from godelta.systems.packing import unpack_problem

    problem = unpack_problem(campaigns.load_problem(store, campaign_id))
    atoms = problem.template.copy()
    for number in problem.numbers:
        atoms.append(int(number))
    atoms.positions += 3.0 * (1 + atoms.positions * 0).cumsum(axis=0)
    return atoms


def config_of(store, campaign_id):
    return CampaignConfig.model_validate(campaigns.get_campaign(store, campaign_id).config)


@pytest.fixture
def why(opened):
    """Why a chain has ended."""

    def ask(campaign_id, chain=0):
        last = rounds.last_round(opened, campaign_id, chain)
        return end_of_chain(opened, config_of(opened, campaign_id), last)

    return ask


def patient(rounds_=2, **more):
    return {"rounds": 20, "evaluations": 100, "stop_without_improvement": rounds_, **more}


def test_a_chain_ends_after_rounds_without_a_lower_energy(start, close, why):
    campaign_id = start(budget=patient())
    for energies, end in (
        ((-1.0, -2.0), None),
        ((-1.5,), None),  # only one round since
        ((-2.5,), None),
        ((-2.505,), None),  # -2 and -2.505 are two rounds apart
        ((-2.509, None), "no improvement over 2 rounds"),
    ):
        close(campaign_id, 0, *energies)
        assert why(campaign_id) == end


def test_small_steps_add_up(start, close, why):
    campaign_id = start(budget=patient(3))
    for step in range(6):
        close(campaign_id, 0, -1.0 - 0.004 * step)
        assert why(campaign_id) is None
    close(campaign_id, 0, -1.0)
    close(campaign_id, 0, -1.0)
    assert why(campaign_id) == "no improvement over 3 rounds"


@pytest.mark.parametrize(
    ("least", "end"), [(0.0, None), (0.004, None), (0.006, "no improvement over 1 round")]
)
def test_what_counts_as_an_improvement(start, close, why, least, end):
    campaign_id = start(budget=patient(1, improvement=least))
    close(campaign_id, 0, -1.0)
    close(campaign_id, 0, -1.005)
    assert why(campaign_id) == end


def test_without_the_key_and_without_an_energy_nothing_ends(start, close, why):
    keyless = start("keyless", budget={"rounds": 20, "evaluations": 100})
    unlucky = start("unlucky", budget=patient(1), share=False)
    for _ in range(2):
        close(keyless, 0, -1.0)
        close(unlucky, 0, None)
    assert why(keyless) is None
    assert why(unlucky) is None
    close(unlucky, 0, -1.0)
    assert why(unlucky) is None


def test_independent_chains_end_each_for_itself(start, close, why):
    campaign_id = start(share=False, budget=patient(1, chains=2))
    close(campaign_id, 0, -1.0)
    close(campaign_id, 1, -3.0)
    close(campaign_id, 1, -4.0)
    close(campaign_id, 0, -1.0)
    assert why(campaign_id, 0) == "no improvement over 1 round"
    assert why(campaign_id, 1) is None


def test_chains_that_share_go_on_while_any_of_them_improves(start, close, why):
    campaign_id = start(share=True, budget=patient(1, chains=2))
    close(campaign_id, 0, -1.0)
    close(campaign_id, 1, -2.0)
    close(campaign_id, 0, -1.0)
    assert why(campaign_id, 0) is None  # the other found -2 since its first round
    close(campaign_id, 0, -1.0)
    assert why(campaign_id, 0) == "no improvement over 1 round"
    close(campaign_id, 1, -3.0)
    assert why(campaign_id, 0) is None


def test_the_planner_ends_the_campaign_and_says_why(start, close, opened, launchpad):
    campaign_id = start(budget=patient(1))
    close(campaign_id, 0, -1.0)
    close(campaign_id, 0, -1.0)
    for _ in range(3):  # whoever asks, and however often
        assert advance(opened, launchpad, campaign_id) == []
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert launchpad.workflows.count_documents({}) == 0
    assert len(rounds.rounds_of(opened, campaign_id)) == 2
    situation = look(opened, campaigns.get_campaign(opened, campaign_id))
    assert situation.ends == {0: "no improvement over 1 round"}
    assert waits(situation)[0].endswith("\nchain 0: no improvement over 1 round")


def test_killed_between_the_last_close_and_the_end(start, close, opened, launchpad):
    """The decision is not stored: who comes next decides the same, and an open chain is not touched."""
    campaign_id = start(share=False, budget=patient(1, chains=2))
    close(campaign_id, 0, -1.0)
    close(campaign_id, 0, -1.0)
    assert len(advance(opened, launchpad, campaign_id)) == 1  # of the other chain
    before = rounds.rounds_of(opened, campaign_id)
    assert [(r.chain, r.k) for r in before] == [(0, 0), (0, 1), (1, 0)]
    assert advance(opened, launchpad, campaign_id) == []
    assert rounds.rounds_of(opened, campaign_id) == before
    assert waits(look(opened, campaigns.get_campaign(opened, campaign_id)))[0] == (
        "chain 0 has ended with round 1: no improvement over 1 round"
    )


def test_another_number_in_the_file_goes_on(start, close, opened, launchpad, cheap_config, tmp_path):
    from godelta.workflows.submit import start as start_again

    campaign_id = start(budget=patient(1))
    close(campaign_id, 0, -1.0)
    close(campaign_id, 0, -1.0)
    advance(opened, launchpad, campaign_id)
    assert not start_again(opened, launchpad, campaign_id)
    register(opened, cheap_config(budget=patient(4)), tmp_path)
    assert start_again(opened, launchpad, campaign_id)
    assert rounds.last_round(opened, campaign_id, 0).k == 2


def test_best_lists_equivalent_structures_once(start, close, opened):
    campaign_id = start(budget={"rounds": 20, "evaluations": 100})
    close(campaign_id, 0, -5.0, (-4.99, 1), -4.9, None)
    close(campaign_id, 0, -4.95, (-5.1, 2), -4.0)
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    rows = best_minima(opened, campaign_id, level)
    assert [(row["rank"], row["energy"], row["found"]) for row in rows] == [
        (1, -5.1, 1), (2, -5.0, 3), (3, -4.99, 1), (4, -4.0, 1),
    ]  # fmt: skip
    assert best_minima(opened, campaign_id, level, 2) == rows[:2]
    assert best_minima(opened, "nobody", level) == []
    opened.structures.delete_one({"structure_id": rows[1]["structure_id"]})
    assert [(row["energy"], row["found"]) for row in best_minima(opened, campaign_id, level)] == [
        (-5.1, 1), (-5.0, 1), (-4.99, 1), (-4.95, 2), (-4.0, 1),
    ]  # fmt: skip


def test_as_many_as_are_asked_for_however_often_each_was_found(start, close, opened):
    campaign_id = start(budget={"rounds": 20, "evaluations": 1000})
    close(campaign_id, 0, *[-5.0 + 1e-4 * i for i in range(60)], (-4.9, 1), (-4.85, 1), (-4.0, 2))
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    rows = best_minima(opened, campaign_id, level, 3)
    assert [row["found"] for row in rows] == [60, 2, 1]


def test_what_independent_chains_have_not_seen(start, close, opened):
    campaign_id = start(share=False, budget={"chains": 3, "rounds": 20, "evaluations": 100})

    def low():
        document = campaigns.get_campaign(opened, campaign_id)
        return low_minima(opened, document, config_of(opened, campaign_id))

    assert low() is None
    close(campaign_id, 0, -5.0, -5.0, -4.9, (-4.8, 1))
    assert low().unseen.mass is None  # one chain
    close(campaign_id, 1, -5.0, (-4.5, 2), (-3.9, 3))
    close(campaign_id, 2, (-4.8, 1), -4.7)
    found = low()
    assert found.window == 1.0
    assert (found.unseen.chains, found.unseen.minima, found.unseen.observations) == (3, 3, 6)
    assert found.unseen.mass == pytest.approx(1 / 6)
    shared = start("shared", budget={"chains": 2, "rounds": 20, "evaluations": 100})
    close(shared, 0, -1.0)
    document = campaigns.get_campaign(opened, shared)
    assert low_minima(opened, document, config_of(opened, shared)) is None


def test_steps_towards_minima_are_no_discoveries(start, close, opened):
    gofee = {"method": "gofee", "follow_up": True}
    campaign_id = start(share=False, search=gofee, budget={"chains": 2, "rounds": 20, "evaluations": 100})
    document, config = campaigns.get_campaign(opened, campaign_id), config_of(opened, campaign_id)
    close(campaign_id, 0, -5.0, (-4.8, 1))
    close(campaign_id, 1, -5.0)
    before = low_minima(opened, document, config)
    assert before.unseen.mass == pytest.approx(1 / 3)
    close(campaign_id, 1, (-4.9, 2), (-4.8, 3), move="step")
    assert low_minima(opened, document, config) == before
    search = {"method": "rss", "relax_in": "reference", "batch": 2}
    plain = start("plain", share=False, search=search, budget={"chains": 2, "rounds": 20, "evaluations": 100})
    close(plain, 0, -5.0, (-4.8, 1))
    close(plain, 1, -5.0)
    assert low_minima(opened, campaigns.get_campaign(opened, plain), config_of(opened, plain)) is None


def test_a_chain_that_has_nothing_left_to_evaluate_says_why(start, close, opened):
    campaign_id = start(budget={"rounds": 20, "evaluations": 100})

    def told():
        return waits(look(opened, campaigns.get_campaign(opened, campaign_id)))

    close(campaign_id, 0, refused={"no finite energy": 3})
    close(campaign_id, 0, -1.0, refused={"no finite energy": 3})
    for _ in range(2):
        close(campaign_id, 0, refused={"equivalent to a selected structure": 4})
    assert not any("nothing to evaluate" in line for line in told())
    close(campaign_id, 0, refused={"equivalent to a selected structure": 4, "no finite energy": 1})
    said = (
        "chain 0: its last 3 rounds had nothing to evaluate:"
        " equivalent to a selected structure (12 candidates), no finite energy (1 candidate)"
    )
    assert said in told()
    campaigns.set_state(opened, campaign_id, "running", "finished")
    assert said in told()[0]


def test_older_campaigns_are_not_changed(cheap_config):
    plain = cheap_config().model_dump(mode="json")["budget"]
    assert not {"stop_without_improvement", "improvement"} & plain.keys()
    given = cheap_config(budget=patient(3, improvement=0.1))
    assert CampaignConfig.model_validate(given.model_dump(mode="json")) == given
    assert given.identity_hash() == cheap_config().identity_hash()
