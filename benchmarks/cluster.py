"""What a cluster costs: 1,000 campaigns submitted, rounds through SLURM, 500 evaluations, long queues.

Usage: python benchmarks/cluster.py submit | overhead | round | queue [--repeats 3] [--anew]

Each part has servers of its own: mongod, and for `overhead` the one-node SLURM of the tests (as root, with
the daemons of SLURM, MUNGE and MariaDB on PATH or in /usr/sbin). CPU seconds are of all processes of a
command; wall times depend on what else the machine does. Numbers go to results/cluster_<part>.json as they
come; what is there already is not measured again.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from engine_ledger import Clock, Ledger, config, engine_seconds, instrument, open_engine, server_process
from record import RESULTS, save
from ruamel.yaml import YAML

from godelta.campaign import CampaignConfig
from godelta.errors import GodeltaError
from godelta.store.database import Store, connect
from godelta.store.mongod import PrivateMongod
from godelta.yaml_file import read_yaml

TESTS = Path(__file__).parent.parent / "tests" / "slurm"
DAEMONS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db", "setpriv")
CAMPAIGNS = 1000
ROUNDS = (2, 8)  # few and many: what a round costs, and what is paid once
PER_ROUND = 2  # few: the engine's processes would hide what is looked for
JOBS_OF_A_ROUND = 5  # search, select, evaluate, retrain, advance
LOOK_EVERY_S = 2.0
IDLE_S = 30
EVALUATIONS = (100, 500)
PER_JOB = 10
LENGTHS = (10, 1000, 10_000)
LOOKS = 400
LIMIT_S = 1200.0


@dataclass
class Book:
    """The rows of one part, in its file; what is there is not measured again."""

    name: str
    about: dict[str, Any]
    rows: list[dict[str, Any]]

    @classmethod
    def open(cls, part: str, about: dict[str, Any], *, anew: bool) -> "Book":
        """Read what an earlier run has measured."""
        path = RESULTS / f"cluster_{part}.json"
        known = [] if anew or not path.exists() else json.loads(path.read_text())["rows"]
        return cls(f"cluster_{part}", about, known)

    def fill(self, key: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row unless it is there, and write it down at once."""
        if any(key.items() <= row.items() for row in self.rows):
            return
        row = key | {"load": os.getloadavg()[0]} | measure()
        self.rows.append(row)
        save(self.name, self.about | {"rows": self.rows})
        print(json.dumps(row), flush=True)


# Parts


def submit(repeats: int, *, anew: bool) -> None:
    """1,000 files through `godelta submit`, each time into an empty database."""
    book = Book.open("submit", {"campaigns": CAMPAIGNS}, anew=anew)
    for number in range(repeats):
        for chains in (1, 2):
            key = {"chains": chains, "number": number}
            book.fill(key, partial(in_new_folder, partial(submit_once, chains=chains)))


def submit_once(folder: Path, chains: int) -> dict[str, Any]:
    """CPU and wall seconds of the command, and of the server meanwhile."""
    campaign = config(10, 8).model_dump(mode="json", exclude_unset=True)  # as people write them
    campaign["budget"] = {"chains": chains, "evaluations": 80}
    files = []
    for number in range(CAMPAIGNS):
        path = folder / f"campaign-{number:04}.yaml"
        YAML().dump(campaign | {"name": path.stem, "seed": number}, path)
        files.append(path.name)
    workspace = folder / "workspace"
    with private_server(workspace) as (server, _):
        row = godelta(server, folder, "submit", *files, "-w", workspace)
        return {**row, "look": called("look", workspace, CAMPAIGNS)}


def one_look(folder: Path, count: int) -> dict[str, float]:
    """What one look of the planner at all campaigns costs, as a launcher takes it; nothing is to be done."""
    workspace, store = open_engine(folder)
    from godelta.store import campaigns
    from godelta.workflows.launchpad import open_launchpad
    from godelta.workflows.planner import advance

    launchpad = open_launchpad(workspace)
    before = Clock.now(server_process(workspace))
    running = campaigns.list_campaigns(store)
    planned = [mark for campaign in running for mark in advance(store, launchpad, campaign.campaign_id)]
    assert (len(running), planned) == (count, [])
    return Clock.now(server_process(workspace)).since(before)


