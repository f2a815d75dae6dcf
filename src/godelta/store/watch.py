"""A watch over the private server: when it was killed, it is started again."""

import logging
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from godelta import logs
from godelta.errors import GodeltaError
from godelta.store.mongod import PrivateMongod
from godelta.store.serverfile import ServerRecord
from godelta.store.workspace import Workspace

LOOK_EVERY_S = 2.0
AGAIN_AFTER_S = 15.0  # when it does not start, as on a full disk

log = logging.getLogger(__name__)


@dataclass
class ServerWatch:
    """A thread that keeps a workspace's private server up while the context lasts.

    A server that was stopped in order, or that runs on another host, is left alone; so is a server of the
    user's own.
    """

    workspace: Workspace
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to watch."""
        if self.workspace.settings().database.is_private:
            self._thread = threading.Thread(target=logs.carried(self._run), name="server watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the watch; the server stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        server = self.workspace.server()
        pause = LOOK_EVERY_S
        while not self._stop.wait(pause):
            pause = LOOK_EVERY_S
            try:
                if was_killed(server):
                    log.warning("the database server is gone; starting it again")
                    # Whoever is stopping it in order notes that only when it has ended.
                    server.start(only_if=lambda: was_killed(server))
                    log.info("the database server is back")
            except (GodeltaError, OSError) as problem:
                log.error("%s", problem)
                pause = AGAIN_AFTER_S


def was_killed(server: PrivateMongod) -> bool:
    """Whether the server ran on this machine and has ended without being told to."""
    record = ServerRecord.read(server.record_file)
    return record is not None and record.started and record.is_here and not record.is_alive(server.data)


def check_address(workspace: Workspace, uri: str) -> None:
    """See to it that the server is still where this process looks for it.

    Raises
    ------
    GodeltaError
        It had to move, since its port was taken after it was killed.
    """
    if workspace.database_uri(start=False)[0] != uri:
        raise GodeltaError(
            "the private database had to move to another port, since its old one was taken",
            where=str(workspace.folder),
            mend="give the same command again: it goes on where this one left off",
        )
