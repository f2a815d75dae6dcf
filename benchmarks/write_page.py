"""Write docs/benchmarks.md from the raw numbers in results/.

Usage: python benchmarks/write_page.py
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

from agox_page import agox_predictions, agox_table
from agox_searches_page import agox_searches
from batches_page import batches
from chgnet_layers_page import chgnet_layers
from cluster_page import cluster_overhead, cluster_queue, cluster_round, cluster_submit
from engine_ledger import engine_seconds
from learning_page import learning_curves
from methods_page import methods_section, refinement
from page import JOBS, load_range, table, where
from paper_page import paper_section
from record import RESULTS
from selected_page import selected_section

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Every number comes from a script in `benchmarks/`; raw numbers lie in `benchmarks/results/`, and `python
benchmarks/write_page.py` writes this page. Times are CPU times of one thread unless wall time is said. The machines are
virtual, shared and noisy: ratios taken in one process, and medians, are what to look at. The load average says how busy
the machine was besides.

On 22 November 2026 the prior of the Δ-model's amplitude was given more weight beside derivatives ([why](design.md#the-δ-model)).
Measured before, and to be measured again: how long the shipped example takes, known answers, forces in training, learning
curves, and the campaigns of the papers' kind. Later that day structures whose last evaluation was in vain ceased to be evaluated again
([why](design.md#which-candidates-are-evaluated)): of before are `ag4s2`, its variants, `cu12ag-delta`, seeds 1 to 10 of
`cu12ag-methods` and 1 to 3 of `au4-on-cu111`, where it would have refused at most 3 % of the evaluations. In the evening
candidates came to be compared with every evaluated structure, in place of the first of each kind: all searches here
but the shipped example's answer are of before.
"""


def main() -> None:
    parts = [HEAD]
    for name, section in (
        ("example_run", example_run),
        ("example_answer", example_answer),
        ("known_answers", known_answers),
        ("engine_overhead", engine_overhead),
        ("engine_growth", engine_growth),
        ("engine_heartbeat", engine_heartbeat),
        ("engine_recovery", engine_recovery),
        ("database", database),
        ("cluster_submit", cluster_submit),
        ("cluster_overhead", cluster_overhead),
        ("cluster_round", cluster_round),
        ("cluster_queue", cluster_queue),
        ("delta_cost", delta_cost),
        ("chgnet_layers", chgnet_layers),
        ("batches", batches),
        ("agox_table", agox_table),
        ("agox_predictions", agox_predictions),
        ("agox_searches", agox_searches),
        ("delta_forces", delta_forces),
        ("learning_curves", learning_curves),
        ("refinement", refinement),
        ("duplicates", duplicates),
    ):
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(section(json.loads(path.read_text())))
    parts += [methods_section(), selected_section(), paper_section()]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def example_run(data: dict[str, Any]) -> str:
    rows = []
    for run in data["runs"]:
        share = {key: seconds / run["worker_s"] for key, seconds in run["timings"].items()}
        rows.append(
            [
                f"{run['command_wall_s']:.0f} s",
                f"{run['command_cpu_s']:.0f} s",
                f"{share['potential_s']:.0%}",
                f"{share.get('loading_s', 0):.0%}",
                f"{share['reference_s']:.0%}",
                f"{share['training_s']:.0%}",
                f"{run['overhead']:.1%}",
                f"{run['load_average_before']:.1f}",
                f"{run['best_energy']:.4f}",
            ]
        )
    head = [
        "wall", "CPU", "potential", "loading it", "reference", "training", "engine", "load before", "best, eV"
    ]  # fmt: skip
    return (
        f"## The shipped example (`example_run.py`)\n\n`godelta run ag4s2.yaml` from an empty workspace, two workers,"
        f" n = {len(rows)}. Shares of the workers' wall time; *engine* is what is neither potential (or loading it),"
        " reference nor training: queue, database, start of processes, the search's own arithmetic, waiting at the end."
        f"\n\n{table(head, rows)}\n{where(data)}"
    )


