"""Counts of a refinement, and the way back from a step, from made-up rounds."""

from datetime import UTC, datetime

import pytest

from godelta.store.documents import REFINEMENT_CHAIN, chain_number, chain_title
from godelta.store.overview import overviews
from godelta.store.progress import snapshot
from godelta.store.refining import RefinementCount, RefinementSteps, count_of_rounds, latest_tracks

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def raw(k, state, selection, statuses=None):
    tracks = [{"start": f"s{i}", "at": f"a{i}", "status": status} for i, status in enumerate(statuses or ())]
    statistics = {} if statuses is None else {"refinement": {"tracks": tracks}}
    place = {"chain": REFINEMENT_CHAIN, "k": k, "state": state}
    return {**place, "selection": selection, "statistics": statistics}


def test_names_of_chains():
    assert [chain_number(chain) for chain in (0, 7, REFINEMENT_CHAIN)] == ["0", "7", "refine"]
    assert [chain_title(chain) for chain in (3, REFINEMENT_CHAIN)] == ["chain 3", "refinement"]


@pytest.mark.parametrize(
    ("rounds", "state", "said", "evaluations"),
    [
        ([raw(0, "planned", [])], "running", "refining: the first steps are not made yet", 0),
        ([raw(0, "evaluating", ["a", "b"], ["running"] * 2)], "running", "refining: 0 of 2 converged", 2),
        # What the round under way has not told yet is what the one before has told.
        (
            [raw(0, "closed", ["a", "b"], ["converged", "running"]), raw(1, "searching", [])],
            "paused",
            "refining: 1 of 2 converged",
            2,
        ),
        (
            [raw(0, "closed", ["a"], ["running"]), raw(1, "closed", [], ["stuck", "spent", "converged"])],
            "running",
            "refined: 1 of 3 converged, 1 spent, 1 stuck",
            1,
        ),
        ([raw(0, "evaluating", ["a"], ["running"])], "cancelled", "refined: 0 of 1 converged", 1),
        ([raw(0, "closed", [], [])], "finished", "refined: nothing", 0),
    ],
)
def test_a_count_says_how_far_it_is(rounds, state, said, evaluations):
    count = count_of_rounds(rounds, state)
    assert (str(count), count.evaluations) == (said, evaluations)
    assert count_of_rounds([], state) is None


def test_statuses_come_in_one_order():
    count = RefinementCount.of(["failed", "running", "converged", "running"], 9, "closed", "running")
    assert list(count.statuses.items()) == [("converged", 1), ("running", 2), ("failed", 1)]
    assert (count.structures, count.active) == (4, True)


def test_steps_lead_back_to_the_start():
    before = {"b": "a", "c": "b", "up": "b", "x": "y", "y": "x"}
    steps = RefinementSteps(before, [{"start": "a", "at": "c"}])
    assert steps.path("c") == ["a", "b", "c"]
    assert steps.path("up") == ["a", "b", "up"]
    assert [steps.start_of(one) for one in ("a", "c", "up", "other")] == ["a", "a", "a", "other"]
    assert steps.track_of("up") == {"start": "a", "at": "c"}
    assert steps.track_of("x") is None  # damaged: nothing that leads in a circle is followed for ever


def test_a_status_of_all_and_the_progress_of_one_agree(store, make_campaign):
    campaign_id = make_campaign(budget=10).campaign_id
    for document in (
        raw(0, "closed", ["a", "b"], ["running", "running"]),
        raw(1, "closed", ["b", "c"], ["converged", "running"]),  # b was refused, and is asked for again
        raw(2, "planned", []),
    ):
        store.rounds.insert_one(
            {
                "campaign_id": campaign_id,
                **document,
                "epoch": 0,
                "failures": 0,
                "progress": {},
                "timings": {},
                "planned_at": NOW,
                "changed_at": NOW,
            }
        )
    (overview,) = overviews(store)
    progress = snapshot(store, campaign_id)
    assert overview.refinement == progress.refinement
    assert overview.refinement == RefinementCount(2, {"converged": 1, "running": 1}, 3, active=True)
    assert overview.budget == progress.budget == 10 + 3
    assert (overview.closed_rounds, progress.closed_rounds) == (0, 0)
    assert [track["status"] for track in latest_tracks(store, campaign_id)] == ["converged", "running"]
