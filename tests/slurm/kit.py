"""A campaign on the cluster: its workspace, the real commands, what has to be true in the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from cluster import Cluster
from pymongo.errors import PyMongoError

from godelta.store import campaigns, rounds, structures
from godelta.store.database import Store, connect
from godelta.store.documents import RoundDocument
from godelta.store.evaluations import MAX_LOST
from godelta.store.mongod import PrivateMongod
from godelta.store.workers import WorkerName
from godelta.store.workspace import Workspace
from godelta.workflows.resource_classes import pilot_prefix
from godelta.yaml_file import read_yaml

HERE = Path(__file__).parent
NAME = "hurt"
SEARCH, REFERENCE = "search-ase", "evaluate-ase"
CATEGORIES = {SEARCH, REFERENCE, "light"}
CAMPAIGN: dict[str, Any] = {
    "name": NAME,
    "budget": {"chains": 1, "rounds": 2, "evaluations": 4},
    "search": {"structures_per_round": 6, "batch": 2},
}
# Every batch job has a host name of its own, as on a cluster of many nodes: what became of a worker has to be
# asked of SLURM then.
ELSEWHERE = 'exec unshare --uts sh -c \'hostname "node-$SLURM_JOB_ID"; exec "$@"\' sh "$@"\n'


def wait_until(
    condition: Callable[[], Any], seconds: float = 60.0, every: float = 0.1, tell: Callable[[], str] = str
) -> Any:
    """Wait for a truth, and return it; `tell` says what there was to see where it does not come."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:g} s in vain: {tell()}"
        time.sleep(every)
    return found


def quietly(call: Callable[[], Any]) -> Any:
    """What it returns; None of a process that is gone."""
    try:
        return call()
    except psutil.NoSuchProcess:
        return None


