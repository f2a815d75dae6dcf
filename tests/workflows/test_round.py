"""The round's workflow: small documents, a category for every job, nothing but ids between jobs."""

import bson
import pytest

from godelta.store import campaigns
from godelta.store.documents import RoundKey
from godelta.workflows.planner import advance
from godelta.workflows.round import CAMPAIGN_FIELD, RoundFlowMaker, categories, round_workflow, slot_batches

KEY = RoundKey("c" * 24, 0, 3)


def test_jobs_of_a_round(cheap_config):
    flow = RoundFlowMaker().make(KEY, 2, cheap_config())
    assert [job.name for job in flow.jobs] == ["search", "select", "evaluate", "retrain", "advance_campaign"]
    assert all(job.config.manager_config[CAMPAIGN_FIELD] == KEY.campaign_id for job in flow.jobs)


@pytest.mark.parametrize(
    ("count", "per_job", "engine", "expected"),
    [
        (5, None, "emt", [5]),
        (25, None, "emt", [10, 10, 5]),
        (3, None, "gpaw", [1, 1, 1]),
        (5, 2, "emt", [2, 2, 1]),
        (1, 1, "gpaw", [1]),
    ],
)
def test_every_slot_is_in_one_job(cheap_config, count, per_job, engine, expected):
    config = cheap_config(
        search={"selection": {"evaluations_per_round": count}},
        reference={"engine": engine},
        resources={"evaluations_per_job": per_job},
    )
    batches = slot_batches(config)
    assert [len(batch) for batch in batches] == expected
    assert [slot for batch in batches for slot in batch] == list(range(count))


def test_the_same_round_is_the_same_graph(cheap_config):
    links = []
    for _ in range(2):
        workflow = round_workflow(KEY, 0, cheap_config())
        names = {firework.fw_id: firework.name for firework in workflow.fws}
        links.append(
            sorted((names[a], sorted(names[b] for b in children)) for a, children in workflow.links.items())
        )
    assert links[0] == links[1]
    assert workflow.metadata["godelta"] == f"{KEY.campaign_id}/0/3/0"


def test_every_firework_of_a_campaign(start, opened, launchpad, take_jobs, cheap_config):
    changes = {
        "search": {"structures_per_round": 12, "selection": {"evaluations_per_round": 4}},
        "resources": {"evaluations_per_job": 2},
    }
    campaign_id = start(**changes)
    advance(opened, launchpad, campaign_id)
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    fireworks = list(launchpad.fireworks.find())
    assert len(fireworks) == 2 * 6
    allowed = set(categories(cheap_config(**changes)).values())
    for firework in fireworks:
        assert firework["state"] == "COMPLETED"
        assert firework["spec"]["_category"] in allowed
        assert firework["spec"][CAMPAIGN_FIELD] == campaign_id
        assert len(bson.encode(firework)) < 20_000
        assert not floats_of(firework["spec"]["_tasks"])
    launches = list(launchpad.launches.find())
    assert max(len(bson.encode(launch)) for launch in launches) < 20_000
    for output in launchpad.db["job_outputs"].find():
        assert len(bson.encode(output)) < 20_000
        assert not floats_of(output["output"])


def floats_of(value):
    """All floats in a nested value: there would be positions or energies among them."""
    if isinstance(value, dict):
        return [number for inner in value.values() for number in floats_of(inner)]
    if isinstance(value, list | tuple):
        return [number for inner in value for number in floats_of(inner)]
    return [value] if isinstance(value, float) else []


def test_workers_take_only_their_categories_and_campaign(start, opened, launchpad, take_jobs):
    first, second = start("first"), start("second", seed=9)
    for campaign_id in (first, second):
        advance(opened, launchpad, campaign_id)
    assert take_jobs(category=["evaluate-gpaw"]) == 0
    assert take_jobs(category=["search-ase"]) == 4  # search and select of both
    states = {raw["name"]: raw["state"] for raw in launchpad.fireworks.find()}
    assert states["evaluate"] == "READY"
    campaigns.set_state(opened, second, "running", "paused")
    assert take_jobs(campaign_id=second) == 0  # it leaves at once
    take_jobs(campaign_id=first, idle_seconds=2.0)
    assert campaigns.get_campaign(opened, first).state == "finished"
    left = launchpad.fireworks.find({"state": "READY"})
    assert {raw["spec"][CAMPAIGN_FIELD] for raw in left} == {second}