def example_answer(data: dict[str, Any]) -> str:
    rows = [[label, value] for label, value in answer_rows(data)]
    return (
        "## The shipped example's answer (`example_answer.py`)\n\n"
        + table(["structure", "GFN1-xTB energy, eV"], rows)
        + "\n"
        + where(data)
    )


def answer_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    bare, found = data["bare_chgnet"], data["campaign"]
    return [
        (
            "what bare CHGNet calls lowest of its relaxed random structures, as it is",
            f"{bare['xtb_as_is_ev']:.4f}",
        ),
        ("the same, relaxed in xTB", f"{bare['xtb_relaxed_ev']:.4f}"),
        (
            f"what the campaign finds ({found['evaluations']} evaluations), as it is",
            f"{found['xtb_as_is_ev']:.4f}",
        ),
        ("the same, relaxed in xTB", f"{found['xtb_relaxed_ev']:.4f}"),
    ]


def _forces_of(run: dict[str, Any]) -> str:
    return "derivatives" if run["settings"]["delta"].get("forces_as") == "gradients" else "copies"


def known_answers(data: dict[str, Any]) -> str:
    rows = []
    for name, forces in sorted({(run["system"], _forces_of(run)) for run in data["runs"]}):
        runs = [run for run in data["runs"] if (run["system"], _forces_of(run)) == (name, forces)]
        reached = [run for run in runs if run["reached"]]
        hits = sorted(run["evaluations_to_success"] for run in reached)
        bare = [run["bare"]["favourite_is_the_minimum"] for run in runs if "bare" in run]
        rows.append(
            [
                name,
                forces,
                f"{runs[0]['minimum_ev']:.4f}",
                f"{len(reached)} of {len(runs)}",
                f"{median(hits):g} ({hits[0]}-{hits[-1]})" if hits else "-",
                max(run["evaluations"] for run in runs),
                f"{min(run['best_relaxed_ev'] for run in runs):.4f}",
                f"{sum(bare)} of {len(bare)}" if bare else "-",
            ]
        )
    head = [
        "system", "forces learned as", "minimum, eV", "seeds that reach it", "evaluations, median (range)",
        "most evaluations", "best, relaxed", "bare foundation's favourite is it",
    ]  # fmt: skip
    return (
        "## Known answers through the whole engine (`known_answers.py`)\n\nLandscapes on which the foundation is wrong on"
        " purpose. *cu12ag*: reference EMT, foundation EMT with Cu and Ag exchanged; the truth has Ag outside, the foundation"
        " wants it in the centre. *cu13*: reference EMT, foundation Lennard-Jones. *ar13*: Lennard-Jones (rc = 10 σ, ε = 0.25 eV)"
        " whose σ and ε are wrong by 10 % in the foundation. A seed counts when its best evaluated energy is within 0.02 eV of the"
        " known minimum and relaxes in the reference to within 1e-3 eV of it. Small numbers of seeds: 5 of 5 mean more than 48 %,"
        " 4 of 5 mean 28-99 % (95 %, Clopper-Pearson). Forces are learned as derivatives of the kernel (the default), or as copies,"
        f" which was the default before.\n\n{table(head, rows)}\n{where(data['runs'][-1])}"
    )


