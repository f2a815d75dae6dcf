"""Where the CPU time of a worker goes: what engine.py measures with."""

import json
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import psutil

from godelta.campaign import CampaignConfig
from godelta.store.database import Store
from godelta.store.workspace import Workspace

# Thirteen atoms: random structures that are hardly relaxed never repeat, however many rounds there are.
CAMPAIGN: dict[str, Any] = {
    "name": "bench",
    "system": {"kind": "cluster", "formula": "Cu8Ag5", "box": 16.0, "confinement": 8.0},
    "foundation": {"name": "ase", "calculator": "godelta.examples.exchanged_emt.ExchangedEMT"},
    "delta": {"inducing_points": 60},
    "reference": {"engine": "emt"},
    "resources": {"workers": 1},
    "seed": 3,
}
WORK = ("potential", "reference", "training")  # what is no work of the engine's


def config(rounds: int, evaluations: int, **resources: Any) -> CampaignConfig:
    """A chain of cheap rounds with so many evaluations each."""
    search = {
        "method": "rss",
        "structures_per_round": evaluations + 2,
        "batch": evaluations + 2,
        "relax": {"steps": 8},
        "selection": {"evaluations_per_round": evaluations},
    }
    budget = {"chains": 1, "rounds": rounds, "evaluations": rounds * evaluations}
    values = CAMPAIGN | {"search": search, "budget": budget}
    return CampaignConfig.model_validate(values | {"resources": CAMPAIGN["resources"] | resources})


def open_engine(folder: Path) -> tuple[Workspace, Store]:
    """A workspace with its private server; to be called before FireWorks or jobflow is imported."""
    from godelta import logs
    from godelta.workflows.launchpad import configure_engines

    folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(folder)
    configure_engines(workspace, start=True)
    logs.write_to(workspace.logs)
    return workspace, workspace.connect()


@dataclass(frozen=True)
class Clock:
    """Seconds: of the wall, of this process's CPU time, of its children's, and of the server's."""

    wall: float
    worker: float
    children: float
    mongod: float

    @classmethod
    def now(cls, server: psutil.Process) -> "Clock":
        """Look at all of them."""
        of_children, of_server = resource.getrusage(resource.RUSAGE_CHILDREN), server.cpu_times()
        return cls(
            time.perf_counter(),
            time.process_time(),
            of_children.ru_utime + of_children.ru_stime,
            of_server.user + of_server.system,
        )

    def since(self, before: "Clock") -> dict[str, float]:
        """What has passed."""
        return {
            f"{name}_s": round(getattr(self, name) - getattr(before, name), 5)
            for name in self.__dataclass_fields__
        }


def server_process(workspace: Workspace) -> psutil.Process:
    """The private server."""
    return psutil.Process(workspace.server().status().pid)


@dataclass
class Ledger:
    """CPU seconds of this process by section; what a section spends in another one inside counts there."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _inside: list[float] = field(default_factory=lambda: [0.0])

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count what happens here under this name."""
        start = time.process_time()
        self._inside.append(0.0)
        try:
            yield
        finally:
            whole = time.process_time() - start
            self.seconds[name] += whole - self._inside.pop()
            self.calls[name] += 1
            self._inside[-1] += whole

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Count every call of a function, or of a class's method."""
        call: Callable[..., Any] = getattr(owner, attribute)

        @wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.section(name):
                return call(*args, **kwargs)

        setattr(owner, attribute, counted)

    def take(self) -> dict[str, float]:
        """The sums by section; they begin anew."""
        taken = {name: round(seconds, 5) for name, seconds in self.seconds.items()}
        self.seconds.clear()
        self.calls.clear()
        return taken


def instrument(ledger: Ledger) -> None:
    """Count the jobs, the planner, and the work that no engine can save."""
    from godelta.makers import evaluate, retrain, search, select, session
    from godelta.workflows import planner, worker

    for module, job in ((search, "search"), (select, "select"), (evaluate, "evaluate"), (retrain, "retrain")):
        ledger.wrap(module, f"run_{job}", job)
    ledger.wrap(session.WatchedPotential, "evaluate", "potential")
    ledger.wrap(evaluate, "evaluate_isolated", "reference")
    ledger.wrap(retrain, "train", "training")
    ledger.wrap(planner, "advance", "planner")
    worker.advance = planner.advance


def engine_seconds(row: Mapping[str, Any]) -> float:
    """CPU seconds of a worker besides the work."""
    sections: Mapping[str, float] = row["sections"]
    return float(row["worker_s"]) - sum(sections.get(name, 0.0) for name in (*WORK, "probe"))


@dataclass
class RoundBook:
    """One line of JSON per round that is closed, in a file: what is there is never measured again."""

    path: Path
    ledger: Ledger
    server: psutil.Process
    probe: Callable[[], dict[str, float]] | None = None
    every: int = 25
    rows: list[dict[str, Any]] = field(default_factory=list)
    _last: Clock | None = None

    def begin(self) -> None:
        """Count from now on; called after the imports."""
        if self.path.exists():
            self.rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        self.ledger.take()
        self._last = Clock.now(self.server)

    def watch(self) -> None:
        """Write a line whenever a round has been retrained."""
        from godelta.makers import retrain

        close = retrain.run_retrain

        @wraps(close)
        def closing(session: Any, key: Any, epoch: int) -> Any:
            answer = close(session, key, epoch)
            self.close(key.k)
            return answer

        retrain.run_retrain = closing

    def close(self, k: int) -> None:
        """Write the line of a round."""
        assert self._last is not None
        now = Clock.now(self.server)
        row = {"k": k, **now.since(self._last), "sections": self.ledger.take(), "load": os.getloadavg()[0]}
        if self.probe is not None and (k + 1) % self.every == 0:
            row["probe"] = self.probe()
            self.ledger.take()
        self._last = Clock.now(self.server)
        self.rows.append(row)
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
