"""`godelta serve`: status and reports in a browser on this machine; nothing can be changed by it."""

import errno
import json
import logging
import secrets
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pymongo.errors import PyMongoError

from godelta.analysis.report.page import render, render_index
from godelta.analysis.report.parts import Index, IndexRow, Page
from godelta.cli.console import console
from godelta.cli.longwork import interruptible
from godelta.cli.report import FILE, campaign_html
from godelta.cli.status import StatusOptions, all_now, as_row
from godelta.cli.status_tables import MOST_ROWS, age, all_line
from godelta.cli.workspace import open_existing
from godelta.errors import GodeltaError, InputError
from godelta.redaction import redact
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.overview import Overview

HOST = "127.0.0.1"
NAMES = frozenset({HOST, "localhost"})
STRUCTURES = 10
COLUMNS = ("system", "rounds", "best, eV", "ok", "failed", "running", "queued", "of", "changed")
# Beside the pages' own policies: no other site shows, reads or guesses what is here.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a browser gets."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "text/html"


@dataclass(frozen=True)
class Site:
    """The pages of one workspace, all of them below an address that nobody can guess.

    Loopback is open to every user of a machine, and a login node has many.
    """

    folder: Path
    store: Store
    key: str = field(default_factory=partial(secrets.token_urlsafe, 12))
    drawing: Lock = field(default_factory=Lock)  # matplotlib's settings are those of the process

    def answer(self, path: str) -> Answer:
        """The page of a path."""
        parts = [unquote(part) for part in urlsplit(path).path.split("/")[1:]]
        if not secrets.compare_digest(parts[0].encode(), self.key.encode()):
            return _trouble(HTTPStatus.NOT_FOUND, "There is nothing here: take the address that was printed.")
        match parts[1:]:
            case [""]:
                return Answer(render_index(self._index()))
            case ["status.json"]:
                found, queue = all_now(self.store, StatusOptions())
                rows = [as_row(row, queue.get(row.campaign_id, {})) for row in found.rows]
                return Answer(json.dumps(rows, default=str), kind="application/json")
            case ["campaign", name]:
                return self._campaign(name)
            case ["results", name]:
                return self._result(name)
        return _trouble(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _index(self) -> Index:
        found, _ = all_now(self.store, StatusOptions())
        rows = found.rows[:MOST_ROWS]
        notes = [
            f"{row.name} failed: {row.reason or 'no reason is known'}"
            for row in rows
            if row.state == "failed"
        ]
        if len(found.rows) > len(rows):
            notes.append(f"and {len(found.rows) - len(rows)} more: godelta status")
        names = {row.name for row in found.rows}
        return Index(
            title=self.folder.name,
            line=all_line(found),
            columns=COLUMNS,
            rows=[_row(row, age(found.now - row.changed_at)) for row in rows],
            notes=notes,
            others=[(name, f"results/{quote(name)}") for name in self._others(names)],
            at=f"{found.now:%Y-%m-%d %H:%M:%S} UTC",
        )

    def _campaign(self, name: str) -> Answer:
        document = campaigns.get_campaign(self.store, name)
        with self.drawing:
            return Answer(campaign_html(self.store, document, STRUCTURES, back="../"))

    def _others(self, names: set[str]) -> list[str]:
        """Names of reports in results/ that are not of campaigns: benchmarks, phase diagrams."""
        found = (path.parent.name for path in (self.folder / "results").glob(f"*/{FILE}"))
        return sorted(name for name in found if name not in names)

    def _result(self, name: str) -> Answer:
        if name not in self._others(set()):
            return _trouble(HTTPStatus.NOT_FOUND, "There is no such report.")
        return Answer((self.folder / "results" / name / FILE).read_text(encoding="utf-8"))


def serve_reports(folder: Path | None, port: int) -> None:
    """Answer browsers on this machine until Ctrl-C.

    Raises
    ------
    InputError
        There is no workspace, or the port is taken.
    """
    workspace = open_existing(folder)
    store = workspace.connect(start=True)
    site = Site(workspace.folder, store)
    with make_server(site, port) as server, interruptible("nothing was changed"):
        console.print(f"[bold]http://{HOST}:{server.server_port}/{site.key}/[/]", soft_wrap=True)
        console.print(f"The campaigns of {workspace.folder}, on this machine, until Ctrl-C.", soft_wrap=True)
        server.serve_forever()


def make_server(site: Site, port: int) -> ThreadingHTTPServer:
    """A server on loopback that is ready to answer; port 0 is any free one.

    Raises
    ------
    InputError
        The port is taken, or not for this user.
    """
    try:
        return _Server((HOST, port), partial(_Handler, site))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise InputError(
            f"port {port} is taken" if taken else f"port {port} cannot be had: {error.strerror}",
            where="--port",
            mend="name another one, or 0 for any that is free",
        ) from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; `site` knows what."""

    protocol_version = "HTTP/1.1"
    timeout = 30.0  # s, of a browser that says nothing

    def __init__(self, site: Site, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Send a page."""
        self._send(self._answer())

    def do_HEAD(self) -> None:
        """Send what a page's head would be."""
        self._send(self._answer())

    def _refuse(self) -> None:
        self.close_connection = True  # what comes with the request is not read
        self._send(_trouble(HTTPStatus.METHOD_NOT_ALLOWED, "Nothing can be changed here."))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _answer(self) -> Answer:
        # A foreign page may have its own name lead here; browsers send that name.
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in NAMES:
            return _trouble(HTTPStatus.MISDIRECTED_REQUEST, f"Ask for http://{HOST} or http://localhost.")
        try:
            return self.site.answer(self.path)
        except InputError as error:
            return _trouble(HTTPStatus.NOT_FOUND, str(error))
        except GodeltaError as error:
            return _trouble(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except PyMongoError as error:
            log.warning("the database does not answer: %s", error)
            return _trouble(HTTPStatus.SERVICE_UNAVAILABLE, f"The database does not answer: {error}")

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """What the server calls itself: no versions."""
        return "godelta"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests go to the log; addresses in them are secret."""
        log.debug("%s", (format % arguments).replace(self.site.key, "..."))


def _trouble(status: HTTPStatus, text: str) -> Answer:
    return Answer(render(Page(status.phrase, redact(text), [], "")), status)


def _row(row: Overview, changed: str) -> IndexRow:
    best = "-" if row.best_energy is None else f"{row.best_energy:.4f}"
    rounds = f"{row.closed_rounds}/{row.rounds * len(row.chains)}"
    counts = (row.ok, row.failed, row.running, row.queued, row.budget)
    cells = [row.system, rounds, best, *map(str, counts), changed]
    return IndexRow(row.name, f"campaign/{quote(row.name)}", row.state, cells)
