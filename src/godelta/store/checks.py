"""Checks of two machines against each other: what one leaves in the database, and what the other answers."""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pymongo.collection import Collection

from godelta.errors import GodeltaError
from godelta.redaction import redact
from godelta.store.database import Raw, Store

COLLECTION = "checks"
KEPT_S = 86_400  # of what a check that was killed left behind

Verdict = Literal["ok", "doubt", "no"]


class CheckLine(BaseModel):
    """What one check found, for a person to read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    verdict: Verdict
    what: str
    where: str | None = None
    mend: str | None = None


@dataclass(frozen=True)
class Doubt:
    """What a check returns that has found nothing wrong, but something to look at."""

    what: str
    mend: str


Check = Callable[[], str | Doubt]


def carry_out(name: str, check: Check) -> CheckLine:
    """Do a check; whatever a user can mend becomes a line."""
    try:
        found = check()
    except GodeltaError as error:
        return failed(name, error)
    if isinstance(found, Doubt):
        return CheckLine(name=name, verdict="doubt", what=redact(found.what), mend=redact(found.mend))
    return CheckLine(name=name, verdict="ok", what=redact(found))


def failed(name: str, error: GodeltaError) -> CheckLine:
    """The line of what is wrong."""
    return CheckLine(name=name, verdict="no", what=error.what, where=error.where, mend=error.mend)


def ask(store: Store, token: str) -> str:
    """Leave a note for another machine to find; what stands in it and cannot be guessed."""
    _notes(store).create_index("asked_at", expireAfterSeconds=KEPT_S)
    nonce = secrets.token_hex(16)
    note = {"$set": {"nonce": nonce}, "$currentDate": {"asked_at": True}}
    _notes(store).update_one({"_id": token}, note, upsert=True)
    return nonce


def read_note(store: Store, token: str) -> str | None:
    """What stands in the note; None where this database has none."""
    raw = _notes(store).find_one({"_id": token})
    return None if raw is None else str(raw["nonce"])


def answer(store: Store, token: str, lines: Sequence[CheckLine]) -> bool:
    """Add what was found to the note; whether it was there."""
    found = {"$set": {"lines": [line.model_dump() for line in lines]}}
    return _notes(store).update_one({"_id": token}, found).matched_count == 1


def answer_to(store: Store, token: str) -> list[CheckLine] | None:
    """What the other machine has found; None while it has not answered."""
    raw = _notes(store).find_one({"_id": token}, {"lines": 1})
    if raw is None or "lines" not in raw:
        return None
    return [CheckLine.model_validate(line) for line in raw["lines"]]


def forget(store: Store, tokens: Iterable[str]) -> None:
    """Remove notes."""
    _notes(store).delete_many({"_id": {"$in": list(tokens)}})


def try_writing(store: Store) -> bool:
    """Whether what a majority has acknowledged can be read back."""
    key = f"probe-{secrets.token_hex(8)}"
    note = {"$set": {"nonce": key}, "$currentDate": {"asked_at": True}}
    _notes(store).update_one({"_id": key}, note, upsert=True)
    with contextlib.ExitStack() as stack:
        stack.callback(forget, store, [key])
        return read_note(store, key) == key


def _notes(store: Store) -> Collection[Raw]:
    return store.db[COLLECTION]