def engine_overhead(data: dict[str, Any]) -> str:
    names = {"engine": "engine", "without_queue": "no queue"}
    typical = {
        (shape, way): overhead_parts(part[way]["rounds"][1:])  # the first round compiles and loads
        for shape, part in data["shapes"].items()
        for way in names
    }
    rows = [
        [shape, names[way], len(data["shapes"][shape][way]["rounds"]) - 1, f"{parts['wall']:.2f}"]
        + [f"{1e3 * parts[name]:.0f}" for name in ("jobs", "queue", "mongod", "potential")]
        for (shape, way), parts in typical.items()
    ]
    evaluations = [row for part in data["shapes"].values() for row in part["without_queue"]["isolated"]]
    every = [row for part in data["shapes"].values() for way in names for row in part[way]["rounds"]]
    own = {
        name: 1e3 * median(row[f"{name}_s"] for row in evaluations) for name in ("wall", "children", "worker")
    }
    one, many = (typical[f"10 evaluations, {jobs}", "engine"] for jobs in ("one job", "ten jobs"))
    speed = many["potential"] / one["potential"]
    job, job_server = (1e3 * (many[name] - speed * one[name]) / 9 for name in ("queue", "mongod"))
    head = ["shape of a round", "way", "n", "wall, s", "jobs, ms", "queue, ms", "mongod, ms", "potential, ms"]
    return (
        "## What the engine costs (`engine.py overhead`)\n\nRounds of a campaign with 13 atoms, EMT as reference and"
        " almost no search, through planner, LaunchPad and one worker (*engine*); and the same jobs called one after the"
        " other, with the database and without FireWorks (*no queue*). CPU times of the worker's process: *jobs*, our"
        " own code in search, selection, evaluation and retraining, database included; *queue*, FireWorks, jobflow, the"
        " worker's loop and the planner. *mongod*: the server's. *potential* is the same work in both ways, and tells how"
        " fast the machine was at the time. Medians per round; n rounds, the first one left out. Wall time is mostly"
        f" the reference's processes.\n\n{table(head, rows)}\n"
        f"An evaluation in a process of its own, without any database: {own['wall']:.0f} ms wall,"
        f" {own['children']:.0f} ms CPU of the child (nearly all of it imports), {own['worker']:.0f} ms of the"
        f" caller (medians, n = {len(evaluations)}). Lease, budget and storing add {1e2 * many['evaluate']:.1f} ms CPU of"
        f" the worker. One more job in the queue costs {job:.0f} ms of the worker and {job_server:.0f} ms of the server"
        f" (from the two shapes of ten evaluations, the first scaled to the speed of the second): nothing beside a DFT"
        f" calculation; short evaluations share a job. {load_range(every)}\n\n{where(data)}"
    )


def overhead_parts(rounds: list[dict[str, Any]]) -> dict[str, float]:
    jobs, sections = [job for job in JOBS if job != "planner"], [row["sections"] for row in rounds]
    own = [sum(part[job] for job in jobs) for part in sections]
    return {
        "wall": median(row["wall_s"] for row in rounds),
        "mongod": median(row["mongod_s"] for row in rounds),
        "jobs": median(own),
        "queue": median(engine_seconds(row) - jobs_s for row, jobs_s in zip(rounds, own, strict=True)),
        "potential": median(part["potential"] for part in sections),
        "evaluate": median(part["evaluate"] for part in sections),
    }


BLOCK = 25


def growth_parts(row: dict[str, Any]) -> dict[str, float]:
    sections, whole = row["sections"], engine_seconds(row)
    jobs = {job: sections.get(job, 0.0) for job in JOBS}
    return {
        "engine": whole,
        **jobs,
        "queue": whole - sum(jobs.values()),
        "mongod": row["mongod_s"],
        "training": sections.get("training", 0.0),
    }