def overhead(repeats: int, *, anew: bool) -> None:
    """The same campaign: its jobs alone, `godelta run`, and `godelta submit --launch` on SLURM."""
    about = {
        "evaluations_per_round": PER_ROUND,
        "jobs_of_a_round": JOBS_OF_A_ROUND,
        "look_every_s": LOOK_EVERY_S,
        "idle_s": IDLE_S,
    }
    book = Book.open("overhead", about, anew=anew)
    with one_node() as slurm:
        book.about["slurm"] = slurm.command("sbatch", "--version").split()[-1]
        ways: dict[str, Callable[..., dict[str, Any]]] = {
            "jobs": jobs_alone,
            "run": by_run,
            "slurm": partial(by_slurm, slurm),
        }
        for number in range(repeats):
            for rounds in ROUNDS:
                for way, measure in ways.items():
                    key = {"way": way, "rounds": rounds, "number": number}
                    book.fill(key, partial(in_new_folder, partial(measure, rounds=rounds)))


def jobs_alone(folder: Path, rounds: int) -> dict[str, Any]:
    """The jobs called one after the other by one process: no queue, no planner."""
    with private_server(folder) as (server, _):
        return measured(server, [sys.executable, __file__, "alone", str(folder), str(rounds)], folder)


def alone(folder: Path, rounds: int) -> dict[str, Any]:
    """What `jobs_alone` measures, in a process of its own."""
    _, store = open_engine(folder)
    from godelta.makers import evaluate, retrain, search, select
    from godelta.makers.session import Session
    from godelta.store import rounds as of_rounds
    from godelta.store.documents import RoundKey
    from godelta.store.workspace import Workspace
    from godelta.workflows.submit import register

    campaign_id = register(store, config(rounds, PER_ROUND), folder).campaign_id
    session, model_id = Session(Workspace(folder), store), None
    with session.heartbeat:
        for k in range(rounds):
            key = RoundKey(campaign_id, 0, k)
            of_rounds.plan_round(store, key, model_id)
            search.run_search(session, key, 0)
            select.run_select(session, key, 0)
            for slot in range(PER_ROUND):
                evaluate.run_evaluate(session, key, 0, slot)
            model_id = retrain.run_retrain(session, key, 0)["model_id"]
    return {}


def by_run(folder: Path, rounds: int) -> dict[str, Any]:
    """`godelta run` with one worker."""
    with private_server(folder) as (server, _):
        file = write_campaign(folder, config(rounds, PER_ROUND))
        return godelta(server, folder, "run", file, "--plain", "-w", folder)


def by_slurm(slurm: Any, folder: Path, rounds: int) -> dict[str, Any]:
    """`godelta submit --launch`: batch jobs for searches and for evaluations."""
    with private_server(folder / "server") as (server, uri):
        secret, workspace = folder / "uri", folder / "workspace"
        secret.touch(mode=0o600)
        secret.write_text(uri)
        file = write_campaign(folder, config(rounds, PER_ROUND))
        godelta(
            server, folder, "init", workspace, "--slurm", "--partition", "debug", "--walltime", "00:30:00",
            "--reference", "emt", "--foundation", "ase", "--ranks", 1, "--mongodb-uri-file", secret,
        )  # fmt: skip
        for path in (workspace / "fw_config").glob("*_qadapter.yaml"):
            worker = f"godelta worker --workspace {workspace} --idle {IDLE_S}"
            small = {"mem": None, "cpus_per_task": 1, "rocket_launch": worker}
            path.write_text(json.dumps(dict(read_yaml(path).values) | small))
        before, began = server_cpu(server), time.perf_counter()
        words = ("submit", file, "--launch", "--every", LOOK_EVERY_S, "-w", workspace)
        launcher = godelta(server, folder, *words)
        wall = time.perf_counter() - began
        while slurm.squeue():  # workers wait for another campaign
            time.sleep(0.2)
        jobs = batch_jobs(slurm, connect(uri).db["meta"].find_one({"_id": "pilots"})["prefix"])
        return {
            "wall_s": wall,
            "cpu_s": launcher["cpu_s"] + sum(job["cpu_s"] for job in jobs),
            "mongod_s": server_cpu(server) - before,
            "launcher_s": launcher["cpu_s"],
            "batch_jobs": jobs,
        }


