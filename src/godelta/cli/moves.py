"""`godelta moves`: which kinds of moves and generators a campaign lives on."""

from dataclasses import asdict
from pathlib import Path

from godelta.cli.console import console, print_json, table
from godelta.cli.workspace import open_existing
from godelta.store import campaigns
from godelta.store.moves import MoveRecord, move_records


def show_moves(name: str, folder: Path | None, output: str) -> None:
    """Print what became of each kind of move and generator.

    Raises
    ------
    InputError
        There is no such campaign.
    """
    store = open_existing(folder).connect(start=True)
    records = move_records(store, campaigns.get_campaign(store, name))
    if output == "json":
        print_json([{**asdict(one), "acceptance": one.acceptance, "success": one.success} for one in records])
    elif not records:
        console.print(f"{name} has made no move yet.")
    else:
        _print(records)


def _print(records: list[MoveRecord]) -> None:
    shown = table(
        "move", "proposed", "impossible", "relaxed", "accepted", "share", "evaluated", "failed", "improved",
        "share",
    )  # fmt: skip
    shown.columns[0].justify = "left"
    for one in records:
        shown.add_row(
            one.move,
            str(one.proposed),
            str(one.impossible),
            str(one.relaxed),
            str(one.accepted),
            _percent(one.acceptance),
            str(one.evaluated),
            str(one.failed),
            str(one.improved),
            _percent(one.success),
        )
    console.print(shown)
    console.print("shares: accepted of proposed, improved (the lowest energy so far) of evaluated")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
