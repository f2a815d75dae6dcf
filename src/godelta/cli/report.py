"""`godelta report`: one page that holds all there is to know of a campaign."""

from pathlib import Path

from godelta.cli.console import console
from godelta.cli.workspace import open_existing
from godelta.errors import InputError
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument

FILE = "report.html"


def write_reports(names: list[str], folder: Path | None, target: Path | None, count: int) -> None:
    """Write a page for each campaign, into the workspace's results or where it is asked for.

    Raises
    ------
    InputError
        There is no such campaign, or a file cannot be written.
    """
    workspace = open_existing(folder)
    store = workspace.connect(start=True)
    documents = campaigns.named(store, names)
    several = len(documents) > 1
    for document in documents:
        if target is None:
            path = workspace.folder / "results" / document.name / FILE
        else:
            path = target / f"{document.name}.html" if several else target
        with console.status(f"Writing about {document.name}"):
            write_page(path, campaign_html(store, document, count))
        console.print(f"report: {path}", soft_wrap=True, markup=False)


def campaign_html(store: Store, campaign: CampaignDocument, count: int, *, back: str = "") -> str:
    """The page about a campaign."""
    from godelta.analysis.report.campaign import campaign_page
    from godelta.analysis.report.page import render
    from godelta.workflows.reporting import campaign_data

    return render(campaign_page(campaign_data(store, campaign, count), back=back))


def write_page(path: Path, html: str) -> None:
    """Write a page to a file, whose folder is made.

    Raises
    ------
    InputError
        It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(path), mend="choose another file with -o"
        ) from None