def batch_jobs(slurm: Any, prefix: str) -> list[dict[str, Any]]:
    """Wall and CPU seconds of the batch jobs of a database, from SLURM's accounting."""
    deadline = time.monotonic() + 60.0
    start = time.strftime("%Y-%m-%d", time.localtime(time.time() - 86400.0))
    columns = ("--noheader", "--parsable2", "--format=JobName,State,TotalCPU,ElapsedRaw")
    while True:
        lines = slurm.command("sacct", f"--starttime={start}", *columns).splitlines()
        fields = [line.split("|") for line in lines if line.startswith(prefix)]
        if fields and all(state == "COMPLETED" and cpu != "00:00:00" for _, state, cpu, _ in fields):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"sacct: {lines}")
        time.sleep(0.5)
    return [
        {"category": name.removeprefix(prefix), "cpu_s": seconds(cpu), "wall_s": float(wall)}
        for name, _, cpu, wall in fields
    ]


def seconds(clock: str) -> float:
    """Seconds of [[DD-]HH:]MM:SS.mmm."""
    total = 0.0
    for part in clock.replace("-", ":").split(":"):
        total = total * 60.0 + float(part)
    return total


def round_(_: int, *, anew: bool) -> None:
    """One round of many evaluations, ten to a job, by one worker; nothing of it is repeated: it is long."""
    book = Book.open("round", {"evaluations_per_job": PER_JOB}, anew=anew)
    for count in EVALUATIONS:
        book.fill({"evaluations": count}, partial(in_new_folder, partial(one_round, count=count)))


def one_round(folder: Path, count: int) -> dict[str, Any]:
    """The row of `in_one_worker`, in a process of its own."""
    return in_own_process("worker", folder, count)


def in_one_worker(folder: Path, count: int) -> dict[str, Any]:
    """CPU seconds of worker and server for one round, and where they went."""
    workspace, store = open_engine(folder)
    from godelta.store import campaigns
    from godelta.store.evaluations import counts
    from godelta.workflows.launchpad import open_launchpad
    from godelta.workflows.submit import register, start
    from godelta.workflows.worker import WorkerOptions, work

    ledger = Ledger()
    instrument(ledger)
    launchpad = open_launchpad(workspace)
    campaign = register(store, config(1, count, evaluations_per_job=PER_JOB), folder)
    before = Clock.now(server_process(workspace))
    ledger.take()
    start(store, launchpad, campaign.campaign_id)
    jobs = work(workspace, WorkerOptions(campaign_id=campaign.campaign_id))
    row = {**Clock.now(server_process(workspace)).since(before), "sections": ledger.take()}
    ended = campaigns.get_campaign(store, campaign.campaign_id)
    done = counts(store, campaign.campaign_id, ended.reference_hash)
    assert (ended.state, done["ok"]) == ("finished", count), (ended.state, done)
    bookkeeping = engine_seconds(row) + row["sections"]["reference"] + row["mongod_s"]
    return {**row, "jobs": jobs, "bookkeeping_s": bookkeeping, "stored": stored(store)}


def stored(store: Store) -> dict[str, dict[str, float]]:
    """Bytes of each collection with its indexes, and of its largest document."""
    size = {"$group": {"_id": None, "largest": {"$max": {"$bsonSize": "$$ROOT"}}}}
    found = {}
    for name in store.db.list_collection_names():
        stats = store.db.command("collStats", name)
        largest = next(iter(store.db[name].aggregate([size])), {"largest": 0})["largest"]
        indexes = stats["totalIndexSize"]
        found[name] = {
            "documents": stats["count"],
            "data": stats["size"],
            "indexes": indexes,
            "largest": largest,
        }
    return found


def queue(repeats: int, *, anew: bool) -> None:
    """What a worker's look at the queue costs when many jobs of another category wait in it."""
    book = Book.open("queue", {"looks": LOOKS}, anew=anew)
    for number in range(repeats):
        for length in LENGTHS:
            book.fill(
                {"jobs": length, "number": number}, partial(in_new_folder, partial(looks, length=length))
            )


def looks(folder: Path, length: int) -> dict[str, Any]:
    """The row of `looks_of_one_worker`, in a process of its own."""
    return in_own_process("looks", folder, length)


