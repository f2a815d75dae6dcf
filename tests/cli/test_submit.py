"""`godelta submit` of many files at once."""

import sys

import pytest

from godelta.store import campaigns


@pytest.fixture
def submit(inside, workspace, monkeypatch):
    for name in ("FW_CONFIG_FILE", "JOBFLOW_CONFIG_FILE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")  # so that they are put back
    return lambda *files: inside("submit", *files, "-w", workspace.folder)


def test_many_and_one_that_cannot_be(submit, write_campaign, opened):
    files = [write_campaign(f"{n}.yaml", name=f"c{n}", seed=n, budget={"chains": 2}) for n in range(24)]
    # EMT knows no lead; only the reference tells.
    bad = write_campaign("bad.yaml", name="bad", reference={"engine": "emt"}, system={"formula": "Cu3Pb"})
    before = sys.stderr
    answer = submit(*files[:12], bad, *files[12:])
    assert sys.stderr is before
    assert answer.code == 1
    assert "24 campaigns are in the queue" in answer.out
    assert answer.out.count("not submitted") == 1
    assert str(bad) in answer.out.replace("\n", "")
    known = {campaign.name: campaign.state for campaign in campaigns.list_campaigns(opened)}
    assert known == {f"c{n}": "running" for n in range(24)}
    workflows = list(opened.db["workflows"].find({}, {"metadata": 1, "nodes": 1}))
    assert len({one["metadata"]["godelta"] for one in workflows}) == len(workflows) == 48
    jobs = [node for one in workflows for node in one["nodes"]]
    assert len(set(jobs)) == len(jobs) == opened.db["fireworks"].count_documents({})


def test_twice_changes_nothing(submit, write_campaign, opened):
    files = [write_campaign(f"{n}.yaml", name=f"c{n}", seed=n) for n in range(3)]
    assert submit(*files).code == 0
    before = opened.db["fireworks"].count_documents({})
    answer = submit(*files)
    assert answer.code == 0
    assert answer.out.count("is in the queue") == 3
    assert opened.db["fireworks"].count_documents({}) == before


def test_one_that_cannot_be_says_why(submit, write_campaign):
    answer = submit(write_campaign("bad.yaml", name="bad", system={"formula": "Cu3Pb"}))
    assert answer.code == 2
    assert "Pb" in answer.err


def test_jobs_are_found_by_index(submit, write_campaign, opened):
    submit(*[write_campaign(f"{n}.yaml", name=f"c{n}", seed=n) for n in range(12)])
    campaign = campaigns.get_campaign(opened, "c0")

    def examined(query, sort):
        plan = opened.db["fireworks"].find(query).sort(sort).explain()
        return plan["executionStats"]["totalDocsExamined"]

    by_campaign = {"spec.godelta_campaign": campaign.campaign_id, "state": "READY"}
    assert examined(by_campaign, [("_id", 1)]) == 1
    others = {"state": "READY", "spec._category": {"$in": ["evaluate-emt", "light"]}}
    assert examined(others, [("spec._priority", -1), ("created_on", 1)]) == 0
