"""What `godelta status` prints: tables that keep every number at 80 columns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from godelta.store.detail import FailedEvaluation, WorkerStatus
from godelta.store.documents import REFINEMENT_CHAIN, chain_number, chain_title
from godelta.store.overview import STATE_ORDER, Overview
from godelta.store.progress import ChainProgress
from godelta.workflows.overview import COLUMNS
from godelta.workflows.waiting import Situation

NARROW = 120  # columns, below which headings are short
MOST_ROWS = 100  # campaigns, without -n
MOST_LINES = 20  # of chains, failures and the like
STYLES = {
    "running": "cyan",
    "created": "",
    "paused": "yellow",
    "failed": "red",
    "finished": "green",
    "cancelled": "dim",
}
NOBODY = "no worker is alive: `godelta submit --launch`, `godelta worker` or `godelta run FILE`"
SHORT = {
    "evaluations": "evals",
    "energy before": "before",
    "failed": "fail",
    "running": "run",
    "queued": "wait",
    "changed": "age",
}
LEFT = frozenset(
    {
        "campaign", "system", "state", "category", "host", "takes", "reason", "message", "structure",
        "partition", "SLURM job", "doing",
    }
)  # fmt: skip
FOLDED = frozenset({"campaign", "system", "category", "takes", "reason", "message", "host", "doing"})


@dataclass(frozen=True)
class Campaigns:
    """What is known of all campaigns.

    Parameters
    ----------
    rows
        Those that fit the filters.
    limit
        Most rows to show.
    jobs
        What the queue holds of them, by state.
    ready
        Jobs of running campaigns that wait for a worker.
    """

    rows: list[Overview]
    limit: int | None
    jobs: Counter[str]
    ready: int
    workers: list[WorkerStatus]
    now: datetime
    filtered: bool = False


def _table(*columns: str, narrow: bool = False) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0))
    for column in columns:
        fold = column in FOLDED
        made.add_column(
            SHORT.get(column, column) if narrow else column,
            justify="left" if column in LEFT else "right",
            no_wrap=not fold,
            overflow="fold",
            min_width=8 if fold else None,
        )
    return made


def all_campaigns(found: Campaigns, width: int) -> RenderableType:
    """One row for each campaign, and what they come to."""
    if not found.rows:
        where = "No campaign fits." if found.filtered else "No campaign yet: `godelta run FILE` starts one."
        return Text(where)
    shown = _table(
        "campaign", "system", "state", "rounds", "best, eV", "ok", "failed", "running", "queued", "of",
        "changed", narrow=width < NARROW,
    )  # fmt: skip
    limit = MOST_ROWS if found.limit is None else found.limit
    for row in found.rows[:limit]:
        chains = len(row.chains)
        shown.add_row(
            Text(row.name, style="bold"),
            row.system,
            Text(row.state, style=STYLES[row.state]),
            f"{row.closed_rounds}/{row.rounds * chains}",
            _energy(row.best_energy),
            *_zeros_dim(row.ok, row.failed, row.running, row.queued),
            str(row.budget),
            age(found.now - row.changed_at),
        )
    parts: list[RenderableType] = [shown]
    if len(found.rows) > limit:
        parts.append(
            Text(f"and {len(found.rows) - limit} more: -n {len(found.rows)}, --state or --tag", style="dim")
        )
    parts += _reasons(found.rows[:limit])
    parts.append(Text(all_line(found)))
    if found.ready and not any(worker.alive for worker in found.workers):
        parts.append(Text(NOBODY, style="yellow"))
    return Group(*parts)


def _reasons(rows: Sequence[Overview]) -> list[RenderableType]:
    """Why campaigns failed, the first line of each; the whole is told of one."""
    failed = [row for row in rows if row.state == "failed"]
    lines: list[RenderableType] = [
        Text.assemble(
            (f"{row.name} failed: ", "red"), (row.reason or "no reason is known").strip().splitlines()[0]
        )
        for row in failed[:5]
    ]
    if len(failed) > 5:
        lines.append(Text(f"and {len(failed) - 5} more: --state failed", style="dim"))
    return lines


def all_line(found: Campaigns) -> str:
    """The line that sums up."""
    rows = found.rows
    states = Counter(row.state for row in rows)
    told = ", ".join(f"{states[state]} {state}" for state in STATE_ORDER if states[state])
    counts = (
        f"{sum(row.ok for row in rows)} ok, {sum(row.failed for row in rows)} failed,"
        f" {sum(row.running for row in rows)} running, {sum(row.queued for row in rows)} queued"
    )
    jobs = ", ".join(f"{found.jobs[state]} {state}" for state in COLUMNS if found.jobs[state]) or "none"
    alive = sum(worker.alive for worker in found.workers)
    silent = len(found.workers) - alive
    workers = f"{alive} alive" + (f", {silent} silent or gone" if silent else "")
    campaigns = "1 campaign" if len(rows) == 1 else f"{len(rows)} campaigns"
    return f"{campaigns}: {told or '-'} | evaluations: {counts} | jobs: {jobs} | workers: {workers}"


def one_line(row: Overview) -> str:
    """One campaign on one line."""
    rounds = " ".join("-" if chain.round is None else str(chain.round + 1) for chain in row.chains)
    refining = f" | {row.refinement}" if row.refinement is not None else ""
    return (
        f"{row.name} {row.state} | round {rounds} of {row.rounds} | evaluations {row.ok} ok,"
        f" {row.failed} failed, {row.running} running, {row.queued} queued of {row.budget}"
        f" | best {_energy(row.best_energy)} eV{refining}"
    )


def one_campaign(situation: Situation, waits: Sequence[str], now: datetime, width: int) -> RenderableType:
    """Everything that is known of one campaign."""
    narrow = width < NARROW
    parts: list[RenderableType | None] = [
        *_head(situation, now),
        _chains(situation, now, narrow),
        _evaluations(situation),
        _refinement(situation, narrow),
        _low_minima(situation),
        _running(situation, now, narrow),
        *_failed(situation, narrow),
        _queue(situation, narrow),
        _batch_jobs(situation, narrow),
        _workers(situation, now, narrow),
        _waits(waits),
    ]
    spaced = [part for some in parts if some is not None for part in (some, Text())]
    return Group(*spaced[:-1])


def _waits(waits: Sequence[str]) -> RenderableType:
    shown = Table.grid(padding=(0, 1, 0, 0))
    for line in waits:
        shown.add_row("-", Text(line))
    return Group(Text("what waits for what", style="bold"), shown)


def _head(situation: Situation, now: datetime) -> list[RenderableType]:
    row, best = situation.overview, situation.detail.best
    tags = f"  [{', '.join(row.tags)}]" if row.tags else ""
    head = Text.assemble(
        (row.name, "bold"), f"  {row.system}  ", (row.state, STYLES[row.state]), tags, "\n",
        f"{row.closed_rounds} of {row.rounds * len(row.chains)} rounds closed; last change"
        f" {age(now - row.changed_at)} ago; run for {timedelta(seconds=round(row.elapsed_s))}",
    )  # fmt: skip
    if best is None:
        return [head.append("\nno energy yet")]
    head.append("\nbest ").append(f"{best.energy:.4f} eV", style="bold green")
    head.append(
        f"  structure {best.structure_id[:8]}, {chain_title(best.chain)} round {best.round},"
        f" {age(now - best.evaluated_at)} ago"
    )
    return [head]


def _chains(situation: Situation, now: datetime, narrow: bool) -> RenderableType | None:
    latest = {round_.chain: round_ for round_ in situation.detail.rounds}
    if not latest:
        return None
    shown = _table(
        "chain", "round", "doing", "iteration", "in", "failed", "running", "queued", "best, eV", "changed",
        narrow=narrow,
    )  # fmt: skip
    chains = [*situation.overview.chains]
    if (refining := latest.get(REFINEMENT_CHAIN)) is not None:
        chains.insert(0, ChainProgress(REFINEMENT_CHAIN, refining.round, refining.state))
    for chain in chains[:MOST_LINES]:
        round_ = latest.get(chain.chain)
        if round_ is None:
            shown.add_row(chain_number(chain.chain), "-", "not begun", *["-"] * 6, "")
            continue
        shown.add_row(
            chain_number(chain.chain),
            str(round_.round),
            round_.state + (f" ({round_.epoch + 1}. attempt)" if round_.epoch else ""),
            "-" if chain.iteration is None else str(chain.iteration),
            f"{round_.done}/{round_.selected}",
            *_zeros_dim(round_.failed, round_.running, round_.queued),
            _energy(round_.best_energy),
            age(now - round_.changed_at),
        )
    if len(chains) <= MOST_LINES:
        return shown
    return Group(shown, Text(f"and {len(chains) - MOST_LINES} more chains: --format json", style="dim"))


def _evaluations(situation: Situation) -> RenderableType:
    row = situation.overview
    reasons = Counter(failed.reason for failed in situation.detail.failed).most_common()
    why = f" ({', '.join(f'{reason} {count}' for reason, count in reasons)})" if reasons else ""
    left = f"{row.running} running, {row.queued} queued of {row.budget}"
    return Text.assemble(
        ("evaluations", "bold"),
        f"  {row.ok} ok, {row.failed} failed{why}, {left}",
    )


def _refinement(situation: Situation, narrow: bool) -> RenderableType | None:
    """What is refined, from which energy to which, and why that has ended."""
    found = situation.refinement
    if found is None:
        return None
    evaluations = "1 evaluation" if found.count.evaluations == 1 else f"{found.count.evaluations} evaluations"
    told = Text.assemble(
        ("refinement", "bold"),
        f"  {found.count.told}, {evaluations}; asked: the {found.best} lowest, to {found.fmax:g} eV/Å",
        f"\nended: {found.ended}" if found.ended else "",
    )
    if not found.each:
        return told
    shown = _table(
        "structure",
        "from",
        "doing",
        "evaluations",
        "energy before",
        "now, eV",
        "below",
        "fmax",
        narrow=narrow,
    )
    for one in found.each[:MOST_LINES]:
        before = one.start_energy
        shown.add_row(
            one.at[:8],
            one.start[:8],
            one.status,
            str(one.evaluations),
            _energy(before),
            _energy(one.energy),
            _energy(None if before is None else before - one.energy),
            f"{one.fmax:.3f}",
        )
    return Group(told, shown, *_more(len(found.each)))


def _low_minima(situation: Situation) -> RenderableType | None:
    low = situation.low_minima
    if low is None or low.unseen.mass is None:
        return None
    return Text.assemble(
        ("low minima", "bold"),
        f"  {low.unseen.minima} within {low.window:.2f} eV of the best, {low.unseen.once} of them found by"
        f" only one of {low.unseen.chains} chains.\nGood-Turing: of what one more chain would find, about"
        f" {low.unseen.mass:.0%} or less would be new.\nIt tells how far chains agree, not that the lowest"
        " is found.",
    )


def _running(situation: Situation, now: datetime, narrow: bool) -> RenderableType | None:
    running = situation.detail.running
    if not running:
        return None
    shown = _table("structure", "chain", "round", "since", "host", "pid", "SLURM job", narrow=narrow)
    for one in running[:MOST_LINES]:
        shown.add_row(
            one.structure_id[:8],
            chain_number(one.chain),
            str(one.round),
            age(now - one.since),
            one.host if one.alive else f"{one.host} (gone)",
            "-" if one.pid is None else str(one.pid),
            one.batch_job or "-",
        )
    return Group(Text("evaluations running", style="bold"), shown, *_more(len(running)))


def _failed(situation: Situation, narrow: bool) -> list[RenderableType | None]:
    """What is in quarantine, and the commands that try failures again."""
    name, failed = situation.overview.name, situation.detail.failed
    if not failed:
        return []
    kept = [one for one in failed if one.in_quarantine]
    parts: list[RenderableType] = []
    if kept:
        shown = _table("structure", "chain", "round", "times", "reason", "message", narrow=narrow)
        for one in kept[:MOST_LINES]:
            place = one.structure_id[:8], chain_number(one.chain), str(one.round)
            shown.add_row(*place, str(one.endings), Text(one.reason), Text(_first_line(one.message)))
        parts += [Text("in quarantine", style="bold"), shown, *_more(len(kept))]
    return [Group(*parts, *(Text(line) for line in _retries(name, failed)))]


def _retries(name: str, failed: Sequence[FailedEvaluation]) -> list[str]:
    reasons = sorted({one.reason for one in failed if not one.for_good} - {"lost", "killed"})
    lines = []
    if any(one.reason in ("lost", "killed") and not one.for_good for one in failed):
        lines.append(f"to try again what was lost: godelta restart {name}")
    if reasons:
        lines.append(f"to try others again: godelta restart {name} --retry {reasons[0]}")
    if count := sum(one.for_good for one in failed):
        lines.append(f"tried too often, for good: {count}")
    return lines


def _queue(situation: Situation, narrow: bool) -> RenderableType | None:
    if not situation.queue:
        return None
    told = [
        state
        for state in COLUMNS
        if state in ("ready", "waiting", "running") or any(c[state] for c in situation.queue.values())
    ]
    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0))
    shown.add_column("jobs of the queue", overflow="fold", min_width=17)
    for state in told:
        shown.add_column(state, justify="right", no_wrap=True)
    for category, counts in sorted(situation.queue.items()):
        shown.add_row(category or "(no category)", *_zeros_dim(*(counts[state] for state in told)))
    return shown


def _batch_jobs(situation: Situation, narrow: bool) -> RenderableType | None:
    if not situation.batch_jobs:
        return None
    shown = _table("SLURM job", "category", "state", "partition", "left", "reason", narrow=narrow)
    jobs = [(category, job) for category, own in sorted(situation.batch_jobs.items()) for job in own]
    for category, job in jobs[:MOST_LINES]:
        shown.add_row(job.job_id, category, job.state, job.partition, job.left, Text(job.reason))
    return Group(shown, *_more(len(jobs)))


def _workers(situation: Situation, now: datetime, narrow: bool) -> RenderableType | None:
    """The living workers that serve the campaign."""
    workers = situation.serving
    if not workers:
        return None
    shown = _table("host", "pid", "takes", "doing", "since", "seen", "SLURM job", narrow=narrow)
    for worker in workers[:MOST_LINES]:
        shown.add_row(
            worker.host,
            "-" if worker.pid is None else str(worker.pid),
            ", ".join(worker.takes) or "every job",
            "a job" if worker.name in situation.busy else "waits",
            "-" if worker.since is None else age(now - worker.since),
            age(now - worker.seen),
            worker.batch_job or "-",
        )
    return Group(Text("workers", style="bold"), shown, *_more(len(workers)))


def age(passed: timedelta) -> str:
    """A time span in a few letters."""
    seconds = max(0.0, passed.total_seconds())
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _energy(energy: float | None) -> str:
    return "-" if energy is None else f"{energy:.4f}"


def _zeros_dim(*numbers: int) -> list[Text]:
    return [Text(str(number), style="" if number else "dim") for number in numbers]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _more(count: int) -> list[RenderableType]:
    return [Text(f"and {count - MOST_LINES} more: --format json", style="dim")] if count > MOST_LINES else []