def looks_of_one_worker(folder: Path, length: int) -> dict[str, Any]:
    """Median wall seconds of a look, and CPU seconds of worker and server."""
    workspace, _ = open_engine(folder)
    from fireworks import FWorker

    from godelta.store.documents import RoundKey
    from godelta.workflows.launchpad import open_launchpad
    from godelta.workflows.round import round_workflow

    launchpad, settings = open_launchpad(workspace), config(1, PER_ROUND)
    keys = [RoundKey(f"{number:024x}", 0, 0) for number in range(length)]
    for first in range(0, length, 1000):
        launchpad.bulk_add_wfs([round_workflow(key, 0, settings) for key in keys[first : first + 1000]])
    worker = FWorker(name="bench", category=["evaluate-emt", "light"])
    launchpad.run_exists(worker)
    times, before = [], Clock.now(server_process(workspace))
    for _ in range(LOOKS):
        began = time.perf_counter()
        assert not launchpad.run_exists(worker)
        times.append(time.perf_counter() - began)
    return {"median_s": median(times), **Clock.now(server_process(workspace)).since(before)}


# Servers and commands


@contextlib.contextmanager
def private_server(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A mongod of one's own, for the time being: its process and its URI."""
    server = PrivateMongod(folder, idle_minutes=None)
    uri = server.start()
    try:
        yield psutil.Process(server.status().pid), uri
    finally:
        server.stop()


@contextlib.contextmanager
def one_node() -> Iterator[Any]:
    """The one-node SLURM of the tests; SLURM_CONF tells every command where it is."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if missing or os.geteuid() != 0:
        sys.exit(
            f"a one-node SLURM needs root and its daemons; missing here: {', '.join(missing) or 'root'}\n"
            "  Debian: apt-get install slurmctld slurmd slurm-client slurmdbd munge mariadb-server"
        )
    sys.path.insert(0, str(TESTS))
    from cluster import Cluster

    made = Cluster()
    try:
        made.start()
        os.environ["SLURM_CONF"] = str(made.conf)
        yield made
    finally:
        made.stop()


def in_new_folder(measure: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Measure in a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="godelta-bench-"))
    try:
        return measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_own_process(part: str, folder: Path, number: int) -> dict[str, Any]:
    """What this script prints last when it is called again."""
    with private_server(folder):
        return called(part, folder, number)


def called(part: str, folder: Path, number: int) -> dict[str, Any]:
    """The same, with the server that runs in this folder."""
    command = [sys.executable, __file__, part, str(folder), str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def write_campaign(folder: Path, settings: CampaignConfig) -> Path:
    """The campaign's file."""
    path = folder / "bench.yaml"
    path.write_text(settings.model_dump_json(indent=1))
    return path


def godelta(server: psutil.Process, folder: Path, *words: object) -> dict[str, float]:
    """Give a command of godelta's; what it costs."""
    return measured(server, [sys.executable, "-m", "godelta.cli.main", *map(str, words)], folder)


def measured(server: psutil.Process, command: list[str], folder: Path) -> dict[str, float]:
    """CPU and wall seconds of a command with all its children, and CPU seconds of the server meanwhile."""
    of_children, on_server = children_cpu(), server_cpu(server)
    began = time.perf_counter()
    with (folder / "output").open("ab") as out:
        done = subprocess.run(command, cwd=folder, stdout=out, stderr=out, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise GodeltaError(f"{command} failed: {(folder / 'output').read_text()[-2000:]}")
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": children_cpu() - of_children,
        "mongod_s": server_cpu(server) - on_server,
    }


def children_cpu() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def server_cpu(server: psutil.Process) -> float:
    """CPU seconds of the server so far."""
    times = server.cpu_times()
    return float(times.user + times.system)


PARTS = {"submit": submit, "overhead": overhead, "round": round_, "queue": queue}
INSIDE = {
    "alone": alone,
    "worker": in_one_worker,
    "looks": looks_of_one_worker,
    "look": one_look,
}  # called by the parts


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"  # before any of them is loaded: parts run in processes of their own
    if len(sys.argv) == 4 and sys.argv[1] in INSIDE:
        print(json.dumps(INSIDE[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--repeats", type=int, default=3, help="of all but `round`")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    given = parser.parse_args()
    PARTS[given.part](given.repeats, anew=given.anew)


if __name__ == "__main__":
    main()
