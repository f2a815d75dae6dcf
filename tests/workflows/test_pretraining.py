"""A campaign that learns from others before its first round."""

import pytest
from pydantic import ValidationError

from godelta.campaign import CampaignConfig
from godelta.delta.settings import DeltaSettings
from godelta.errors import InputError
from godelta.store import campaigns, models, pretraining, rounds, structures
from godelta.store.blobs import DamagedError, delete_blob
from godelta.store.database import connect
from godelta.store.documents import RoundKey
from godelta.store.transfer import export_campaign, import_campaign
from godelta.workflows.planner import advance

LEARNER = {"name": "learner", "seed": 9, "budget": {"rounds": 1}}


def pretrained_by(*names, **others):
    return LEARNER | {"delta": {"pretrain_from": list(names)}} | others


@pytest.fixture
def teacher(start, opened, launchpad, take_jobs):
    campaign_id = start("teacher")
    advance(opened, launchpad, campaign_id)
    take_jobs()
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    return campaign_id


def first_model(opened, campaign_id):
    round_ = rounds.get_round(opened, RoundKey(campaign_id, 0, 0))
    return models.get_model(opened, round_.model_id)


def test_the_first_search_runs_on_what_others_have_learnt(teacher, start, opened, launchpad, take_jobs):
    campaign_id = start(**pretrained_by("teacher"))
    advance(opened, launchpad, campaign_id)
    take_jobs()
    campaign = campaigns.get_campaign(opened, campaign_id)
    assert campaign.state == "finished", campaign.reason
    taught = {one.structure_id for one in structures.selected_structures(opened, teacher)}
    assert len(taught) == 4
    assert set(first_model(opened, campaign_id).evaluation_ids) == taught
    round_ = rounds.get_round(opened, RoundKey(campaign_id, 0, 0))
    proposed = structures.get_structures(opened, round_.selection)
    assert all(one.uncertainty is not None for one in proposed)
    last = models.get_model(opened, round_.next_model_id)
    assert set(last.evaluation_ids) == taught | set(round_.selection)
    assert campaign.spent == 2  # what others have paid for is free


def test_what_it_was_given_stays_with_it(
    teacher, start, opened, launchpad, take_jobs, mongod_uri, workspace, tmp_path
):
    """Also where the teacher learns more later, and in another database without the teacher."""
    campaign_id = start(**pretrained_by("teacher"))
    kept = campaigns.get_campaign(opened, campaign_id).pretraining
    before = pretraining.load(opened, kept)
    start("teacher", budget={"rounds": 3})
    campaigns.reopen(opened, teacher)
    advance(opened, launchpad, teacher)
    take_jobs(campaign_id=teacher)
    assert start(**pretrained_by("teacher")) == campaign_id
    assert campaigns.get_campaign(opened, campaign_id).pretraining == kept
    export_campaign(opened, "learner", tmp_path / "learner.zip")
    there = connect(mongod_uri, f"{opened.db.name}_there")
    there.ensure_indexes()
    try:
        import_campaign(there, tmp_path / "learner.zip")
        imported = campaigns.get_campaign(there, "learner")
        assert pretraining.load(there, imported.pretraining) == before
    finally:
        there.db.client.drop_database(there.db.name)
        there.close()


def test_only_what_fits_is_learnt(teacher, start, opened, take_jobs, launchpad):
    """Other elements are left out, as is what lies above the most that is asked for."""
    other = start("other", system={"formula": "Cu4"}, budget={"rounds": 1})
    advance(opened, launchpad, other)
    take_jobs()
    assert campaigns.get_campaign(opened, other).state == "finished"

    def taught(name, wanted, **changes):
        made = start(name, delta={"pretrain_from": wanted}, **changes)
        pairs = pretraining.load(opened, campaigns.get_campaign(opened, made).pretraining)
        assert [e.structure_hash for _, e in pairs] == sorted(s.structure_hash for s, _ in pairs)
        return sorted((e.formula, e.energy) for _, e in pairs)

    everything = taught("a", ["teacher", "other"])
    assert [formula for formula, _ in everything] == ["AgCu3"] * 4 + ["Cu4"] * 2
    copper = [pair for pair in everything if pair[0] == "Cu4"]
    assert taught("b", ["teacher", "other"], system={"formula": "Cu5"}) == copper
    assert taught("c", {"formula": "Cu4"}) == copper
    lowest = taught("d", {"formula": "Cu3Ag", "at_most": 2})
    assert lowest == sorted(everything[:4], key=lambda pair: pair[1])[:2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"reference": {"engine": "ase", "calculator": "ase.calculators.lj.LennardJones"}},
            "another reference",
        ),
        (
            {"foundation": {"name": "ase", "calculator": "ase.calculators.lj.LennardJones"}},
            "another foundation",
        ),
        ({"system": {"formula": "Pt4"}}, "no evaluation of the same foundation, reference and elements"),
        ({"delta": {"pretrain_from": ["nobody"]}}, "nobody"),
        ({"delta": {"pretrain_from": {"tags": ["unheard-of"]}}}, "no evaluation of the same"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(teacher, start, opened, changes, said):
    with pytest.raises(InputError, match=said):
        start(**pretrained_by("teacher") | changes)
    assert campaigns.find_campaign(opened, "learner") is None


def test_damaged_evaluations_are_noticed(teacher, start, opened):
    campaign = campaigns.get_campaign(opened, start(**pretrained_by("teacher")))
    delete_blob(opened, campaign.pretraining)
    with pytest.raises(DamagedError, match="pretrained on"):
        pretraining.load(opened, campaign.pretraining)


def test_the_key_in_the_file(cheap):
    def asked(wanted):
        return DeltaSettings(pretrain_from=wanted).pretrain_from

    assert asked("one").campaigns == ("one",)
    assert asked(["one", "two"]).campaigns == ("one", "two")
    assert asked({"tags": ["good"], "at_most": 7}).at_most == 7
    with pytest.raises(ValidationError, match="name campaigns, tags or a formula"):
        asked({"at_most": 7})
    # Campaigns from before are hashed without it; with it, another campaign it is.
    assert "pretrain_from" not in DeltaSettings().model_dump(mode="json")
    config = CampaignConfig.model_validate(cheap())
    taught = CampaignConfig.model_validate(cheap(delta={"pretrain_from": "one"}))
    assert config.identity_hash() != taught.identity_hash()
    assert CampaignConfig.model_validate(taught.model_dump(mode="json")) == taught
