"""The sections of docs/benchmarks.md that compare with AGOX."""

from statistics import mean, median, stdev
from typing import Any

from page import table, where

AIMS = {"slab": (180, 1.03), "cluster": (60, 1.06)}
ATOMS = {"slab": "60-atom slab", "cluster": "21-atom cluster"}


def agox_table(data: dict[str, Any]) -> str:
    parts = data["parts"]
    cost, more = parts["cost"], parts["retraining"]
    ms = cost["median_ms"]
    ours, theirs = more["godelta"]["again"], more["agox"]["again"]
    choice = more["agox"]["first"]
    n = {code: [len(cost["raw_ms"][system][code]["both"]) for system in AIMS] for code in ms["slab"]}
    alone = ", ".join(
        f"{ATOMS[system]} {ms[system]['godelta']['delta_alone']:.2f} and {ms[system]['agox']['delta_alone']:.0f} ms"
        f" (ratio {ms[system]['agox']['delta_alone'] / ms[system]['godelta']['delta_alone']:.0f})"
        for system in AIMS
    )
    off = max(cost["foundations_differ_by_ev"].values())
    spread = ", ".join(f"{ATOMS[system]} {_spread(cost['raw_ms'][system]['godelta'])}" for system in AIMS)
    implied = ", ".join(
        f"{ATOMS[system]} {1 + ms[system]['godelta']['delta'] / ms[system]['godelta']['foundation']:.3f}"
        for system in AIMS
    )
    return (
        "## Beside AGOX 3.11.1 (`agox_table.py`)\n\nAGOX is the papers' own code. Two processes, asked in turn; CPU times of one"
        " thread, the same structures (all atoms move), descriptor, hyper-parameters, 1000 inducing points and CHGNet weights, each code"
        f" with its own way of calling CHGNet (energies differ by {off:.0e} eV at most). Medians; in the first six lines n ="
        f" {n['godelta'][0]} and {n['godelta'][1]} (ours, slab and cluster), {n['agox'][0]} and {n['agox'][1]} (AGOX), CHGNet, Δ and both in"
        " turn. *ratio*: AGOX's number over ours.\n\n"
        + table(["", "AGOX", "godelta", "reach", "ratio"], _rows(cost, more))
        + f"\nCHGNet alone takes {ms['slab']['godelta']['foundation']:.0f} ms here and {ms['slab']['agox']['foundation']:.0f} ms in AGOX on the"
        f" slab, {ms['cluster']['godelta']['foundation']:.1f} and {ms['cluster']['agox']['foundation']:.1f} ms on the cluster (CHGNet's own calculator also works"
        f" out stresses and magnetic moments). CHGNet + Δ over CHGNet, ours, p10-p90: {spread}, since CHGNet's own"
        f" time varies that much on a busy machine; from Δ's own time it is {implied}. Δ without CHGNet in between: {alone}.\n\n"
        "Retraining, n = 5 for ours and 1 for AGOX, each step in a process of its own, whose libraries and structures count as memory"
        f" ({ours['before_mb']:.0f} and {theirs['before_mb']:.0f} MB before it starts). Ours reads the stored model ({ours['load_s']:.3f} s), asks CHGNet about the new"
        f" structure ({ours['foundation_s']:.2f} s) and fits ({ours['fit_s']:.2f} s). AGOX asks CHGNet about every structure; descriptors and inducing"
        " points are kept, as in a run of AGOX. There they are chosen anew in every 25th iteration (in every one below 10,000 environments,"
        f" and always out of a run): {choice['choice_of_inducing_points_s']:.0f} s more, and {choice['peak_mb'] / 1000:.1f} GB. Ours chooses anew when the number of"
        f" environments has doubled; from nothing it takes {more['godelta']['first']['from_nothing_without_foundation_s']:.1f} s.\n\n"
        + _curve(parts["curve"])
        + f"\n{_versions(data)}{where(data)}"
    )


def _rows(cost: dict[str, Any], more: dict[str, Any]) -> list[list[str]]:
    ms, share = cost["median_ms"], cost["both_over_foundation"]
    ours, theirs = more["godelta"]["again"], more["agox"]["again"]
    choice = more["agox"]["first"]
    rows = []
    for system, (aim, _) in AIMS.items():
        rows.append(_speed(f"Δ energy + forces, {ATOMS[system]}, ms", ms[system], "delta", aim))
    for system, (_, most) in AIMS.items():
        both = {code: f"{share[system][code]:.3f}" for code in ("agox", "godelta")}
        reach = f"<= {most}" + _missed(share[system]["godelta"] <= most)
        rows.append(
            [
                f"CHGNet + Δ over CHGNet, {ATOMS[system]}",
                both["agox"],
                both["godelta"],
                reach,
                _ratio(share[system]["agox"] / share[system]["godelta"]),
            ]
        )
    for system in AIMS:
        rows.append(_speed(f"CHGNet + Δ energy + forces, {ATOMS[system]}, ms", ms[system], "both", 4))
    name = f"retraining after one more of {more['structures']} slabs"
    seconds, memory = theirs["retrain_s"] / ours["retrain_s"], theirs["peak_mb"] / ours["peak_mb"]
    rows += [
        [f"{name}, s", f"{theirs['retrain_s']:.0f}", f"{ours['retrain_s']:.2f}",
         "<= 1" + _missed(ours["retrain_s"] <= 1), _ratio(seconds)],
        ["peak memory there, MB",
         f"{theirs['peak_mb']:.0f} ({choice['peak_mb']:.0f} where inducing points are chosen)",
         f"{ours['peak_mb']:.0f}", "<= 1000" + _missed(ours["peak_mb"] <= 1000), _ratio(memory)],
    ]  # fmt: skip
    return rows


