"""How fast `best`, `query` and `status` answer as the database grows from 1,000 to 100,000 structures.

Four fifths of the structures are spread over campaigns of 80 each (1,000 campaigns at the end), one fifth is
a single campaign. Half of the structures are selected and have an evaluation, of which nine in ten are good.
All documents are made by the store's own models. Wall time of one call in one process, and CPU time of this
process and the server together: on a busy machine the first says more of the others than of us.

Usage: python benchmarks/database.py [LARGEST]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import psutil
from ase import Atoms
from record import save

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.database import Store, connect
from godelta.store.detail import detail
from godelta.store.documents import (
    Attempt,
    CampaignDocument,
    EvaluationDocument,
    RoundDocument,
    RoundKey,
    StructureDocument,
    evaluation_id,
)
from godelta.store.mongod import PrivateMongod
from godelta.store.overview import overviews
from godelta.store.progress import snapshot
from godelta.store.query import Query, find, rows

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
PER_CAMPAIGN, PER_ROUND = 80, 20
PAIRS = (("Ag", "S"), ("Cu", "Ag"), ("Au", "Cu"), ("Pt", "O"), ("Ag", "O"))
FORMULAS = tuple(f"{a}{n}{b}{m}" for a, b in PAIRS for n in (8, 12, 16) for m in (4, 6, 8))
LEVELS = ({"engine": "xtb"}, {"engine": "emt"}, {"engine": "gpaw", "settings": "pbe-production"})
REPEATS = 40
START = datetime(2026, 1, 1, tzinfo=UTC)
COLLECTIONS = ("campaigns", "rounds", "structures", "evaluations")


class Filler:
    """Adds campaigns; the large one grows with the rest."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rng = np.random.default_rng(1)
        self.small: list[str] = []
        self.count = 0
        self.large = self.campaign("large", "Ag16S8", 0).campaign_id
        self.large_rounds = 0

    def campaign(self, name: str, formula: str, number: int) -> CampaignDocument:
        """A campaign with the configuration of a real one."""
        reference = LEVELS[number % len(LEVELS)]
        config = CampaignConfig.model_validate(
            {
                "name": name,
                "system": {"kind": "cluster", "formula": formula},
                "reference": reference,
                "tags": [f"set-{number % 50}", "clusters"],
                "budget": {"rounds": 1000, "evaluations": 100_000},
            }
        )
        return campaigns.create_campaign(
            self.store, name=name, config=config.model_dump(mode="json"), identity=config.identity(),
            identity_hash=config.identity_hash(), reference_hash=f"{number % len(LEVELS):064x}",
            problem=b"problem" * 100, versions={"godelta": "0.1.0"},
        )  # fmt: skip

    def fill(self, total: int) -> float:
        """Add structures until there are so many; how many were added per second."""
        start, before = time.perf_counter(), self.count
        while self.count < total:
            number = len(self.small)
            formula = FORMULAS[number % len(FORMULAS)]
            made = self.campaign(f"campaign-{number:04}", formula, number)
            self.small.append(made.campaign_id)
            state = "closed" if number % 20 else "evaluating"
            for k in range(PER_CAMPAIGN // PER_ROUND):
                self.round(RoundKey(made.campaign_id, 0, k), formula, made.reference_hash, state)
            self.round(RoundKey(self.large, 0, self.large_rounds), "Ag16S8", f"{0:064x}", "closed")
            self.large_rounds += 1
        return (self.count - before) / (time.perf_counter() - start)

    def round(self, key: RoundKey, formula: str, level: str, state: Any) -> None:
        """One round with its candidates, half of them evaluated."""
        documents = [self.structure(key, formula) for _ in range(PER_ROUND)]
        self.store.structures.insert_many([document.to_mongo() for document in documents])
        selected = documents[: PER_ROUND // 2]
        made = RoundDocument(
            **key.query(), state=state, selection=tuple(document.id for document in selected),
            progress={"iteration": 20, "acceptance": [0.3] * 10, "best_energy": -1.0},
            timings={"search_s": 10.0, "reference_s": 20.0, "training_s": 1.0},
            planned_at=START, selected_at=START, changed_at=START,
        )  # fmt: skip
        self.store.rounds.insert_one(made.to_mongo())
        done = [self.evaluation(document, level, n) for n, document in enumerate(selected)]
        self.store.evaluations.insert_many([document.to_mongo() for document in done])
        self.count += len(documents)

    def structure(self, key: RoundKey, formula: str) -> StructureDocument:
        """A candidate with random positions."""
        atoms = Atoms(formula, cell=[20.0] * 3)
        atoms.positions = self.rng.uniform(4.0, 16.0, (len(atoms), 3))
        energy = -3.0 * len(atoms) + float(self.rng.normal())
        return StructureDocument.from_atoms(
            atoms, campaign_id=key.campaign_id, chain=key.chain, round=key.k, foundation_energy=energy,
            model_energy=energy, uncertainty=0.2, move="rattle", candidate_id=f"{key.k}", walker=1,
        )  # fmt: skip

    def evaluation(self, document: StructureDocument, level: str, number: int) -> EvaluationDocument:
        """Nine of ten good, the tenth failed; a round under way leaves none pending here."""
        good, size = bool(number), len(document.numbers)
        energy = document.model_energy + float(self.rng.normal())
        at = START + timedelta(seconds=float(self.rng.uniform(0, 1e7)))
        attempt = Attempt(
            token=1, owner="host/1/2@3#0", outcome="ok" if good else "failed", started_at=at, ended_at=at,
            cost={"wall_s": 1.0, "cpu_s": 1.0, "peak_rss_mb": 100.0},
        )  # fmt: skip
        return EvaluationDocument(
            evaluation_id=evaluation_id(document.structure_hash, level),
            structure_hash=document.structure_hash, reference_hash=level, formula=document.formula,
            elements=document.elements, requests=(document.request(),), state="ok" if good else "failed",
            token=1, energy=energy if good else None, energy_per_atom=energy / size if good else None,
            forces=tuple(map(tuple, self.rng.normal(size=(size, 3)).tolist())) if good else None,
            reason=None if good else "not_converged", cost=attempt.cost, attempts=(attempt,),
            created_at=at, evaluated_at=at,
        )  # fmt: skip


def questions(filler: Filler) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is measured: a name, and a call that asks about something else every time."""
    store, rng = filler.store, np.random.default_rng(2)

    def any_campaign() -> str:
        return filler.small[rng.integers(len(filler.small))]

    def level(campaign_id: str) -> str:
        return campaigns.get_campaign(store, campaign_id).reference_hash

    def any_formula() -> str:
        return FORMULAS[rng.integers(len(FORMULAS))]

    def look(id_: str) -> Any:
        return overviews(store, name=id_), detail(store, campaigns.get_campaign(store, id_), [])

    def ask(**filters: Any) -> list[Any]:
        return rows(store, Query(limit=50, **filters))

    def of(campaign: Callable[[], str], call: Callable[[Store, str, str], Any]) -> Callable[[], Any]:
        def answer() -> Any:
            id_ = campaign()
            return call(store, id_, level(id_))

        return answer

    whose = {"a campaign of 80": any_campaign, "the large campaign": lambda: filler.large}
    for name, campaign in whose.items():
        yield f"best -n 10, {name}", of(campaign, structures.best)
        yield f"live table of `run`, {name}", lambda campaign=campaign: snapshot(store, campaign())
        yield f"counts, {name}", of(campaign, evaluations.counts)
        yield f"history, {name}", of(campaign, evaluations.history)
        yield f"status CAMPAIGN, {name}", lambda campaign=campaign: look(campaign())
    yield "status, all campaigns", lambda: overviews(store)
    yield "status, all campaigns, counted anew", lambda: overviews(store, count_all=True)
    yield "query", ask
    yield "query --formula", lambda: ask(formula=any_formula())
    yield (
        "query --formula --reference --above 0.5",
        lambda: ask(formula=any_formula(), reference="emt", above=0.5),
    )
    yield "query --elements Pt,O", lambda: ask(elements=("Pt", "O"))
    yield "query --elements Ag --above-per-atom 0.02", lambda: ask(elements=("Ag",), above_per_atom=0.02)
    yield "query --above 0.5", lambda: ask(above=0.5)
    yield "query --reference gpaw-pbe-production", lambda: ask(reference="gpaw-pbe-production")
    yield "query --reference HASH --max-energy", lambda: ask(reference=f"{1:064x}"[:60], max_energy=-75.0)
    yield "query --max-energy, nearly nothing", lambda: ask(max_energy=-77.5)
    yield "query --foundation chgnet", lambda: ask(foundation="chgnet")
    yield "query --tag", lambda: ask(tags=(f"set-{rng.integers(50)}",))
    yield "query --campaign, a campaign of 80", lambda: ask(campaigns=(any_campaign(),))
    yield "query --campaign, the large campaign", lambda: ask(campaigns=("large",))
    yield "query --round 1", lambda: ask(round=1)
    yield "query --round, the last one", lambda: ask(round=filler.large_rounds - 1)
    yield "query --status failed", lambda: ask(status="failed")
    yield "query --status pending", lambda: ask(status="pending")
    yield "find: 1000 rows, pandas", lambda: find(store, Query(limit=1000))


@dataclass(frozen=True)
class Stopwatch:
    """Times calls; the server's CPU time counts."""

    server: psutil.Process

    def cpu(self) -> float:
        """CPU time of this process and the server so far, s."""
        times = self.server.cpu_times()
        return time.process_time() + times.user + times.system

    def __call__(self, call: Callable[[], Any], repeats: int = REPEATS) -> dict[str, float]:
        """Median, 95th percentile and mean CPU time, s, after one call that is not counted."""
        call()
        times, before = [], self.cpu()
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        cpu = (self.cpu() - before) / repeats
        return {"median_s": median(times), "p95_s": quantiles(times, n=20)[-1], "cpu_s": cpu}


def inserting(filler: Filler, measured: Stopwatch, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Seconds for a round's candidates, and for lease and result of an evaluation."""
    store = filler.store
    rng = np.random.default_rng()
    id_ = filler.campaign(f"inserting-{filler.count}", "Ag16S8", 0).campaign_id
    key = RoundKey(id_, 0, 0)
    rounds.plan_round(store, key, None)
    batches = [[filler.structure(key, "Ag16S8") for _ in range(PER_ROUND)] for _ in range(repeats + 1)]
    waiting = [document for batch in batches for document in batch]
    feed = iter(batches)

    def evaluate() -> None:
        document = waiting.pop()
        answer = evaluations.claim(store, document.structure_hash, f"{0:064x}", "me", 60.0, wanted=document)
        assert isinstance(answer, evaluations.Claim)
        forces = rng.normal(size=(len(document.numbers), 3))
        evaluations.commit_ok(store, answer, document.model_energy, forces, {"wall_s": 1.0})

    timed = {
        f"{PER_ROUND} candidates": measured(lambda: structures.add_candidates(store, next(feed)), repeats),
        "lease and result": measured(evaluate, repeats),
    }
    for name in ("structures", "evaluations"):
        asked = {"campaign_id": id_} if name == "structures" else {"requests.campaign_id": id_}
        store.db[name].delete_many(asked)
    store.rounds.delete_many({"campaign_id": id_})
    store.campaigns.delete_one({"campaign_id": id_})
    return timed


def sizes(store: Store) -> dict[str, Any]:
    """Bytes of data and of each index."""
    found = {}
    for name in COLLECTIONS:
        stats = store.db.command("collStats", name)
        found[name] = {
            "documents": stats["count"],
            "data": stats["size"],
            "on_disk": stats["storageSize"],
            "indexes": dict(stats["indexSizes"]),
        }
    return found


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    with tempfile.TemporaryDirectory() as folder:
        server = PrivateMongod(Path(folder))
        store = connect(server.start())
        store.ensure_indexes()
        try:
            filler = Filler(store)
            measured = Stopwatch(psutil.Process(server.status().pid))
            steps = []
            for size in (size for size in SIZES if size <= largest):
                rate = filler.fill(size)
                step = {
                    "structures": filler.count,
                    "campaigns": len(filler.small) + 1,
                    "large": filler.large_rounds * PER_ROUND,
                    "filled_per_s": rate,
                    "questions": {name: measured(call) for name, call in questions(filler)},
                    "inserting": inserting(filler, measured),
                    "sizes": sizes(store),
                    "load": os.getloadavg()[0],
                }
                steps.append(step)
                for name, times in step["questions"].items():
                    numbers = " ".join(f"{1e3 * seconds:8.1f}" for seconds in times.values())
                    print(f"{size:>7} {numbers} ms  {name}", flush=True)
            path = save("database", {"steps": steps, "repeats": REPEATS})
            print(path)
        finally:
            store.close()
            server.stop()


if __name__ == "__main__":
    main()
