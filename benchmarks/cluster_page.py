"""The sections of docs/benchmarks.md on clusters."""

from statistics import median
from typing import Any

from engine_ledger import engine_seconds
from page import JOBS, load_range, table, where


def cluster_submit(data: dict[str, Any]) -> str:
    rows = []
    for chains in sorted({row["chains"] for row in data["rows"]}):
        runs = [row for row in data["rows"] if row["chains"] == chains]
        walls = sorted(row["wall_s"] for row in runs)
        rows.append(
            [chains, f"{median(walls):.1f} ({walls[0]:.1f}-{walls[-1]:.1f})"]
            + [f"{median(row[name] for row in runs):.1f}" for name in ("cpu_s", "mongod_s")]
            + [len(runs)]
        )
    looks = [row["look"] for row in data["rows"] if row["chains"] == 1 and "look" in row]
    each = [
        1e3 * median(look[name] for look in looks) / data["campaigns"] for name in ("worker_s", "mongod_s")
    ]
    return (
        f"## {data['campaigns']:,} campaigns (`cluster.py submit`)\n\n`godelta submit` of {data['campaigns']:,} files into an empty database:"
        " reading and checking them, registering the campaigns, planning the first round of each chain. One command, its start"
        f" included; medians. {load_range(data['rows'])}\n\n"
        + table(["chains of each", "wall, s (range)", "CPU, s", "CPU of mongod, s", "n"], rows)
        + f"\nOne look of the planner at a running campaign of one chain where nothing is to be done: {each[0]:.1f} ms CPU, and {each[1]:.1f} ms"
        f" of mongod (n = {len(looks)}).\n\n{where(data)}"
    )


WAYS = {
    "jobs": "the jobs alone",
    "run": "`godelta run`, one worker",
    "slurm": "`godelta submit --launch`, SLURM",
}


def cluster_overhead(data: dict[str, Any]) -> str:
    few, many = (end({row["rounds"] for row in data["rows"]}) for end in (min, max))
    cost: dict[tuple[str, int], float] = {}
    rows = []
    for way, name in WAYS.items():
        cells = [name]
        for rounds in (few, many):
            runs = [row for row in data["rows"] if (row["way"], row["rounds"]) == (way, rounds)]
            cost[way, rounds] = median(row["cpu_s"] + row["mongod_s"] for row in runs)
            cells += [f"{cost[way, rounds]:.1f}", f"{median(row['wall_s'] for row in runs):.0f}"]
        of_round = (cost[way, many] - cost[way, few]) / (many - few)
        rows.append([*cells, f"{of_round:.2f}", f"{cost[way, few] - few * of_round:.1f}", len(runs)])
    bare = float(rows[0][5])
    pilots = [
        len(row["batch_jobs"]) for row in data["rows"] if row["way"] == "slurm" and row["rounds"] == many
    ]
    more = [f"{float(row[5]) - bare:.2f}" for row in rows[1:]]
    per_job = (float(rows[2][5]) - bare) / data["jobs_of_a_round"]
    head = ["way"]
    for rounds in (few, many):
        head += [f"{rounds} rounds: CPU, s", "wall, s"]
    return (
        f"## Rounds through SLURM (`cluster.py overhead`)\n\nOne chain of cheap rounds, {data['evaluations_per_round']} EMT evaluations each, as"
        f" {data['jobs_of_a_round']} jobs of the queue. CPU seconds of all processes, mongod and the launcher included; medians of n runs."
        " *jobs alone*: one process calls them one after the other, with the database, without queue and planner. SLURM"
        f" {data['slurm']}, one node, accounting; batch jobs for searches and for evaluations (median {median(pilots):g} in {many} rounds), the"
        f" launcher looks every {data['look_every_s']:g} s. *per round* and *once* are the line through both lengths.\n\n"
        + table([*head, "per round, s", "once, s", "n"], rows)
        + f"\nA round costs {more[0]} s CPU more by `godelta run` than its jobs alone, {more[1]} s by SLURM: {1e3 * per_job:.0f} ms per job. What is paid"
        " once are imports (of every process), compilation, and waiting for a job: batch jobs stay for"
        f" {data['idle_s']} s after the last one here. {load_range(data['rows'])}\n\n{where(data)}"
    )


def cluster_round(data: dict[str, Any]) -> str:
    rows = []
    for row in sorted(data["rows"], key=lambda row: row["evaluations"]):
        sections = row["sections"]
        queue = engine_seconds(row) - sum(sections.get(job, 0.0) for job in JOBS)
        parts = [sections["evaluate"] + sections["reference"], sections["select"] + sections["retrain"]]
        own = [*parts, sections["search"] + sections.get("planner", 0.0), queue, row["mongod_s"]]
        count = row["evaluations"]
        rows.append(
            [
                count,
                row["jobs"],
                *(f"{part:.1f}" for part in own),
                f"{row['bookkeeping_s']:.1f}",
                f"{1e3 * row['bookkeeping_s'] / count:.0f}",
                f"{row['children_s']:.0f}",
            ]
        )
    head = [
        "evaluations", "jobs", "evaluations, s", "select + retrain, s", "search + planner, s", "queue, s",
        "mongod, s", "in total, s", "per evaluation, ms", "engine's processes, s",
    ]  # fmt: skip
    return (
        f"## One wide round (`cluster.py round`)\n\nOne round, EMT, {data['evaluations_per_job']} evaluations to a job, one worker. CPU seconds of"
        " worker and mongod without potential and training; *evaluations*: leases, budget, start of the engine's process, storing."
        f" *engine's processes* (mostly imports) are no part of the total. n = 1 each. {load_range(data['rows'])}\n\n"
        + table(head, rows)
        + f"\n{where(data)}"
    )


def cluster_queue(data: dict[str, Any]) -> str:
    rows = []
    for jobs in sorted({row["jobs"] for row in data["rows"]}):
        runs = [row for row in data["rows"] if row["jobs"] == jobs]
        each = [median(row[name] for row in runs) / data["looks"] for name in ("worker_s", "mongod_s")]
        wall = median(row["median_s"] for row in runs)
        rows.append([f"{jobs:,}", *(f"{1e3 * value:.2f}" for value in (wall, *each)), len(runs)])
    return (
        "## A long queue (`cluster.py queue`)\n\nA worker looks for a job of its categories and finds none, while so many jobs of another"
        f" category are ready; an idle worker does so every 2 s. Per look, means of {data['looks']} and medians of n runs."
        f" {load_range(data['rows'])}\n\n"
        + table(["jobs of others", "wall, ms", "CPU of the worker, ms", "CPU of mongod, ms", "n"], rows)
        + f"\n{where(data)}"
    )