def engine_growth(data: dict[str, Any]) -> str:
    rounds = data["rounds"]
    rows = []
    for first in range(0, len(rounds), BLOCK):
        block = rounds[first : first + BLOCK]
        parts = [growth_parts(row) for row in block]
        probe = next((f"{1e3 * row['probe']['snapshot_s']:.0f}" for row in block if "probe" in row), "-")
        rows.append(
            [
                f"{block[0]['k'] + 1}-{block[-1]['k'] + 1}",
                *(f"{1e3 * median(part[name] for part in parts):.0f}" for name in parts[0]),
                probe,
            ]
        )
    head = ["rounds", *growth_parts(rounds[0]), "live table"]
    first, last = (
        median(sum(row["sections"][job] for job in ("select", "retrain")) for row in block)
        for block in (rounds[:BLOCK], rounds[-BLOCK:])
    )
    slope = 1e3 * (last - first) / (len(rounds) - BLOCK)
    ratio = median(map(engine_seconds, rounds[-BLOCK:])) / median(map(engine_seconds, rounds[:BLOCK]))
    return (
        f"## From round 1 to round {len(rounds)} (`engine.py growth`)\n\nOne chain, one evaluation per round, the same"
        f" cheap campaign. CPU milliseconds per round, medians over blocks of {BLOCK} rounds. *engine* is the worker's"
        " CPU time besides potential, reference and training; the columns up to *queue* (FireWorks, jobflow and the"
        " worker's loop) are its parts. *live table*: one look of `godelta run` at the state of the campaign, which it"
        " takes twice a second, after the last round of the block (mean of 5). *training* is the Δ-model's, and no part"
        f" of *engine*.\n\n{table(head, rows)}\nThe last {BLOCK} rounds cost {ratio:.2f} times the first {BLOCK}."
        " What grows is selection and retraining: they read every structure and evaluation of the campaign, and compare"
        f" candidates with all that was selected before; {slope:.1f} ms per evaluation made so far."
        f" {load_range(rounds)}\n\n{where(data)}"
    )


def engine_heartbeat(data: dict[str, Any]) -> str:
    rows, settings = data["rows"], data["settings"]
    idle, fast, worker = rows["session without a worker"], rows["heartbeat"], rows["idle worker"]
    beats = 3600.0 / settings["beat_every_s"]

    def more(part: dict[str, Any], key: str) -> float:
        return float(part[key] - idle[key] * part["wall_s"] / idle["wall_s"])

    keys = ("worker_s", "mongod_s", "operations")
    per_hour = {key: beats / fast["beats"] * more(fast, key) for key in keys}
    waiting = {key: 3600.0 / worker["wall_s"] * more(worker, key) for key in keys}
    lines = [
        [name, f"{part['worker_s']:.1f}", f"{part['mongod_s']:.1f}", f"{part['operations']:.0f}"]
        for name, part in (("heartbeat with one lease held", per_hour), ("worker that finds no job", waiting))
    ]
    return (
        "## The heartbeat (`engine.py heartbeat`)\n\n"
        f"{fast['beats']} beats, {settings['factor']:.0f} times as fast as in earnest, in {fast['wall_s']:.0f} s, less what an"
        f" idle connection costs (measured for {idle['wall_s']:.0f} s); counted at one beat in {settings['beat_every_s']:g} s,"
        f" and a sign of life at every beat that comes {settings['sign_every_s']:g} s after the last one. For comparison, a"
        f" worker that looks for jobs and finds none ({worker['wall_s']:.0f} s).\n\n"
        + table(["per hour", "CPU of the worker, s", "CPU of mongod, s", "operations"], lines)
        + f"\n{where(data)}"
    )


VICTIMS = {
    "nobody": "nothing",
    "engine": "the engine's process",
    "worker": "the worker",
    "mongod": "mongod",
    "run": "`godelta run`, started again at once",
}


def engine_recovery(data: dict[str, Any]) -> str:
    waits = {name: sorted(row["wait_s"] for row in data["rows"] if row["victim"] == name) for name in VICTIMS}
    undisturbed = median(waits["nobody"])
    rows = [
        [VICTIMS[name], f"{median(times):.1f}", f"{times[0]:.1f}-{times[-1]:.1f}",
         "-" if name == "nobody" else f"{median(times) - undisturbed:.1f}", len(times)]
        for name, times in waits.items()
    ]  # fmt: skip
    return (
        "## After kill -9 (`engine_recovery.py`)\n\nFrom the kill, in the middle of an evaluation that sleeps"
        f" {data['sleep_s']:g} s, to the next evaluation that is done; one chain, one worker, each kind in turn. Wall time; the"
        " machine was busy with other things. *lost* is what the wait is longer than where nothing is killed. An evaluation goes"
        " on while mongod is away, and is stored when it is back. A worker is replaced by `godelta run`, which looks every"
        " 2 s, and loads the whole stack anew. Where `godelta run` itself is killed, its worker stops, and both the command"
        " and a new worker have to load.\n\n"
        + table(["killed", "median, s", "range, s", "lost, s", "n"], rows)
        + f"\n{load_range(data['rows'])}\n\n{where(data)}"
    )


