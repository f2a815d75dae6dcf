"""What the engine costs besides the work: per round, per evaluation, per hour of waiting, after 300 rounds.

Usage: python benchmarks/engine.py overhead | heartbeat | growth [--folder FOLDER]

One worker in this process, a private server, a cluster of 13 atoms, EMT as reference, a wrong EMT as
foundation. CPU times. Numbers go to results/engine_<part>.json; `growth` goes on where it was interrupted if
it gets the same folder again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo.monitoring
from engine_ledger import Clock, Ledger, RoundBook, config, instrument, open_engine, server_process
from record import save, versions

from godelta.campaign import CampaignConfig
from godelta.store.database import Store
from godelta.store.mongod import PrivateMongod

SHAPES = {  # rounds, evaluations of a round, evaluations of a job
    "1 evaluation": (12, 1, 10),
    "10 evaluations, one job": (8, 10, 10),
    "10 evaluations, ten jobs": (8, 10, 1),
}
HEARTBEAT_S = 30.0
GROWTH_ROUNDS = 300


def engine_versions(store: Store) -> dict[str, str]:
    """Versions that matter here, the server's among them."""
    return versions() | {"mongod": store.db.client.server_info()["version"]}


def register(store: Store, settings: CampaignConfig) -> str:
    """The campaign, running; its id."""
    from godelta.store import campaigns
    from godelta.workflows.submit import register as make_known

    campaign = make_known(store, settings, Path())
    campaigns.set_state(store, campaign.campaign_id, ("created", "paused", "failed"), "running")
    return campaign.campaign_id


def through_the_engine(folder: Path, settings: CampaignConfig, *, probes: bool = False) -> dict[str, Any]:
    """Every round of a campaign by the planner, the LaunchPad and a worker."""
    from godelta.store.progress import snapshot

    workspace, store = open_engine(folder)
    from godelta.workflows.launchpad import open_launchpad
    from godelta.workflows.worker import WorkerOptions, work

    campaign_id = register(store, settings)
    ledger = Ledger()
    instrument(ledger)

    def probe() -> dict[str, float]:
        start = time.process_time()
        for _ in range(5):
            snapshot(store, campaign_id)
        return {"snapshot_s": (time.process_time() - start) / 5}

    book = RoundBook(folder / "rounds.jsonl", ledger, server_process(workspace), probe if probes else None)
    book.watch()
    from godelta.workflows.planner import advance

    advance(store, open_launchpad(workspace), campaign_id)
    book.begin()
    work(workspace, WorkerOptions(campaign_id=campaign_id))
    return {"rounds": book.rows, "versions": engine_versions(store)}


def without_queue(folder: Path, settings: CampaignConfig) -> dict[str, Any]:
    """The same jobs, called one after the other: a database, but neither FireWorks nor a planner."""
    workspace, store = open_engine(folder)
    from godelta.makers import evaluate, retrain, search, select
    from godelta.makers.session import Session
    from godelta.store import rounds
    from godelta.store.documents import RoundKey

    campaign_id = register(store, settings)
    ledger = Ledger()
    instrument(ledger)
    session = Session(workspace, store)
    book = RoundBook(folder / "rounds.jsonl", ledger, server_process(workspace))
    book.watch()
    book.begin()
    model_id = None
    with session.heartbeat:
        for k in range(settings.budget.rounds):
            key = RoundKey(campaign_id, 0, k)
            rounds.plan_round(store, key, model_id)
            search.run_search(session, key, 0)
            select.run_select(session, key, 0)
            for slot in range(settings.search.selection.evaluations_per_round):
                evaluate.run_evaluate(session, key, 0, slot)
            model_id = retrain.run_retrain(session, key, 0)["model_id"]
    return {"rounds": book.rows, "isolated": isolated(folder, store, settings, campaign_id)}


def isolated(
    folder: Path, store: Store, settings: CampaignConfig, campaign_id: str, most: int = 30
) -> list[dict[str, float]]:
    """The same structures once more, in a process each, without a database."""
    from godelta.reference.isolated import evaluate_isolated
    from godelta.store.structures import selected_structures

    server = server_process(open_engine(folder)[0])
    rows = []
    for number, document in enumerate(selected_structures(store, campaign_id)[:most]):
        before = Clock.now(server)
        outcome = evaluate_isolated(document.atoms(), settings.reference, folder / "bare" / str(number))
        assert outcome.status == "ok"
        rows.append(Clock.now(server).since(before))
    return rows