@dataclass
class Scene:
    """A workspace for a cluster, and one campaign in it."""

    cluster: Cluster
    folder: Path
    uri: str
    database: str
    campaign: dict[str, Any]
    elsewhere: bool = True
    server: PrivateMongod | None = None
    disk: Any = None
    launchers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    paid: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workspace = Workspace((self.disk.folder if self.disk else self.folder) / "workspace")
        self.starts_file = self.folder / "starts"
        self.file = self.folder / f"{NAME}.yaml"
        self.output = self.folder / "launcher.out"
        self.store: Store = connect(self.uri, self.database, timeout_ms=2000)
        self.db = self.store.db

    # Before the campaign

    def prepare(self) -> None:
        """Make the workspace as a user does, and the campaign's file."""
        secret = self.folder / "uri"
        secret.touch(mode=0o600)
        secret.write_text(self.uri)
        done = self.command(
            "init", self.workspace.folder, "--slurm", "--partition", "debug", "--walltime", "00:30:00",
            "--reference", "ase", "--foundation", "ase", "--ranks", "1", "--mongodb-uri-file", secret,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        settings = self.workspace.folder / "godelta.yaml"
        text = settings.read_text().replace("name: godelta", f"name: {self.database}")
        settings.write_text(text.replace("programs: [", "programs: [counted_emt, "))
        self.adapt("search", queue="second", _pack=4)
        self.adapt("reference", _pack=2)
        self.adapt("light")
        self.file.write_text(json.dumps(self.campaign))

    def adapt(self, role: str, idle: int = 6, **changes: Any) -> None:
        """Change a qadapter file so that its batch jobs fit this small cluster."""
        path = self.workspace.folder / "fw_config" / f"{role}_qadapter.yaml"
        values = dict(read_yaml(path).values)
        worker = f"godelta worker --workspace {self.workspace.folder} --idle {idle}"
        if self.elsewhere:
            wrapper = self.workspace.folder / "elsewhere.sh"
            wrapper.write_text(ELSEWHERE)
            worker = f"sh {wrapper} {worker}"
        values |= {"mem": None, "cpus_per_task": 1, "_max_pilots": 4, "rocket_launch": worker}
        path.write_text(json.dumps(values | changes))

    # The commands

    def command(self, *words: object, timeout: float = 180.0) -> "subprocess.CompletedProcess[str]":
        """Give a command of godelta's and wait for its end."""
        return subprocess.run(
            self._words(*words),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def launch(self, *words: object) -> "subprocess.Popen[bytes]":
        """Start `godelta submit FILE --launch`."""
        with self.output.open("ab") as out:
            launcher = subprocess.Popen(
                self._words(
                    "submit", self.file, "--launch", "--every", 1, "-w", self.workspace.folder, *words
                ),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.launchers.append(launcher)
        return launcher

    def begin(self, *words: object) -> "subprocess.Popen[bytes]":
        """Start a command, without waiting for its end."""
        return subprocess.Popen(
            self._words(*words),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def stop_launchers(self) -> None:
        """Ctrl-C for what was started by `launch`: campaign and batch jobs go on."""
        for launcher in self.launchers:
            launcher.send_signal(signal.SIGINT)
        assert [launcher.wait(timeout=60) for launcher in self.launchers] == [130] * len(self.launchers)
        self.launchers.clear()

    def kill_launchers(self) -> None:
        """SIGKILL instead."""
        for launcher in self.launchers:
            launcher.kill()
            launcher.wait()
        self.launchers.clear()

    def restart(self, *words: object) -> str:
        """`godelta restart`; what it says."""
        done = self.command("restart", *(words or (NAME,)), "--yes", "-w", self.workspace.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def finish(self, seconds: float = 240.0) -> None:
        """Have the campaign go on to its end, and the launcher leave by itself."""
        if not any(launcher.poll() is None for launcher in self.launchers):
            self.launch()
        end = time.monotonic() + seconds
        while any(launcher.poll() is None for launcher in self.launchers):
            assert time.monotonic() < end, self.tell()
            self.look()
            time.sleep(0.3)
        assert [launcher.returncode for launcher in self.launchers] == [0] * len(self.launchers), self.tell()
        wait_until(lambda: not self.cluster.squeue(), tell=self.tell)

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        self.kill_launchers()
        for process in self.processes():
            quietly(process.resume)
        self.cluster.mend()
        self.cluster.drain()
        self.store.close()
        if self.server:
            self.server.stop()

    def _words(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "godelta.cli.main", *map(str, words)]

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "HOME": self.cluster.environment["HOME"],
            "PYTHONPATH": str(HERE),
            "OMP_NUM_THREADS": "1",
            "SLURM_CONF": str(self.cluster.conf),
        }

    # What is going on

    @property
    def state(self) -> str:
        """The campaign's state; "" where there is none, or no server to ask."""
        try:
            found = campaigns.find_campaign(self.store, NAME)
        except PyMongoError:
            return ""
        return found.state if found else ""

    def rounds(self) -> list[RoundDocument]:
        """The campaign's rounds."""
        found = campaigns.find_campaign(self.store, NAME)
        return rounds.rounds_of(self.store, found.campaign_id) if found else []

    @property
    def prefix(self) -> str:
        """What the names of this database's batch jobs begin with."""
        return pilot_prefix(self.store)

    def look(self) -> None:
        """See that what was paid for at the last look is there still, to the last bit."""
        try:
            raws = list(self.store.evaluations.find({"state": "ok"}))
        except PyMongoError:
            return
        now = {raw["structure_hash"]: (raw["energy"], raw["token"], raw["evaluated_at"]) for raw in raws}
        assert self.paid.items() <= now.items()
        self.paid = now

    def starts(self) -> list[str]:
        """Hashes of the structures that the engine has begun with, in order."""
        lines = self.starts_file.read_text().splitlines() if self.starts_file.exists() else []
        return [line.split()[0] for line in lines]

    def sent(self) -> list[str]:
        """The categories of the batch jobs that were sent, in order."""
        return re.findall(r"sent \d+ for (\S+):", self.output.read_text())

    def ready(self, job: str) -> bool:
        """Whether a job of this kind waits for a worker."""
        return self.db["fireworks"].count_documents({"name": job, "state": "READY"}) > 0

    def running(self, job: str) -> dict[str, Any] | None:
        """The launch of a job of this kind that some worker is at."""
        firework = self.db["fireworks"].find_one({"name": job, "state": "RUNNING"}, {"launches": 1})
        if firework is None:
            return None
        return self.db["launches"].find_one({"launch_id": {"$in": firework["launches"]}, "state": "RUNNING"})

    def worker_of(self, launch: dict[str, Any]) -> "Worker":
        """Who is at it."""
        name = WorkerName.parse(launch["fworker"]["name"])
        assert name is not None
        raw = self.db["workers"].find_one({"name": name.process}) or {}
        return Worker(name.pid, int(raw.get("batch_job") or 0))

    def set_last_sign(self, worker: "Worker", seen: datetime) -> None:
        """Make a worker look as if it had been silent since then."""
        query = {"batch_job": str(worker.job)}
        assert self.store.workers.update_one(query, {"$set": {"seen": seen}}).matched_count

    def catch(self, job: str, when: Callable[[], bool] = lambda: True, seconds: float = 90.0) -> "Worker":
        """Wait until a worker is at a job of this kind, and hold it there: it is stopped (SIGSTOP)."""

        def caught() -> Worker | None:
            launch = self.running(job)
            if launch is None or not when():
                return None
            worker = self.worker_of(launch)
            quietly(psutil.Process(worker.pid).suspend)
            still = {"launch_id": launch["launch_id"], "state": "RUNNING"}
            if self.db["launches"].count_documents(still) and when():
                return worker
            quietly(psutil.Process(worker.pid).resume)
            return None

        worker: Worker = wait_until(caught, seconds, every=0.002, tell=self.tell)
        return worker

    def computing(self) -> "Worker":
        """Wait until the engine computes, and say for which worker."""
        before = len(self.starts())
        wait_until(lambda: len(self.starts()) > before, 90.0, every=0.02, tell=self.tell)
        return self.worker_of(wait_until(lambda: self.running("evaluate"), 5.0))

    def workers(self) -> list[psutil.Process]:
        """Workers of this workspace."""
        return [
            process
            for process in psutil.process_iter()
            if {"worker", str(self.workspace.folder)} <= set(quietly(process.cmdline) or [])
            and quietly(process.status) not in (None, psutil.STATUS_ZOMBIE)
        ]

    def engines(self) -> list[psutil.Process]:
        """Engines that their guards watch."""
        guards = [
            process
            for process in psutil.process_iter()
            if "godelta.reference.guard" in (words := quietly(process.cmdline) or [])
            and any(word.startswith(str(self.workspace.scratch)) for word in words)
        ]
        # The engine is forked from its guard, so its command line is the same.
        return [process for process in guards if quietly(process.ppid) in {guard.pid for guard in guards}]

    def processes(self) -> list[psutil.Process]:
        """Workers, guards and engines of this workspace."""
        scratch = str(self.workspace.scratch)
        return self.workers() + [
            process
            for process in psutil.process_iter()
            if any(word.startswith(scratch) for word in quietly(process.cmdline) or [])
        ]

    def tell(self) -> str:
        """What the launcher and the workers said, for a message."""
        outs = sorted(self.workspace.state.glob("pilots/*/*.out"))
        logs = sorted(self.workspace.logs.glob("*.log"))
        parts = [
            path.read_text(errors="replace")[-2500:] for path in (self.output, *logs, *outs) if path.exists()
        ]
        return f"{self.state}, {self.cluster.squeue()}\n" + "\n".join(parts)

    # After the campaign

    def check(self, kills: int = 0, failed: dict[str, int] | None = None) -> None:
        """See that the campaign is whole.

        Parameters
        ----------
        kills
            How often something died that may have been computing.
        failed
            How many evaluations may have failed, by reason.
        """
        self.look()
        campaign = campaigns.get_campaign(self.store, NAME)
        assert (campaign.state, campaign.reserved) == ("finished", ()), campaign.reason
        of_chain: dict[int, list[int]] = {}
        for round_ in rounds.rounds_of(self.store, campaign.campaign_id):
            assert round_.state == "closed"
            of_chain.setdefault(round_.chain, []).append(round_.k)
        assert list(of_chain) == list(range(self.campaign["budget"]["chains"]))
        assert all(numbers == list(range(len(numbers))) for numbers in of_chain.values())
        raws = {raw["structure_hash"]: raw for raw in self.store.evaluations.find()}
        selected = structures.selected_structures(self.store, campaign.campaign_id)
        assert raws.keys() == {one.structure_hash for one in selected}
        assert campaign.spent == self._check_attempts(raws, kills, failed or {}) > 0
        wanted = {"spec._category": {"$nin": sorted(CATEGORIES)}}
        assert self.db["fireworks"].count_documents({}) > 0
        assert self.db["fireworks"].count_documents(wanted) == 0
        assert self.processes() == []

    def _check_attempts(self, raws: dict[str, Any], kills: int, failed: dict[str, int]) -> int:
        """See that all was computed once, unless it was killed: the engine has counted. What it cost."""
        reasons: Counter[str] = Counter()
        cost = 0
        for raw in raws.values():
            outcomes = [attempt["outcome"] for attempt in raw["attempts"]]
            assert outcomes.count("ok") == (raw["state"] == "ok")
            cost += outcomes.count("ok") + outcomes.count("failed") + (raw["reason"] == "lost")
            if raw["state"] != "ok":
                reasons[raw["reason"]] += 1
        # Whose engine was killed three times in a row is in quarantine.
        assert reasons.pop("lost", 0) <= kills // MAX_LOST
        assert all(count <= failed.get(reason, 0) for reason, count in reasons.items()), reasons
        starts = Counter(self.starts())
        assert starts.keys() == raws.keys()
        assert starts.total() <= len(raws) + kills
        return cost


@dataclass(frozen=True)
class Worker:
    """A worker's process, and the batch job around it."""

    pid: int
    job: int

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)
