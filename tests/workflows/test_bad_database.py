"""A database that has been hurt: blobs damaged or lost, indexes dropped, written by other versions."""

import logging
from pathlib import Path

import pytest
from pymongo.errors import DuplicateKeyError

from godelta.errors import GodeltaError
from godelta.store import campaigns, evaluations, rounds
from godelta.store.database import connect
from godelta.store.documents import SCHEMA_VERSION
from godelta.workflows.planner import advance
from godelta.workflows.submit import register


def damage(store, blob_id, how):
    """Hurt a stored blob in one of three ways."""
    if how == "flipped":
        chunk = store.db["blobs.chunks"].find_one({"files_id": blob_id, "n": 0})
        data = bytearray(chunk["data"])
        data[len(data) // 2] ^= 0xFF
        store.db["blobs.chunks"].update_one({"_id": chunk["_id"]}, {"$set": {"data": bytes(data)}})
    elif how == "chunk lost":
        store.db["blobs.chunks"].delete_one({"files_id": blob_id, "n": 0})
    else:
        store.db["blobs.files"].delete_one({"_id": blob_id})


HOW = ["flipped", "chunk lost", "file lost"]


@pytest.fixture
def first_round(start, opened, launchpad, take_jobs):
    """A campaign after its first round, its Δ-model trained; its id."""
    campaign_id = start(rex=True, budget={"rounds": 1})
    advance(opened, launchpad, campaign_id)
    take_jobs(campaign_id=campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    config = campaigns.get_campaign(opened, campaign_id).config
    config["budget"]["rounds"] = 2
    opened.campaigns.update_one(
        {"campaign_id": campaign_id}, {"$set": {"config": config, "state": "running"}}
    )
    return campaign_id


@pytest.fixture
def complete(opened, launchpad, take_jobs):
    """Run a campaign's second round; the campaign finishes, whatever was damaged."""

    def go(campaign_id):
        advance(opened, launchpad, campaign_id)
        take_jobs(campaign_id=campaign_id)
        assert campaigns.get_campaign(opened, campaign_id).state == "finished"
        own = rounds.rounds_of(opened, campaign_id)
        assert [(r.state, r.failures) for r in own] == [("closed", 0)] * 2
        return own

    return go


@pytest.mark.parametrize("how", ["flipped", *(pytest.param(h, marks=pytest.mark.slow) for h in HOW[1:])])
def test_a_damaged_model_is_trained_anew(opened, first_round, complete, caplog, how):
    model_id = rounds.rounds_of(opened, first_round)[0].next_model_id
    damage(opened, opened.models.find_one({"model_id": model_id})["blob"], how)
    with caplog.at_level(logging.WARNING):
        _, second = complete(first_round)
    assert second.model_id == model_id  # the same evaluations, the same model
    assert "trained anew" in caplog.text
    assert opened.structures.count_documents({"round": 1, "model_id": model_id}) > 0


@pytest.mark.parametrize("how", [*(pytest.param(h, marks=pytest.mark.slow) for h in HOW[:2]), HOW[2]])
def test_damaged_walkers_begin_anew(opened, first_round, complete, caplog, how):
    damage(opened, rounds.rounds_of(opened, first_round)[0].search_state, how)
    with caplog.at_level(logging.WARNING):
        complete(first_round)
    assert "walkers of a round are missing or damaged" in caplog.text
    counts = evaluations.counts(
        opened, first_round, campaigns.get_campaign(opened, first_round).reference_hash
    )
    assert counts["ok"] >= 3


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_problem_is_stored_again_from_the_campaign_file(opened, cheap_config, how):
    campaign = register(opened, cheap_config(), Path())
    whole = campaigns.load_problem(opened, campaign.campaign_id)
    damage(opened, campaign.problem, how)
    with pytest.raises(GodeltaError, match="missing or damaged") as caught:
        campaigns.load_problem(opened, campaign.campaign_id)
    assert caught.value.where == campaign.name
    assert "godelta run" in caught.value.mend
    again = register(opened, cheap_config(), Path())
    assert again.campaign_id == campaign.campaign_id
    assert campaigns.load_problem(opened, campaign.campaign_id) == whole
    assert opened.db["blobs.files"].count_documents({}) == 1
    assert register(opened, cheap_config(), Path()).problem == again.problem


def test_missing_indexes_are_made_when_the_workspace_is_opened(workspace, opened, cheap_config):
    register(opened, cheap_config(), Path())
    ours = [name for name in opened.db.list_collection_names() if not name.startswith("blobs.")]
    before = {name: sorted(opened.db[name].index_information()) for name in ours}
    for name in before:
        opened.db[name].drop_indexes()
    store = workspace.connect()
    assert before == {name: sorted(store.db[name].index_information()) for name in before}
    raw = store.campaigns.find_one({}, {"_id": 0})
    with pytest.raises(DuplicateKeyError):
        store.campaigns.insert_one(raw)
    store.close()


def test_duplicates_that_forbid_an_index_are_named(workspace, opened, cheap_config):
    register(opened, cheap_config(name="twin"), Path())
    opened.campaigns.drop_indexes()
    opened.campaigns.insert_one(opened.campaigns.find_one({}, {"_id": 0}))
    with pytest.raises(GodeltaError) as caught:
        workspace.connect()
    message = str(caught.value)
    assert "campaigns" in message
    assert "twin" in message
    assert "backup" in caught.value.mend


def test_a_database_of_a_newer_version_is_refused_at_once(workspace, opened, mongod_uri):
    opened.db["meta"].update_one({"_id": "schema"}, {"$set": {"version": SCHEMA_VERSION + 1}})
    with pytest.raises(GodeltaError, match=f"version {SCHEMA_VERSION + 1}") as caught:
        connect(mongod_uri, opened.db.name)
    assert "upgrade" in caught.value.mend
    with pytest.raises(GodeltaError, match="upgrade"):
        workspace.connect()


def test_a_database_without_a_version_is_ours_and_gets_one(workspace, opened, cheap_config):
    register(opened, cheap_config(), Path())
    opened.db["meta"].delete_many({})
    store = workspace.connect()
    assert store.db["meta"].find_one({"_id": "schema"})["version"] == SCHEMA_VERSION
    assert len(campaigns.list_campaigns(store)) == 1
    store.close()


@pytest.mark.parametrize("version", ["two", None, 1.5, [], True])
def test_a_garbled_version_is_refused(workspace, opened, version):
    opened.db["meta"].update_one({"_id": "schema"}, {"$set": {"version": version}})
    with pytest.raises(GodeltaError, match="version") as caught:
        workspace.connect()
    assert caught.value.mend


@pytest.mark.parametrize(
    "hurt",
    [
        {"$set": {"state": "dancing"}},
        {"$unset": {"config": ""}},
        {"$set": {"schema_version": SCHEMA_VERSION + 1}},
        {"$set": {"unknown": 1}},
        {"$set": {"spent": -3}},
        {"$set": {"schema_version": "new"}},
    ],
)
def test_a_document_that_somebody_changed_by_hand(opened, cheap_config, hurt):
    register(opened, cheap_config(name="changed"), Path())
    opened.campaigns.update_one({}, hurt)
    with pytest.raises(GodeltaError) as caught:
        campaigns.get_campaign(opened, "changed")
    assert "CampaignDocument" in caught.value.what
    assert "changed" in (caught.value.where or "")
    assert caught.value.mend