def database(data: dict[str, Any]) -> str:
    steps = data["steps"]
    sizes = [f"{step['structures']:,}" for step in steps]

    def milliseconds(part: dict[str, float]) -> str:
        return f"{1e3 * part['median_s']:.1f} ({1e3 * part['cpu_s']:.1f})"

    questions = [
        [
            f"`{name}`" if name.startswith("query") else name,
            *(milliseconds(step["questions"][name]) for step in steps),
        ]
        for name in steps[0]["questions"]
    ]
    inserts = [
        [name, *(milliseconds(step["inserting"][name]) for step in steps)] for name in steps[0]["inserting"]
    ]
    indexes = [
        [f"{name}, {kind}", *(f"{index_bytes(step['sizes'][name], kind) / 1e6:.1f}" for step in steps)]
        for name in ("structures", "evaluations", "rounds", "campaigns")
        for kind in ("data", "indexes")
    ]
    large = steps[-1]["sizes"]["evaluations"]["indexes"]
    named = ", ".join(
        f"{name} {size / 1e6:.1f}" for name, size in sorted(large.items(), key=lambda item: -item[1])
    )
    last = steps[-1]
    return (
        "## The database (`database.py`)\n\nStructures of 12 to 24 atoms; four fifths of them in campaigns of 80, one fifth in a single"
        f" large campaign: at the end {last['campaigns']:,} campaigns, the large one with {last['large']:,} structures. Half of the structures are"
        " selected and have an evaluation. Milliseconds of wall time in process (median of"
        f" {data['repeats']} calls about different things), and in parentheses CPU of this process and mongod together (mean): that is what a"
        f" quiet machine would take at most. Load average between {min(step['load'] for step in steps):.1f} and"
        f" {max(step['load'] for step in steps):.1f}. Queries ask for 50 rows; *status CAMPAIGN* and *status* without the queue's part.\n\n"
        + table(["structures", *sizes], [*questions, *inserts])
        + "\nSizes in MB (data without compression, indexes on disk):\n\n"
        + table(["structures", *sizes], indexes)
        + f"\nIndexes of evaluations at the end, MB: {named}.\n\n{where(data)}"
    )


def index_bytes(sizes: dict[str, Any], kind: str) -> float:
    return float(sum(sizes["indexes"].values()) if kind == "indexes" else sizes["data"])


