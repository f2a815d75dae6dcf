"""What a job's lines in the log belong to, said in one place."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from godelta import logs
from godelta.makers.session import Session, StopRequestedError
from godelta.store import campaigns
from godelta.store.documents import RoundKey

P = ParamSpec("P")
R = TypeVar("R")
Run = Callable[Concatenate[Session, RoundKey, P], R]

log = logging.getLogger(__name__)

_names: dict[str, str | None] = {}  # of campaigns, by id: neither ever changes


def logged(job: str) -> Callable[[Run[P, R]], Run[P, R]]:
    """Decorator of the function that does a job: its lines bear the campaign, chain, round and job.

    What ends the job without a result is written too, an error with its traceback.
    """

    def decorate(run: Run[P, R]) -> Run[P, R]:
        @wraps(run)
        def wrapped(session: Session, key: RoundKey, /, *args: P.args, **kwargs: P.kwargs) -> R:
            name = _name(session, key.campaign_id)
            with logs.place(
                campaign=name, campaign_id=key.campaign_id, chain=key.chain, round=key.k, job=job
            ):
                try:
                    return run(session, key, *args, **kwargs)
                except StopRequestedError:
                    log.info("stopped on request; what is saved stays")
                    raise
                except Exception as error:
                    log.exception("failed: %s", error)
                    raise

        return wrapped

    return decorate


def _name(session: Session, campaign_id: str) -> str | None:
    if campaign_id not in _names:
        found = campaigns.find_campaign(session.store, campaign_id)
        if found is None:
            return None
        _names[campaign_id] = found.name
    return _names[campaign_id]
