"""Write docs/benchmarks.md from the raw numbers in results/.

Usage: python benchmarks/write_page.py
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

from record import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Every number comes from a script in `benchmarks/`; raw numbers lie in `benchmarks/results/`, and `python
benchmarks/write_page.py` writes this page. Times are CPU times of one thread unless wall time is said. The machines are
virtual, shared and noisy: ratios taken in one process, and medians, are what to look at. The load average says how busy
the machine was besides.
"""


def main() -> None:
    parts = [HEAD]
    for name, section in (
        ("example_run", example_run),
        ("example_answer", example_answer),
        ("known_answers", known_answers),
        ("delta_cost", delta_cost),
        ("agox_delta", agox_delta),
    ):
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(section(json.loads(path.read_text())))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def where(data: dict[str, Any]) -> str:
    machine = data["machine"]
    versions = ", ".join(
        f"{name} {number}" for name, number in data["versions"].items() if number[0].isdigit()
    )
    return (
        f"*{machine['processor']}, {machine['cores']} cores, load {machine['load_average']:.1f},"
        f" Python {machine['python']}; {versions}.*\n"
    )


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


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


def known_answers(data: dict[str, Any]) -> str:
    rows = []
    for name in dict.fromkeys(run["system"] for run in data["runs"]):
        runs = [run for run in data["runs"] if run["system"] == name]
        reached = [run for run in runs if run["reached"]]
        hits = sorted(run["evaluations_to_success"] for run in reached)
        bare = [run["bare"]["favourite_is_the_minimum"] for run in runs if "bare" in run]
        rows.append(
            [
                name,
                f"{runs[0]['minimum_ev']:.4f}",
                f"{len(reached)} of {len(runs)}",
                f"{median(hits):g} ({hits[0]}-{hits[-1]})" if hits else "-",
                max(run["evaluations"] for run in runs),
                f"{min(run['best_relaxed_ev'] for run in runs):.4f}",
                f"{sum(bare)} of {len(bare)}" if bare else "-",
            ]
        )
    head = [
        "system", "minimum, eV", "seeds that reach it", "evaluations, median (range)", "most evaluations",
        "best, relaxed", "bare foundation's favourite is it",
    ]  # fmt: skip
    return (
        "## Known answers through the whole engine (`known_answers.py`)\n\nLandscapes on which the foundation is wrong on"
        " purpose. *cu12ag*: reference EMT, foundation EMT with Cu and Ag exchanged; the truth has Ag outside, the foundation"
        " wants it in the centre. *cu13*: reference EMT, foundation Lennard-Jones. *ar13*: Lennard-Jones (rc = 10 σ, ε = 0.25 eV)"
        " whose σ and ε are wrong by 10 % in the foundation. A seed counts when its best evaluated energy is within 0.02 eV of the"
        " known minimum and relaxes in the reference to within 1e-3 eV of it. Small numbers of seeds: 5 of 5 mean more than 48 %,"
        f" 4 of 5 mean 28-99 % (95 %, Clopper-Pearson).\n\n{table(head, rows)}\n{where(data['runs'][-1])}"
    )


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
    retraining = data["retraining"]
    return (
        "## Cost of the Δ-model (`delta_cost.py`)\n\nCluster: Ag14S7, 21 atoms. Slab: Ag(111) 4x4x3 with Ag6S6, 60 atoms, the two"
        " lower layers fixed. *default* and *paper* are the presets of the Δ-model, both with SOAP preset `paper`; *default SOAP* is"
        " what a campaign uses by default. Limits that we set ourselves: 0.8 ms (cluster) and 3.5 ms (slab).\n\n"
        + table(
            ["system", "moving atoms", "inducing points", "E + F, ms", "E - κσ with forces, ms", "n"], rows
        )
        + "\nCHGNet with Δ over CHGNet alone, in one call (limits 1.06 and 1.03):\n\n"
        + table(["system", "CHGNet, ms", "ratio, median", "p10-p90", "n"], ratios)
        + f"\nRetraining after one more of {retraining['structures']} slabs, {retraining['inducing_points']} inducing points:"
        f" {retraining['retrain_s']:.2f} s (limit 1 s), peak memory {retraining['peak_rss_mb']:.0f} MB,"
        f" {retraining['stored_mb']:.1f} MB stored; from nothing {retraining['from_nothing_s']:.1f} s.\n\n{where(data)}"
    )


def agox_delta(data: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{data['median_ms']['godelta'][name]:.2f}",
            f"{data['median_ms']['agox'][name]:.1f}",
            f"{data['agox_over_godelta'][name]:.0f}",
        ]
        for name in ("cluster", "slab")
    ]
    n = {code: len(times["slab"]) for code, times in data["raw_ms"].items()}
    return (
        "## Beside AGOX 3.11.1 (`agox_delta.py`)\n\nEnergy + forces of the sparse GP alone, in turn, the same structures (all atoms"
        " move), the same descriptor and 1000 inducing points;"
        f" n = {n['godelta']} and {n['agox']} per system.\n\n"
        + table(["system", "godelta, ms", "AGOX, ms", "ratio"], rows)
        + "\n"
        + where(data)
    )


if __name__ == "__main__":
    main()