def delta_cost(data: dict[str, Any]) -> str:
    rows = [
        [
            name,
            part["moving"],
            part["inducing_points"],
            f"{part['energy_forces']['median_ms']:.2f}",
            f"{part['lower_bound']['median_ms']:.2f}",
            part["energy_forces"]["n"],
        ]
        for name, part in data["delta"].items()
    ]
    ratios = [
        [name, f"{part['chgnet']['median_ms']:.1f}", f"{part['ratio_median']:.3f}",
         f"{part['ratio_p10_p90'][0]:.3f}-{part['ratio_p10_p90'][1]:.3f}", part["chgnet"]["n"]]
        for name, part in data.get("foundation", {}).items()
    ]  # fmt: skip
    on_features = [
        [name.replace(" lower_bound", ", E - κσ"), part["inducing_points"], f"{part['chgnet']['median_ms']:.1f}",
         f"{part['ratio_median']:.3f}", f"{part['ratio_of_medians']:.3f}",
         f"{part['ratio_p10_p90'][0]:.3f}-{part['ratio_p10_p90'][1]:.3f}", part["chgnet"]["n"]]
        for name, part in data.get("embedding", {}).items()
    ]  # fmt: skip
    retraining, on_forces = data["retraining"], data["retraining_on_forces"]
    features = "" if not on_features else (
        "\nThe same with Δ on CHGNet's own features (`descriptor: embedding`):\n\n"
        + table(
            ["system", "inducing points", "CHGNet, ms", "ratio, median", "of medians", "p10-p90", "n"], on_features
        )
    )  # fmt: skip
    return (
        "## Cost of the Δ-model (`delta_cost.py`)\n\nCluster: Ag14S7, 21 atoms. Slab: Ag(111) 4x4x3 with Ag6S6, 60 atoms, the two"
        " lower layers fixed. *default* and *paper* are the presets of the Δ-model, both with SOAP preset `paper`; *default SOAP* is"
        " what a campaign uses by default. Limits that we set ourselves: 0.8 ms (cluster) and 3.5 ms (slab).\n\n"
        + table(
            ["system", "moving atoms", "inducing points", "E + F, ms", "E - κσ with forces, ms", "n"], rows
        )
        + "\nCHGNet with Δ over CHGNet alone, in one call (limits 1.06 and 1.03):\n\n"
        + table(["system", "CHGNet, ms", "ratio, median", "p10-p90", "n"], ratios)
        + features
        + f"\nRetraining after one more of {retraining['structures']} slabs, {retraining['inducing_points']} inducing points:"
        f" {retraining['retrain_s']:.2f} s (limit 1 s), peak memory {retraining['peak_rss_mb']:.0f} MB,"
        f" {retraining['stored_mb']:.1f} MB stored; from nothing {retraining['from_nothing_s']:.1f} s. That is on energies. On forces"
        f" too, as a campaign does by default, along as many directions as ten derivatives to an inducing point allow ({on_forces['rows']}"
        f" rows): {on_forces['going_on_s']:.1f} s in a worker that goes on, {on_forces['from_stored_s']:.1f} s in a new process,"
        f" {on_forces['from_nothing_s']:.1f} s from nothing (n = 1); peak memory {on_forces['peak_rss_mb']:.0f} MB,"
        f" {on_forces['stored_mb']:.1f} MB stored.\n\n{where(data)}"
    )


def delta_forces(data: dict[str, Any]) -> str:
    rows = []
    for name, row in data["mean"].items():
        case, size = name.rsplit(", ", 1)
        rows.append(
            [
                case,
                size,
                f"{row['rows']:.0f}",
                f"{row['energy_mae_mev']:.0f}",
                f"{row['force_mae_mev_per_angstrom']:.0f}",
                f"{row['z_rms']:.1f}",
                f"{row['train_cpu_s']:.2f}",
            ]
        )
    without = sum(row["no_model_force_mae"] for row in data["raw"]) / len(data["raw"])
    heads = [
        "learnt from",
        "structures",
        "rows",
        "MAE energy, meV",
        "MAE forces, meV/Å",
        "z rms",
        "training, CPU s",
    ]
    return (
        "## Forces in training (`delta_forces.py`)\n\nAg4S2, random clusters after a few steps on CHGNet; GFN1-xTB minus CHGNet. Errors on"
        f" {data['held_out']} others, mean of {data['draws']} draws; CHGNet alone is off by {without:.0f} meV/Å.\n\n"
        + table(heads, rows)
        + "\n"
        + where(data)
    )


def duplicates(data: dict[str, Any]) -> str:
    rows = []
    for name, different in dict.fromkeys((row["structures"], row["different"]) for row in data["rows"]):
        same = [row for row in data["rows"] if (row["structures"], row["different"]) == (name, different)]
        rows.append(
            [name, f"{different:,}", f"{same[0]['found']:,}",
             *(f"{median(row[key] for row in same):.1f}" for key in ("group_cpu_s", "distinct_cpu_s")), len(same)]
        )  # fmt: skip
    heads = ["structures", "different", "found", "grouped, CPU s", "distinct ones chosen, CPU s", "n"]
    return (
        "## Equivalent structures (`duplicates.py`)\n\nOf"
        f" {data['count']:,} structures, copies turned, mirrored, permuted, shifted along the surface's lattice, with noise of"
        f" {data['noise']:g} Å; medians. Our limit is 10 s. {load_range(data['rows'])}\n\n{table(heads, rows)}\n{where(data)}"
    )


if __name__ == "__main__":
    main()
