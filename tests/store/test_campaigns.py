"""Campaigns: one per name, resumed only as themselves, never overspent."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from godelta.errors import GodeltaError, InputError
from godelta.store import campaigns
from godelta.store.database import Store


def test_the_same_campaign_is_found_again_with_its_new_budget(store: Store, make_campaign) -> None:
    first = make_campaign("a", budget=10)
    again = make_campaign("a", budget=50)
    assert again.campaign_id == first.campaign_id
    assert again.config["budget"] == {"evaluations": 50}
    assert campaigns.get_campaign(store, "a") == again == campaigns.get_campaign(store, first.campaign_id)
    assert store.campaigns.count_documents({}) == store.db["blobs.files"].count_documents({}) == 1
    assert campaigns.load_problem(store, first.id) == b"problem"


def test_another_identity_under_the_same_name_is_refused_with_a_diff(store: Store, make_campaign) -> None:
    make_campaign("a", seed=1, search={"method": "rex", "walkers": 10, "relax": {"steps": 5}})
    with pytest.raises(InputError) as caught:
        make_campaign("a", seed=2, search={"method": "rex", "walkers": 10, "relax": {"steps": 7}, "kT": 1.0})
    text = str(caught.value)
    assert "seed: 1 -> 2" in text
    assert "search.relax.steps: 5 -> 7" in text
    assert "search.kT: (absent) -> 1.0" in text
    assert "walkers" not in text
    assert "another name" in text
    assert campaigns.get_campaign(store, "a").identity["seed"] == 1


def test_another_version_of_the_engine_is_another_identity(store: Store, make_campaign) -> None:
    make_campaign("a")
    with pytest.raises(InputError, match="version of the reference engine"):
        make_campaign("a", reference_hash="q" * 64)


def test_creating_at_once_gives_one_campaign(store: Store, make_campaign) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = {item.campaign_id for item in pool.map(lambda _: make_campaign("a"), range(8))}
    assert len(ids) == 1
    assert store.db["blobs.files"].count_documents({}) == 1


def test_unknown_campaigns_are_errors_that_name_the_known_ones(store: Store, make_campaign) -> None:
    with pytest.raises(InputError, match="no campaign yet"):
        campaigns.get_campaign(store, "a")
    make_campaign("b")
    make_campaign("a")
    with pytest.raises(InputError, match="there are: a, b"):
        campaigns.get_campaign(store, "c")
    assert campaigns.find_campaign(store, "c") is None
    assert [item.name for item in campaigns.list_campaigns(store)] == ["b", "a"]


def test_a_lost_problem_is_an_error(store: Store, make_campaign) -> None:
    campaign = make_campaign()
    store.db["blobs.chunks"].delete_many({})
    with pytest.raises(GodeltaError, match="search problem"):
        campaigns.load_problem(store, campaign.id)


def test_states_change_only_from_what_is_expected(store: Store, make_campaign) -> None:
    campaign = make_campaign()
    assert not campaigns.set_state(store, campaign.id, "running", "finished")
    assert campaigns.set_state(store, campaign.id, ("created", "paused"), "running")
    assert campaigns.set_state(store, campaign.id, "running", "failed", reason="$no disk")
    failed = campaigns.get_campaign(store, campaign.id)
    assert (failed.state, failed.reason) == ("failed", "$no disk")
    assert campaigns.set_state(store, campaign.id, ("failed",), "running")
    assert campaigns.get_campaign(store, campaign.id).reason is None


def test_a_finished_campaign_is_taken_up_again_only_with_other_settings(store: Store, make_campaign) -> None:
    campaign = make_campaign("a", budget=10)
    campaigns.set_state(store, campaign.id, "created", "finished")
    make_campaign("a", budget=10)
    assert not campaigns.reopen(store, campaign.id)
    make_campaign("a", budget=20)
    assert campaigns.reopen(store, campaign.id)
    assert campaigns.get_campaign(store, campaign.id).state == "paused"
    assert not campaigns.reopen(store, campaign.id)


def test_times_add_up(store: Store, make_campaign) -> None:
    campaign = make_campaign()
    campaigns.add_time(store, campaign.id, elapsed_s=2.0, worker_s=4.0)
    campaigns.add_time(store, campaign.id, worker_s=1.0)
    now = campaigns.get_campaign(store, campaign.id)
    assert (now.elapsed_s, now.worker_s) == (2.0, 5.0)


def test_reservations_settle_or_go_back(store: Store, make_campaign) -> None:
    c = make_campaign().campaign_id
    assert campaigns.reserve_evaluation(store, c, 2, "h1")
    assert campaigns.reserve_evaluation(store, c, 2, "h2")
    assert not campaigns.reserve_evaluation(store, c, 2, "h3")
    assert campaigns.reserve_evaluation(store, c, 2, "h1"), "whoever takes over finds the reservation"
    assert campaigns.release_evaluation(store, c, "h1")
    assert not campaigns.release_evaluation(store, c, "h1")
    assert campaigns.reserve_evaluation(store, c, 2, "h3")
    assert campaigns.settle_evaluation(store, c, "h2")
    assert not campaigns.settle_evaluation(store, c, "h2"), "settling twice counts once"
    now = campaigns.get_campaign(store, c)
    assert (now.spent, now.reserved) == (1, ("h3",))
    assert not campaigns.reserve_evaluation(store, "nobody", 2, "h1")


def test_concurrent_workers_never_overspend_and_use_the_whole_budget(store: Store, make_campaign) -> None:
    c, limit = make_campaign().campaign_id, 37
    worst: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            now = campaigns.get_campaign(store, c)
            worst.append(now.spent + len(now.reserved))

    def work(number: int) -> int:
        key = f"h{number}"
        if not campaigns.reserve_evaluation(store, c, limit, key):
            return 0
        if number % 5 == 0:
            campaigns.release_evaluation(store, c, key)
            return 0
        return int(campaigns.settle_evaluation(store, c, key))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(8) as pool:
        paid = sum(pool.map(work, range(150)))
    # What was given back after the last one had been refused is there for those who come later.
    paid += sum(map(work, range(150, 180)))
    stop.set()
    watcher.join()
    now = campaigns.get_campaign(store, c)
    assert (paid, now.spent, now.reserved) == (limit, limit, ())
    assert max(worst) <= limit


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["a.b: [1, 2] -> [1, 3]"]),
        ({"a": {"b": 1}}, {"a": None}, ["a: (absent) -> None", "a.b: 1 -> (absent)"]),
        ({"a": {}}, {"a": {"b": "x"}}, ["a: {} -> (absent)", "a.b: (absent) -> 'x'"]),
    ],
)
def test_changes_of_identity_are_lines_for_people(
    old: dict[str, object], new: dict[str, object], lines: list[str]
) -> None:
    assert campaigns.identity_changes(old, new) == lines
