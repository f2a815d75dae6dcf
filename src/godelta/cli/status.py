"""`godelta status`."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

from rich.console import RenderableType
from rich.live import Live

from godelta.cli.console import console, print_json, print_json_line
from godelta.cli.status_tables import Campaigns, all_campaigns, all_line, one_campaign, one_line
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.detail import all_workers
from godelta.store.documents import CampaignDocument
from godelta.store.overview import STATE_ORDER, Overview, overviews
from godelta.store.workspace import Workspace
from godelta.workflows.overview import QueueCounts, queue_counts
from godelta.workflows.waiting import Situation, look, waits

ENDED = ("finished", "failed", "cancelled")


@dataclass(frozen=True)
class StatusOptions:
    """What to show of all campaigns, and whether again and again.

    Parameters
    ----------
    states, tags
        Campaigns in one of these states, and with all of these tags; none means any.
    limit
        Most campaigns.
    every
        Seconds between two looks; None: one look.
    """

    states: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limit: int | None = None
    every: float | None = None


@dataclass(frozen=True)
class _View:
    """What one look has found: for a terminal, for a pipe that is watched, and as plain values."""

    show: Callable[[], RenderableType]
    line: str
    value: Callable[[], Any]
    ended: bool = False


def show_status(
    name: str | None, folder: Path | None, output: str, options: StatusOptions | None = None
) -> None:
    """Print how far one campaign, or every one, is.

    Raises
    ------
    InputError
        There is no campaign of this name, or no such state.
    """
    options = options or StatusOptions()
    if unknown := sorted(set(options.states) - set(STATE_ORDER)):
        raise InputError(
            f"no state of a campaign: {', '.join(unknown)}", mend=f"there are: {', '.join(STATE_ORDER)}"
        )
    workspace = open_existing(folder)
    store = workspace.connect(start=True)
    read = partial(_all, store, options)
    if name is not None:
        document = campaigns.get_campaign(store, name)
        read = partial(_one, workspace, store, document, every_round=output == "json")
    if options.every is not None:
        try:
            _watch(read, output, options.every)
        except KeyboardInterrupt:
            return
    elif output == "json":
        print_json(read().value())
    else:
        console.print(read().show())


def _watch(read: Callable[[], _View], output: str, every: float) -> None:
    """Look again and again, until what is watched has ended or Ctrl-C."""
    view = read()
    if output == "json" or not console.is_terminal:
        _watch_lines(view, read, output, every)
        return
    with Live(view.show(), console=console, auto_refresh=False) as live:
        while not view.ended:
            sleep(every)
            view = read()
            live.update(view.show(), refresh=True)


def _watch_lines(view: _View, read: Callable[[], _View], output: str, every: float) -> None:
    """A line for every look that finds something new; with JSON a document on each line."""
    shown = None
    while True:
        new = view.value() if output == "json" else view.line
        if new != shown:
            shown = new
            if output == "json":
                print_json_line(new)
            else:
                console.print(new, soft_wrap=True, markup=False)
        if view.ended:
            return
        sleep(every)
        view = read()


def all_now(store: Store, options: StatusOptions) -> tuple[Campaigns, dict[str, QueueCounts]]:
    """All campaigns that fit, and what the queue holds of each."""
    with ThreadPoolExecutor(1) as beside:  # the server has time for both at once
        counted = beside.submit(queue_counts, store)
        rows = overviews(store, states=options.states, tags=options.tags)
        queue = counted.result()
    return Campaigns(
        rows,
        options.limit,
        jobs=_sum(queue, ["", *(row.campaign_id for row in rows)]),
        ready=_sum(queue, [row.campaign_id for row in rows if row.state == "running"])["ready"],
        workers=all_workers(store),
        now=store.now(),
        filtered=bool(options.states or options.tags),
    ), queue


def _all(store: Store, options: StatusOptions) -> _View:
    found, queue = all_now(store, options)
    return _View(
        lambda: all_campaigns(found, console.width),
        all_line(found),
        lambda: [as_row(row, queue.get(row.campaign_id, {})) for row in found.rows[: options.limit]],
    )


def _sum(queue: dict[str, QueueCounts], campaign_ids: list[str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for campaign_id in campaign_ids:
        for counts in queue.get(campaign_id, {}).values():
            total.update(counts)
    return total


def _one(workspace: Workspace, store: Store, campaign: CampaignDocument, *, every_round: bool) -> _View:
    situation = look(store, campaign, workspace, every_round=every_round)
    return _View(
        lambda: one_campaign(situation, waits(situation), store.now(), console.width),
        one_line(situation.overview),
        partial(as_detail, situation),
        ended=situation.overview.state in ENDED,
    )


def _refinement(situation: Situation) -> dict[str, Any] | None:
    """What a row tells of a refinement, and more."""
    if situation.refinement is None:
        return None
    values = asdict(situation.refinement)
    return {**values.pop("count"), **values}


def as_row(row: Overview, queue: QueueCounts) -> dict[str, Any]:
    """The documented fields of one campaign in `status --format json`."""
    return {**asdict(row), "queue": {category: dict(counts) for category, counts in queue.items()}}


def as_detail(situation: Situation) -> dict[str, Any]:
    """The same and more, of `status NAME --format json`."""
    found = situation.detail
    reasons = Counter(failed.reason for failed in found.failed)
    low = situation.low_minima
    return {
        **as_row(situation.overview, situation.queue),
        "best": None if found.best is None else asdict(found.best),
        "each_round": [{**asdict(one), "queued": one.queued} for one in found.rounds],
        "failed_by_reason": dict(reasons.most_common()),
        "failed_evaluations": [asdict(one) for one in found.failed],
        "running_evaluations": [asdict(one) for one in found.running],
        "workers": [{**asdict(one), "busy": one.name in situation.busy} for one in situation.serving],
        "batch_jobs": [
            {"category": category, **asdict(job)}
            for category, jobs in situation.batch_jobs.items()
            for job in jobs
        ],
        "batch_trouble": situation.pilots.trouble,
        "low_minima": None if low is None else {**asdict(low), "unseen_mass": low.unseen.mass},
        "refinement": _refinement(situation),
        "ends": {str(chain): why for chain, why in situation.ends.items()},
        "waits": waits(situation),
    }
