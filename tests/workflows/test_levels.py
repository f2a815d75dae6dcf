"""Energies of different settings never mix: tried with references that differ in one number."""

import pytest

from godelta.errors import InputError
from godelta.store import campaigns, evaluations, models, rounds, structures
from godelta.workflows.planner import advance

DEPTH = 0.5
OTHER = 0.5001


def level(depth):
    return {
        "engine": "ase",
        "calculator": "ase.calculators.morse.MorsePotential",
        "arguments": {"epsilon": depth, "r0": 2.5, "rho0": 5.0},
    }


@pytest.fixture
def finished(start, opened, launchpad, take_jobs):
    """The document of a campaign that has ended; all have one seed, so they propose the same at first."""

    def run(name, depth):
        campaign_id = start(name, reference=level(depth))
        advance(opened, launchpad, campaign_id)
        take_jobs(campaign_id=campaign_id)
        document = campaigns.get_campaign(opened, campaign_id)
        assert document.state == "finished", document.reason
        return document

    return run


def selected(opened, document):
    return structures.selected_structures(opened, document.campaign_id)


@pytest.mark.slow
def test_campaigns_that_differ_in_one_number_share_nothing(finished, opened):
    one, other = finished("one", DEPTH), finished("other", OTHER)
    assert one.reference_hash != other.reference_hash
    assert (one.spent, other.spent) == (4, 4)
    common = {s.structure_hash for s in selected(opened, one)} & {
        s.structure_hash for s in selected(opened, other)
    }
    assert common  # or there would be nothing to mix
    for structure_hash in common:
        energies = [
            evaluations.get_evaluation(opened, structure_hash, document.reference_hash).energy
            for document in (one, other)
        ]
        assert energies[1] / energies[0] == pytest.approx(OTHER / DEPTH, rel=1e-9)
    for document in (one, other):
        own = {structure.structure_id for structure in selected(opened, document)}
        for round_ in rounds.rounds_of(opened, document.campaign_id):
            assert set(models.get_model(opened, round_.next_model_id).evaluation_ids) <= own
        paid = {
            evaluations.get_evaluation(opened, structure.structure_hash, document.reference_hash).energy
            for structure in selected(opened, document)
        }
        best = structures.best(opened, document.campaign_id, document.reference_hash, 10)
        assert {row["energy"] for row in best} == paid


def test_the_same_numbers_are_shared(finished):
    """What the test above would miss if nothing were ever shared."""
    assert finished("one", DEPTH).spent == 4
    assert finished("same", DEPTH).spent == 0


def test_no_campaign_learns_from_another_level(finished, start):
    finished("one", DEPTH)
    with pytest.raises(InputError, match="reference"):
        start("learner", reference=level(OTHER), delta={"pretrain_from": ["one"]})
