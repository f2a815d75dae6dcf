"""A worker's heartbeat: signs of life and longer leases, through outages of the database."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pymongo.errors import PyMongoError

from godelta import logs
from godelta.store import evaluations, workers
from godelta.store.database import Store, Superseded
from godelta.store.evaluations import Claim
from godelta.store.workers import WorkerName

BEAT_EVERY_S = 5.0
SIGN_EVERY_S = 20.0

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Held:
    """A lease that is kept alive; `lost` once somebody else has it."""

    claim: Claim
    lost: bool = False


@dataclass
class Heartbeat:
    """A thread that gives signs of life and prolongs the leases that this process holds.

    A thread of its own, since an outage makes every call to the database wait, and the watch over an
    evaluation must not wait with it. No error ends it: it goes on as long as the worker does, or while a
    lease is held.

    Parameters
    ----------
    takes
        Categories of jobs that the worker takes; none means every one.
    campaign_id
        The campaign that the worker keeps to.
    batch_job
        Id of the batch system's job that it runs in.
    """

    store: Store
    name: WorkerName = field(default_factory=WorkerName.own)
    takes: Sequence[str] = ()
    campaign_id: str | None = None
    batch_job: str | None = None
    _held: set[Held] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _signed_on: bool = False

    def __enter__(self) -> Self:
        """Sign on, and begin."""
        workers.sign_on(
            self.store,
            self.name,
            takes=self.takes,
            campaign_id=self.campaign_id,
            batch_job=self.batch_job,
        )
        with self._lock:
            self._signed_on = True
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and sign off."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=BEAT_EVERY_S)
        try:
            workers.sign_off(self.store, self.name)
        except PyMongoError:
            log.warning("could not sign off: the database does not answer")

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[Held]:
        """Keep a lease alive while the context lasts."""
        held = Held(claim)
        with self._lock:
            self._held.add(held)
            self._begin()
        try:
            yield held
        finally:
            self._held.discard(held)

    def give_up_all(self) -> None:
        """Go on under a new name: jobs that were taken under the old one are free for others."""
        self.name = self.name.renewed()
        workers.give_sign(self.store, self.name)

    def _begin(self) -> None:
        if self._thread is None:
            with logs.place(chain=None, round=None, job="heartbeat"):
                run = logs.carried(self._run)
            self._thread = threading.Thread(target=run, name="heartbeat", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        signed, answered = time.monotonic(), True
        while not self._stop.wait(BEAT_EVERY_S):
            with self._lock:
                if not (self._signed_on or self._held):
                    self._thread = None
                    return
            try:
                for held in tuple(self._held):
                    self._prolong(held)
                if self._signed_on and time.monotonic() - signed > SIGN_EVERY_S:
                    workers.give_sign(self.store, self.name)
                    signed = time.monotonic()
            except PyMongoError as error:
                if answered:
                    log.warning("the database does not answer; going on: %s", error)
                answered = False
            else:
                if not answered:
                    log.info("the database answers again")
                answered = True

    def _prolong(self, held: Held) -> None:
        try:
            evaluations.prolong(self.store, held.claim)
        except Superseded:
            # Committed a moment ago and about to be discarded, or in other hands.
            held.lost = True
