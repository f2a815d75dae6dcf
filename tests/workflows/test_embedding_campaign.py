"""A whole campaign on CHGNet with a Δ-model on its features, through the real engine."""

import numpy as np
import pytest

from godelta.store import campaigns, evaluations, models, rounds
from godelta.workflows.planner import advance


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["global", "atomic"])
def test_it_finishes_and_learns(require, start, opened, launchpad, take_jobs, aggregation):
    require("chgnet")
    campaign_id = start(
        foundation={"name": "chgnet"},
        delta={"descriptor": "embedding", "aggregation": aggregation},
        system={"box": 12.0},
        search={"relax": {"steps": 4}},
    )
    while campaigns.get_campaign(opened, campaign_id).state == "running":
        advance(opened, launchpad, campaign_id)
        take_jobs(campaign_id=campaign_id, idle_seconds=0.1)
    document = campaigns.get_campaign(opened, campaign_id)
    assert document.state == "finished", document.reason
    first, second = rounds.rounds_of(opened, campaign_id)
    assert first.next_model_id == second.model_id
    trained = [models.get_model(opened, one.next_model_id) for one in (first, second)]
    assert [model.metrics["n_structures"] for model in trained] == [2, 4]
    pairs = evaluations.training_set(opened, campaign_id, document.reference_hash)
    proposed = [s for s, _ in pairs if s.structure_id in second.selection]
    assert len(proposed) == 2
    for structure in proposed:
        assert np.isfinite(structure.uncertainty)
        assert structure.uncertainty > 0
        assert abs(structure.model_energy - structure.foundation_energy) > 1e-3