def _speed(name: str, times: dict[str, Any], what: str, aim: int) -> list[str]:
    theirs, ours = times["agox"][what], times["godelta"][what]
    reach = f">= {aim} times faster" + _missed(theirs / ours >= aim)
    return [
        name,
        f"{theirs:.0f}",
        f"{ours:.2f}" if ours < 5 else f"{ours:.1f}",
        reach,
        _ratio(theirs / ours),
    ]


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def _missed(reached: bool) -> str:
    return "" if reached else " (missed)"


def _spread(times: dict[str, list[float]]) -> str:
    ratios = sorted(b / f for b, f in zip(times["both"], times["foundation"], strict=True))
    low, high = (ratios[round(part * (len(ratios) - 1))] for part in (0.1, 0.9))
    return f"{low:.2f}-{high:.2f}"


def _curve(curve: dict[str, Any]) -> str:
    rows = curve["rows"]
    sizes = sorted({row["structures"] for row in rows})
    cases = list(dict.fromkeys(row["case"] for row in rows))
    keys = ("energy_mae_mev", "force_mae_mev_per_angstrom")

    def values(case: str, size: int, key: str) -> list[float]:
        return [row[key] for row in rows if (row["case"], row["structures"]) == (case, size)]

    lines = [
        [case, *(" / ".join(f"{mean(values(case, size, key)):.0f}" for key in keys) for size in sizes)]
        for case in cases
    ]
    paired = []
    for size in sizes:
        differences = [
            [
                a - b
                for a, b in zip(
                    values("godelta, paper", size, key), values("agox, paper", size, key), strict=True
                )
            ]
            for key in keys
        ]
        paired.append(" / ".join(f"{mean(d):+.1f} ± {stdev(d) / len(d) ** 0.5:.1f}" for d in differences))
    rms = ("energies_rms_difference_mev", "forces_rms_difference_mev_per_angstrom")
    apart = [" / ".join(f"{median(values('agox, paper', size, key)):.0f}" for key in rms) for size in sizes]
    lines += [["paper: ours less AGOX's", *paired], ["paper: predictions differ by, rms", *apart]]
    return (
        f"Learning from the same evaluations ({curve['data']}, residuals to CHGNet): errors on {curve['held_out']} structures held out,"
        f" meV and meV/Å, against the number of evaluations; mean of {curve['draws']} draws. `paper` has the hyper-parameters of AGOX and,"
        " like it, learns energies only and takes those of high energy in full (`energy_window: 1000`); `accurate` learns forces too."
        " Differences of the errors are paired, with their standard error. The noise that both codes take a label to have is"
        f" {curve['noise_mev']:.0f} meV.\n\n" + table(["", *map(str, sizes)], lines)
    )


def _versions(data: dict[str, Any]) -> str:
    peer = ", ".join(line.replace("==", " ") for line in data["agox_versions"])
    loads = [load for part in data["parts"].values() for load in part["load_average"]]
    return f"AGOX's environment: {peer}. Load average between {min(loads):.1f} and {max(loads):.1f}.\n\n"


def agox_predictions(data: dict[str, Any]) -> str:
    rows = []
    for name, row in data["comparison"].items():
        energies, forces = row["energies_mev"], row["forces_mev_per_angstrom"]
        if name != "test":
            rows.append(
                [
                    name,
                    f"{row['training']} / {row['held_out']}",
                    f"{energies['godelta_mae']:.1f} / {energies['agox_mae']:.1f}",
                    f"{forces['godelta_mae']:.1f} / {forces['agox_mae']:.1f}",
                    f"{energies['rms_difference']:.1f}",
                    f"{energies['godelta_rms_scatter']:.1f} / {energies['agox_rms_scatter']:.1f}",
                    f"{row['noise_mev']:.0f}",
                    f"{forces['rms_difference']:.1f}",
                    f"{forces['godelta_rms_scatter']:.1f} / {forces['agox_rms_scatter']:.1f}",
                ]
            )
    heads = [
        "data, preset `paper`",
        "training / held out",
        "MAE energy, godelta / AGOX",
        "MAE forces",
        "difference of energies, rms",
        "scatter over draws of CUR",
        "noise of a label",
        "difference of forces, rms",
        "scatter over draws",
    ]
    return (
        "## The predictions of AGOX 3.11.1 (`agox_predictions.py`)\n\nThe same structures and hyper-parameters, meV and meV/Å."
        " Energies only are learnt, as in the paper.\n\n" + table(heads, rows) + "\n" + where(data)
    )
