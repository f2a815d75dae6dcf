"""A job's lines in the log: where they belong, and what ended it."""

import logging

import pytest

from godelta import logs
from godelta.logs import LogFolder, Place, Reader
from godelta.makers.joblog import logged
from godelta.makers.session import StopRequestedError
from godelta.store.documents import RoundKey

log = logging.getLogger("godelta.tests")


@pytest.fixture
def told(workspace):
    """What was written since, oldest first."""
    logs.write_to(workspace.logs)
    logger = logging.getLogger(logs.ROOT)
    yield Reader(workspace.logs).read
    for handler in [item for item in logger.handlers if isinstance(item, LogFolder)]:
        logger.removeHandler(handler)
        handler.close()


@logged("search")
def job(session, key, answer, *, error=None):
    log.info("at work")
    if error is not None:
        raise error
    return answer


def test_lines_of_a_job_say_where_they_belong(session, begin, told):
    key = begin("mine")
    told()
    assert job(session, key, 3) == 3
    log.info("elsewhere")
    inside, outside = told()
    assert inside.place == Place("mine", key.campaign_id, 0, 0, "search")
    assert outside.place == Place()


def test_what_ends_a_job_is_told(session, begin, told):
    key = begin("mine")
    told()
    with pytest.raises(RuntimeError):
        job(session, key, 3, error=RuntimeError("the weights are gone"))
    _, failed = told()
    assert (failed.level, failed.message) == ("ERROR", "failed: the weights are gone")
    assert "in job" in failed.traceback
    assert failed.place == Place("mine", key.campaign_id, 0, 0, "search")
    with pytest.raises(StopRequestedError):
        job(session, key, 3, error=StopRequestedError())
    _, stopped = told()
    assert (stopped.level, stopped.traceback) == ("INFO", None)


def test_a_campaign_that_is_gone_has_no_name(session, told):
    job(session, RoundKey("none", 1, 2), 3)
    assert told()[-1].place == Place(None, "none", 1, 2, "search")


def test_a_round(session, begin, run_round, told):
    key = begin()
    told()
    run_round(key)
    lines = told()
    assert {line.place for line in lines} == {
        Place("cheap", key.campaign_id, 0, 0, name) for name in ("search", "select", "evaluate", "retrain")
    }
    texts = [f"{line.place.job}: {line.message}" for line in lines if line.number >= logging.INFO]
    starts = [
        "search: done: 2 steps, 4 candidates, lowest of the model ",
        "select: 2 of 4 candidates; of former rounds: 0",
        "evaluate: AgCu3 ",
        "evaluate: AgCu3 ",
        "retrain: trained on 2 structures in ",
        "retrain: round closed; next model: ",
    ]
    assert len(texts) == len(starts)
    assert all(text.startswith(start) for text, start in zip(texts, starts, strict=True)), texts
    assert all(" ok in " in text and text.endswith(" eV") for text in texts[2:4])
