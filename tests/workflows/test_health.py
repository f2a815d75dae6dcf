"""Judging workflows by what FireWorks wrote about them."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from godelta.store import workers
from godelta.store.workers import WorkerName
from godelta.workflows.health import STUCK_AFTER, Health, judge

DEAD = str(replace(WorkerName.own(), pid=2**22 + 17, born=1.0))
ELSEWHERE = WorkerName("elsewhere", "0123456789ab", 1, 1.0)
FAR = str(ELSEWHERE)
LOST = str(replace(ELSEWHERE, pid=2))  # it gives no sign of life
STOP = "Traceback ...\ngodelta.makers.session.StopRequestedError\n"
OUTAGE = "Traceback ...\n  File x\npymongo.errors.ServerSelectionTimeoutError: 127.0.0.1:1: refused\n"
ERROR = "Traceback ...\nValueError: no good\n"


@pytest.fixture
def verdict(opened, launchpad):
    """Judge a workflow whose Fireworks have these states, launches and traces."""

    workers.give_sign(opened, ELSEWHERE)

    def make(*fireworks, old=False, missing=0):
        nodes = []
        for number, (state, worker, launch_state, trace) in enumerate(fireworks, 1):
            nodes.append(number)
            launches = []
            if worker is not None:
                launches = [100 + number]
                stored = {} if trace is None else {"stored_data": {"_exception": {"_stacktrace": trace}}}
                launchpad.launches.insert_one(
                    {"launch_id": 100 + number, "state": launch_state, "fworker": {"name": worker},
                     "action": stored or None}
                )  # fmt: skip
            launchpad.fireworks.insert_one({"fw_id": number, "state": state, "launches": launches})
        nodes += [1000 + number for number in range(missing)]
        now = opened.now()
        assert isinstance(now, datetime)
        updated = now - (STUCK_AFTER + timedelta(seconds=5) if old else timedelta(0))
        return judge(opened, launchpad, {"nodes": nodes, "updated_on": updated.replace(tzinfo=None)})

    return make


def fw(state, worker=None, launch_state=None, trace=None):
    return state, worker, launch_state or state, trace


@pytest.mark.parametrize(
    ("fireworks", "old", "expected"),
    [
        ([fw("READY"), fw("WAITING")], False, Health.WELL),
        ([fw("READY"), fw("WAITING")], True, Health.WELL),  # no worker has come yet
        ([fw("RUNNING", FAR), fw("WAITING")], True, Health.WELL),
        ([fw("RUNNING", str(WorkerName.own())), fw("WAITING")], True, Health.WELL),
        ([fw("RUNNING", "rlaunch by hand")], True, Health.WELL),
        ([fw("RESERVED", FAR)], True, Health.WELL),
        ([fw("RESERVED"), fw("WAITING")], False, Health.WELL),  # being taken just now
        ([fw("RESERVED"), fw("WAITING")], True, Health.LOST),  # its worker was killed while it took it
        ([fw("RESERVED", FAR, "READY")], True, Health.LOST),
        ([fw("RUNNING", DEAD), fw("WAITING")], False, Health.LOST),
        ([fw("RUNNING", DEAD), fw("RUNNING", FAR)], False, Health.LOST),
        ([fw("RUNNING", LOST), fw("WAITING")], False, Health.LOST),
        ([fw("RUNNING", FAR, "COMPLETED"), fw("WAITING")], False, Health.WELL),  # being written just now
        ([fw("RUNNING", FAR, "COMPLETED"), fw("WAITING")], True, Health.LOST),
        ([fw("RUNNING"), fw("WAITING")], True, Health.LOST),  # its launch is gone
        ([fw("COMPLETED", FAR), fw("WAITING")], False, Health.WELL),
        ([fw("COMPLETED", FAR), fw("WAITING")], True, Health.LOST),
        ([fw("COMPLETED", FAR), fw("COMPLETED", FAR)], True, Health.LOST),  # and its round is not closed
        ([fw("PAUSED"), fw("WAITING")], False, Health.WELL),
        ([fw("FIZZLED", FAR, trace=STOP)], False, Health.STOPPED),
        ([fw("FIZZLED", FAR, trace=ERROR)], False, Health.FAILED),
        ([fw("FIZZLED", FAR, trace=ERROR), fw("FIZZLED", FAR, trace=STOP)], False, Health.FAILED),
        ([fw("FIZZLED", FAR, trace=STOP), fw("RUNNING", FAR)], False, Health.WELL),  # wait for the others
        ([fw("FIZZLED", FAR, trace=ERROR), fw("RUNNING", DEAD)], False, Health.LOST),
        ([fw("FIZZLED", FAR), fw("READY")], False, Health.FAILED),
        ([fw("FIZZLED", FAR, trace=OUTAGE)], False, Health.LOST),
        ([fw("FIZZLED", FAR, trace=OUTAGE), fw("FIZZLED", FAR, trace=ERROR)], False, Health.FAILED),
    ],
)
def test_cases(verdict, fireworks, old, expected):
    assert verdict(*fireworks, old=old).health is expected


def test_the_reason_is_the_errors_message(verdict):
    trace = "Traceback (most recent call last):\n  File x\ngodelta.errors.InputError: a: wrong\n  mend it\n"
    expected = "godelta.errors.InputError: a: wrong\n  mend it"
    assert verdict(fw("FIZZLED", FAR, trace=trace)).reason == expected


def test_the_reason_of_a_short_error(verdict):
    assert verdict(fw("FIZZLED", FAR, trace=ERROR)).reason == "ValueError: no good"


def test_a_long_job_that_ends_just_now_is_no_loss(verdict, opened, launchpad):
    """The workflow has been quiet for as long as the job took."""
    launchpad.launches.insert_one(
        {
            "launch_id": 101,
            "state": "COMPLETED",
            "fworker": {"name": FAR},
            "time_end": opened.now().isoformat(),
        }
    )
    launchpad.fireworks.insert_one({"fw_id": 1, "state": "RUNNING", "launches": [101]})
    workflow = {"nodes": [1], "updated_on": opened.now() - timedelta(hours=3)}
    assert judge(opened, launchpad, workflow).health is Health.WELL


def test_fireworks_that_are_not_there(verdict):
    assert verdict(fw("READY"), missing=2, old=False).health is Health.WELL  # being added just now
    assert verdict(missing=2, old=True).health is Health.LOST
