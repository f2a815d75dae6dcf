"""What a campaign cost, and what it takes to do the same again."""

from godelta.analysis.report.data import CampaignData
from godelta.analysis.report.parts import Code, Facts, Part, Prose, Section, Shares, Table
from godelta.analysis.report.words import constraints


def costs_section(data: CampaignData) -> Section | None:
    """Time by role; None where nothing has been done yet."""
    total = sum(row.wall_s for row in data.costs)
    if not total:
        return None
    rows = [
        [
            row.role,
            row.count,
            _seconds(row.wall_s),
            "-" if row.cpu_s is None else _seconds(row.cpu_s),
            f"{100 * row.wall_s / total:.0f} %",
        ]
        for row in data.costs
    ]
    known = [row.cpu_s for row in data.costs if row.cpu_s is not None]
    rows.append(["all", "", _seconds(total), _seconds(sum(known)) if known else "-", ""])
    note = "Evaluations count with what they cost, also those that another campaign had made before."
    parts: list[Part] = [
        Shares("time by role", [(row.role, row.wall_s / total) for row in data.costs]),
        Table(
            "cost by role",
            ["role", "what", "time", "processor time", "share of time"],
            rows,
            frozenset({"role", "what"}),
            note,
        ),
    ]
    if data.worker_s > 0:
        parts.append(Prose(f"Workers were there for {_seconds(data.worker_s)} in all."))
    return Section("cost", "Cost by role", parts)


def provenance_section(data: CampaignData) -> Section:
    """Versions, hashes, the campaign file, and the commands that do it again."""
    origin = data.provenance
    packages = [(name, version) for name, version in origin.versions.items()]
    file = f"{data.name}.yaml"
    commands = (
        "pip install -c constraints.txt godelta     # with the extras that the file needs\n"
        "godelta init again && cd again\n"
        f"godelta check ../{file}\n"
        f"godelta run ../{file}\n"
        f"godelta best {data.name} -n 10\n"
    )
    parts: list[Part] = [
        Prose(
            f"Save {file} below (and files that it names), and constraints.txt. The same file, seed and"
            " versions search the same way; where chains share what they learn, or several workers are at"
            " work, chance decides which evaluation ends first."
        ),
        Facts([("seed", str(origin.seed)), *origin.hashes.items()]),
        Facts(packages),
        Code(commands),
        Code(origin.file, file, folded=True),
        *(Code(text, name, folded=True) for name, text in origin.extra_files.items()),
        Code(constraints(origin.versions), "constraints.txt", folded=True),
    ]
    return Section("provenance", "Provenance", parts)


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
