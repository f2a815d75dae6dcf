"""A reference that fails for every S-S distance below 2.2 Å, through the real engine."""

from pathlib import Path

import pytest

from godelta.analysis.duplicates import distinct
from godelta.store import campaigns, evaluations, models, rounds
from godelta.store.failures import failed_structures
from godelta.store.structures import get_structures
from godelta.workflows.planner import advance

ROUNDS = 6


@pytest.fixture(autouse=True)
def _calculators(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.fixture
def finished(start, opened, launchpad, take_jobs):
    """The document of a campaign that has ended."""

    def run(name="teach"):
        campaign_id = start(
            name,
            system={"formula": "Ag3S3", "confinement": 7.0},
            foundation={"calculator": "short_sulfur.Morse"},
            delta={"inducing_points": 200},
            search={"structures_per_round": 8, "batch": 8, "relax": {"steps": 40},
                    "selection": {"evaluations_per_round": 3}},
            reference={"engine": "ase", "calculator": "short_sulfur.Reference"},
            budget={"rounds": ROUNDS, "evaluations": 3 * ROUNDS},
            share=False,
        )  # fmt: skip
        for _ in range(ROUNDS):
            advance(opened, launchpad, campaign_id)
            take_jobs(campaign_id=campaign_id, idle_seconds=0.1)
            document = campaigns.get_campaign(opened, campaign_id)
            if document.state != "running":
                return document
        raise AssertionError(document)

    return run


@pytest.mark.slow
def test_it_finishes_and_no_failure_comes_twice(finished, opened):
    document = finished()
    assert document.state == "finished", document.reason
    own = rounds.rounds_of(opened, document.campaign_id)
    failed = failed_structures(opened, document.campaign_id, document.reference_hash)
    assert failed
    atoms = [structure.atoms() for structure in failed]
    assert distinct(atoms, len(atoms)) == list(range(len(atoms)))
    bad = {structure.structure_id for structure in failed}
    selected = [structure_id for round_ in own for structure_id in round_.selection]
    assert all(selected.count(structure_id) == 1 for structure_id in bad)
    for structure in failed:
        evaluation = evaluations.get_evaluation(opened, structure.structure_hash, document.reference_hash)
        assert (evaluation.reason, len(evaluation.attempts)) == ("not_converged", 1)
    counts = [len(bad & set(round_.selection)) for round_ in own]
    assert sum(counts[: ROUNDS // 2]) > 2 * sum(counts[ROUNDS // 2 :])
    last = models.get_model(opened, own[-1].next_model_id)
    assert set(last.failed_ids) == bad


@pytest.mark.slow
def test_the_same_seed_fails_the_same_way(finished, opened):
    picks = []
    for name in ("a", "b"):
        own = rounds.rounds_of(opened, finished(name).campaign_id)
        picks.append([s.structure_hash for r in own for s in get_structures(opened, r.selection)])
    assert sorted(picks[0]) == sorted(picks[1])
