"""`godelta restart`: says what is wrong with campaigns, asks, and puts it right."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.markup import escape

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaigns
from godelta.cli.console import console, table
from godelta.cli.workspace import open_or_make
from godelta.errors import InputError
from godelta.reference.checks import Reason
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument
from godelta.store.retries import NOT_OF_THE_STRUCTURE
from godelta.store.workspace import Workspace
from godelta.workflows.launchpad import configure_engines, open_launchpad

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.restart import RestartOptions, Survey

LEFT_UNDONE = 3  # exit code: there is something to mend, and nothing was changed
FILES = (".yaml", ".yml", ".json")
RETRY_WORDS = frozenset({"all", "none", "lost", *get_args(Reason)}) - {"interrupted"}


@dataclass(frozen=True)
class Answers:
    """What the command line said.

    Parameters
    ----------
    retry
        Reasons of failed evaluations to try again; none: those that say nothing about the structure.
    yes
        Do not ask.
    dry_run
        Only print.
    """

    retry: Sequence[str] = ()
    yes: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class _Target:
    """A campaign to look at, as it is and as it is to be."""

    campaign: CampaignDocument
    config: CampaignConfig
    named: bool
    path: Path | None = None
    changes: list[str] = field(default_factory=list)


def restart_campaigns(names: Sequence[str], folder: Path | None, answers: Answers) -> int:
    """Look at campaigns, by name or file, and mend what is wrong; the exit code.

    Raises
    ------
    InputError
        A name, a file or a reason cannot be used; nothing has been changed then.
    """
    unknown = sorted(set(answers.retry) - RETRY_WORDS)
    if unknown:
        known = ", ".join(sorted(RETRY_WORDS))
        raise InputError(f"no reason of a failed evaluation: {', '.join(unknown)}", mend=f"known are {known}")
    workspace = open_or_make(folder)
    configure_engines(workspace, start=True)
    store = workspace.connect()
    launchpad = open_launchpad(workspace)
    with logs.place(job="restart"):
        targets = _targets(store, names)
        if not targets:
            console.print("No campaign is running or failed: nothing to restart.")
            return 0
        return _restart(workspace, store, launchpad, targets, answers)


def _targets(store: Store, names: Sequence[str]) -> list[_Target]:
    """The campaigns that were asked for, each once; without names, all that are running or failed."""
    if not names:
        found = [c for c in campaigns.list_campaigns(store) if c.state in ("running", "failed")]
        return [_Target(c, CampaignConfig.model_validate(c.config), named=False) for c in found]
    targets = [
        target
        for name in names
        for target in (_by_file(store, Path(name)) if _is_file(name) else _by_name(store, name))
    ]
    return list({target.campaign.campaign_id: target for target in targets}.values())


def _is_file(name: str) -> bool:
    return name.endswith(FILES) or Path(name).is_file()


def _by_name(store: Store, name: str) -> list[_Target]:
    found = campaigns.named(store, [name])
    return [_Target(one, CampaignConfig.model_validate(one.config), named=True) for one in found]


def _by_file(store: Store, path: Path) -> list[_Target]:
    """The campaigns that a file describes, and what of them the file changes.

    Those of a study that have not begun are left out, and named.

    Raises
    ------
    InputError
        The file cannot be used, describes no campaign that there is, or changes what decides its results.
    """
    configs = read_campaigns(path)
    begun = [config for config in configs if campaigns.find_campaign(store, config.name)] or configs[:1]
    targets = [_described(store, config, path) for config in begun]
    if missing := [config.name for config in configs if config not in begun]:
        console.print(
            f"Not begun yet: {escape(', '.join(missing))}; `godelta run` or `godelta submit` with"
            f" {escape(str(path))} begins them."
        )
    return targets


def _described(store: Store, config: CampaignConfig, path: Path) -> _Target:
    campaign = campaigns.get_campaign(store, config.name)
    stored = CampaignConfig.model_validate(campaign.config)
    config = config.with_defaults_of(stored)
    changes = campaigns.identity_changes(stored.model_dump(mode="json"), config.model_dump(mode="json"))
    known = {key: value for key, value in campaign.identity.items() if key != "problem"}
    if campaigns.identity_changes(known, config.identity()):
        _register(store, config, path)  # it says which, and changes nothing
    return _Target(campaign, config, named=True, path=path, changes=changes)


def _register(store: Store, config: CampaignConfig, path: Path) -> None:
    from godelta.workflows.submit import register

    register(store, config, path.resolve().parent)


def _restart(
    workspace: Workspace, store: Store, launchpad: "LaunchPad", targets: list[_Target], answers: Answers
) -> int:
    from godelta.workflows.batch import BatchWatch

    batch = BatchWatch(store)
    options = [_options(target, answers) for target in targets]
    surveys = _settled(
        lambda: [
            _survey(store, launchpad, target, option, batch)
            for target, option in zip(targets, options, strict=True)
        ]
    )
    _show(targets, surveys)
    acting = [i for i, survey in enumerate(surveys) if survey.acts or targets[i].changes]
    if not acting:
        console.print("Nothing is wrong that a restart can mend.")
    elif not _agreed(answers):
        return LEFT_UNDONE
    for i in acting:
        _mend(store, launchpad, targets[i], options[i])
    _say_what_next(workspace, store, launchpad, targets, batch)
    return 0


def _options(target: _Target, answers: Answers) -> "RestartOptions":
    from godelta.workflows.restart import RestartOptions

    return RestartOptions(frozenset(answers.retry) or NOT_OF_THE_STRUCTURE, named=target.named)


def _survey(
    store: Store, launchpad: "LaunchPad", target: _Target, options: "RestartOptions", batch: "BatchWatch"
) -> "Survey":
    from godelta.workflows.restart import survey

    campaign = campaigns.get_campaign(store, target.campaign.campaign_id)  # as it is at this look
    return survey(store, launchpad, campaign, target.config, options, batch)


def _settled(look: Callable[[], "list[Survey]"]) -> "list[Survey]":
    """Look until it is clear what only seems stuck: a job that ends makes others ready a moment later."""
    from godelta.workflows.survey import settle_s

    deadline = time.monotonic() + settle_s() + 1.0
    surveys = look()
    with console.status("A round has nothing to do at this moment; waiting to see whether it goes on"):
        while any(survey.unsettled for survey in surveys) and time.monotonic() < deadline:
            time.sleep(1.0)
            surveys = look()
    return surveys


def _show(targets: list[_Target], surveys: "list[Survey]") -> None:
    shown = table("campaign", "place", "found", "will be")
    for column in shown.columns:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for target, survey in zip(targets, surveys, strict=True):
        name = target.campaign.name
        for change in target.changes:
            shown.add_row(name, "settings", escape(change), "changed")
        for finding in survey.findings:
            shown.add_row(name, finding.place, escape(finding.found), escape(finding.will))
    if shown.row_count:
        console.print(shown)


def _agreed(answers: Answers) -> bool:
    """Whether to go on."""
    if answers.dry_run:
        console.print("Nothing was changed.")
        return False
    if answers.yes:
        return True
    if not sys.stdin.isatty():
        console.print("Nothing was changed: there is nobody to ask. `godelta restart --yes` does all of it.")
        return False
    from typer import confirm

    if confirm("Do all of it?", default=True):
        return True
    console.print("Nothing was changed.")
    return False


def _mend(store: Store, launchpad: "LaunchPad", target: _Target, options: "RestartOptions") -> None:
    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.restart import mend

    name, campaign_id = target.campaign.name, target.campaign.campaign_id
    with logs.place(campaign=name, campaign_id=campaign_id):
        if target.path is not None:
            _register(store, target.config, target.path)
        marks = mend(store, launchpad, campaign_id, options, BatchWatch(store))
    state = campaigns.get_campaign(store, campaign_id).state
    console.print(f"[bold]{name}[/] is {state}; rounds queued: {len(marks)}")


def _say_what_next(
    workspace: Workspace,
    store: Store,
    launchpad: "LaunchPad",
    targets: Iterable[_Target],
    batch: "BatchWatch",
) -> None:
    """The command that makes the work go on, where jobs wait that no worker will take."""
    from godelta.workflows import slurm
    from godelta.workflows.queue import uncovered

    running = [
        target
        for target in targets
        if campaigns.get_campaign(store, target.campaign.campaign_id).state == "running"
    ]
    ids = [target.campaign.campaign_id for target in running]
    missing = uncovered(store, launchpad, ids, batch)
    if not missing:
        return
    console.print(f"No worker is there for {', '.join(sorted(missing))}. To go on:")
    if slurm.is_here() and (workspace.folder / "fw_config").is_dir():
        console.print("  godelta submit --launch")
        return
    for target in running:
        file = target.path or f"FILE   (the campaign file of {target.campaign.name})"
        console.print(f"  godelta run {file}")
