"""FireWorks' queue and jobflow's store of outputs, which look at a document before they build from it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fireworks import LaunchPad
from fireworks.core.firework import Launch, Workflow
from maggma.stores import MongoStore

from godelta.redaction import redact_all
from godelta.workflows.trust import REFUSED, UntrustedError, check_job, check_output

TRIES = 20  # jobs to set aside in one workflow before its refresh is given up

log = logging.getLogger(__name__)


class CheckedOutputs(MongoStore):
    """jobflow's store of outputs: one that is no plain data is an error of the job that reads it."""

    def query(self, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """The documents, each looked at."""
        for raw in super().query(*args, **kwargs):
            check_output(raw)
            yield raw


def check_outputs(uri: str, name: str, collection: str) -> None:
    """Let this process's jobs keep their outputs there, and look at those that they read.

    The file that jobflow reads on import names an ordinary store: every program that inherits it in its
    environment, FireWorks' own commands among them, has to know the name.
    """
    from jobflow import SETTINGS, JobStore

    now = SETTINGS.JOB_STORE.docs_store
    if isinstance(now, CheckedOutputs) and (now.host, now.database) == (uri, name):
        return
    SETTINGS.JOB_STORE = JobStore(CheckedOutputs(host=uri, database=name, collection_name=collection))


class CheckedLaunchPad(LaunchPad):  # type: ignore[misc]
    """A LaunchPad that sets jobs aside which are not godelta's: DEFUSED, with the reason, never built.

    The very document that FireWorks builds from is looked at, so nothing can be changed in between.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"  # FireWorks shows the URI, with its password

    def get_fw_dict_by_id(self, fw_id: int) -> dict[str, Any]:
        """A job and its launches as they are stored.

        Raises
        ------
        UntrustedError
            It is not godelta's; it has been set aside.
        """
        raw: dict[str, Any] = super().get_fw_dict_by_id(fw_id)
        self._check(raw, fw_id)
        self._refused.pop(fw_id, None)  # somebody has mended it
        return raw

    def get_launch_by_id(self, launch_id: int) -> Launch:
        """A launch.

        Raises
        ------
        UntrustedError
            It holds what is not godelta's; its job has been set aside.
        """
        raw = self.launches.find_one({"launch_id": launch_id})
        if raw is None:
            raise ValueError(f"no launch {launch_id}")
        self._check(raw, raw["fw_id"])
        return Launch.from_dict(raw)

    def complete_launch(self, launch_id: int, action: Any = None, state: str = "COMPLETED") -> dict[str, Any]:
        """Note a job's end; the traceback of a failed one goes into the database without passwords."""
        if action is not None:
            action.stored_data = redact_all(action.stored_data)
        done: dict[str, Any] = super().complete_launch(launch_id, action, state)
        return done

    def get_wf_by_fw_id_lzyfw(self, fw_id: int) -> Workflow:
        """A workflow whose jobs are read, and looked at, when they are needed."""
        workflow = super().get_wf_by_fw_id_lzyfw(fw_id)
        for lazy in workflow.id_fw.values():
            check = partial(self._check, fw_id=lazy.fw_id)
            lazy._fwc = _Checked(self.fireworks, check)
            lazy._lc = _Checked(self.launches, check)
        return workflow

    def _refresh_wf(self, fw_id: int) -> None:
        for _ in range(TRIES):
            if fw_id in self._refused:
                self._set_aside(fw_id)  # FireWorks has called it FIZZLED, and would read it again
                return
            known = len(self._refused)
            try:
                super()._refresh_wf(fw_id)
                return
            except RuntimeError:
                if len(self._refused) == known:
                    raise
            # What was refused is another job of the workflow: the next refresh passes it by.
        raise UntrustedError(f"the workflow of job {fw_id} holds too much that is not godelta's")

    def _check(self, raw: Mapping[str, Any], fw_id: int) -> None:
        try:
            check_job(raw)
        except UntrustedError as error:
            log.error("job %s refused, it is not run: %s", fw_id, error)
            self._refused[fw_id] = str(error)
            self._set_aside(fw_id)
            raise

    def _set_aside(self, fw_id: int) -> None:
        change = {
            "state": "DEFUSED",
            REFUSED: self._refused[fw_id],
            "updated_on": datetime.now(UTC).isoformat(),
        }
        self.fireworks.update_one({"fw_id": fw_id}, {"$set": change})
        self.workflows.update_one({"nodes": fw_id}, {"$set": {f"fw_states.{fw_id}": "DEFUSED"}})


class _Checked:
    """A collection's reading side; FireWorks' lazy jobs ask for nothing else."""

    def __init__(self, collection: Any, check: Callable[[Mapping[str, Any]], None]) -> None:
        self._collection = collection
        self._check = check

    def find_one(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        raw: dict[str, Any] | None = self._collection.find_one(*args, **kwargs)
        if raw is not None:
            self._check(raw)
        return raw

    def find(self, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        for raw in self._collection.find(*args, **kwargs):
            self._check(raw)
            yield raw