def overhead() -> None:
    """Each shape of a round through the engine, then without it; a process and a workspace for each."""
    results: dict[str, Any] = {}
    for shape in SHAPES:
        part = {way: in_own_process("measure", way, shape) for way in WAYS}
        results[shape] = part
        save("engine_overhead", {"versions": part["engine"].pop("versions"), "shapes": results})


def heartbeat() -> None:
    """A lease held while beats come a hundred times as fast as they do; an idle worker; an idle session."""
    save("engine_heartbeat", in_own_process("beats"))


def in_own_process(*arguments: str) -> Any:
    """Call this script again in a new workspace; what it prints."""
    folder = Path(tempfile.mkdtemp(prefix="godelta-bench-"))
    command = [sys.executable, __file__, *arguments, "--folder", str(folder)]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1])
    finally:
        PrivateMongod(folder).stop()
        shutil.rmtree(folder, ignore_errors=True)


def beats(folder: Path) -> dict[str, Any]:
    """CPU seconds and operations of the server, per beat and without any."""
    commands = CommandCount()
    pymongo.monitoring.register(commands)
    workspace, store = open_engine(folder)
    from godelta.makers import heartbeat as module
    from godelta.makers.session import Session
    from godelta.store import evaluations
    from godelta.workflows.worker import WorkerOptions, work

    real = {"beat_every_s": module.BEAT_EVERY_S, "sign_every_s": module.SIGN_EVERY_S}
    server = server_process(workspace)

    def measure(action: Callable[[], object]) -> dict[str, float]:
        before, done = Clock.now(server), commands.count
        action()
        return {"operations": commands.count - done, **Clock.now(server).since(before)}

    rows = {"session without a worker": measure(lambda: time.sleep(HEARTBEAT_S))}
    session = Session(workspace, store)
    claim = evaluations.claim(store, "0" * 64, "1" * 64, str(session.heartbeat.name), 120.0)
    factor = 100.0
    module.BEAT_EVERY_S /= factor
    module.SIGN_EVERY_S /= factor
    counted = {"beats": 0, "signs": 0}
    for owner, attribute, key in ((evaluations, "prolong", "beats"), (module.workers, "give_sign", "signs")):
        count_calls(owner, attribute, counted, key)

    def hold() -> None:
        with session.heartbeat, session.heartbeat.holding(claim):
            time.sleep(HEARTBEAT_S)

    rows["heartbeat"] = measure(hold) | counted
    module.BEAT_EVERY_S, module.SIGN_EVERY_S = real["beat_every_s"], real["sign_every_s"]
    rows["idle worker"] = measure(lambda: work(workspace, WorkerOptions(idle_seconds=HEARTBEAT_S)))
    return {"versions": engine_versions(store), "settings": real | {"factor": factor}, "rows": rows}


class CommandCount(pymongo.monitoring.CommandListener):
    """Counts what this process asks the server for."""

    count = 0

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:  # noqa: ARG002
        """One more."""
        self.count += 1

    def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None:
        """Nothing."""


def count_calls(owner: Any, attribute: str, counted: dict[str, int], key: str) -> None:
    """Add one for each call of a function of a module."""
    call = getattr(owner, attribute)

    def counting(*args: Any, **kwargs: Any) -> Any:
        counted[key] += 1
        return call(*args, **kwargs)

    setattr(owner, attribute, counting)


WAYS = {"engine": through_the_engine, "without_queue": without_queue}


def growth(folder: Path | None, rounds: int) -> None:
    """One chain of many rounds, one evaluation each."""
    chosen = folder or Path(tempfile.mkdtemp(prefix="godelta-bench-"))
    try:
        result = through_the_engine(chosen, config(rounds, 1), probes=True)
        save("engine_growth", result)
    finally:
        PrivateMongod(chosen).stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["overhead", "heartbeat", "growth", "measure", "beats"])
    parser.add_argument("details", nargs="*", help="of a part that this script calls itself")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=GROWTH_ROUNDS, help="of growth")
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if os.environ.get(name) != "1":  # libraries read them when they start
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys((name,), "1"))
    if given.part == "measure":
        way, shape = given.details
        rounds, evaluations, per_job = SHAPES[shape]
        settings = config(rounds, evaluations, evaluations_per_job=per_job)
        print(json.dumps(WAYS[way](given.folder, settings)))
    elif given.part == "beats":
        print(json.dumps(beats(given.folder)))
    elif given.part == "growth":
        growth(given.folder, given.rounds)
    else:
        {"overhead": overhead, "heartbeat": heartbeat}[given.part]()


if __name__ == "__main__":
    main()
