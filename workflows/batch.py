"""What SLURM says of the batch jobs that workers live in, asked once and remembered."""

from datetime import timedelta

from godelta.errors import GodeltaError
from godelta.store.database import Store
from godelta.workflows import slurm

RECENT = timedelta(days=2)  # of workers that were silent for longer, SLURM is asked one by one


class BatchWatch:
    """Whether batch jobs live; None of those that SLURM says nothing of, or where it does not answer.

    Parameters
    ----------
    store
        Where workers say which batch job they live in.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: dict[str, bool | None] = {}
        self.trouble: str | None = None

    def __call__(self, job_id: str) -> bool | None:
        """Whether the job lives."""
        if job_id not in self._answers:
            recent = {"seen": {"$gt": self._store.now() - RECENT}, "batch_job": {"$type": "string"}}
            self._ask({job_id, *self._store.workers.distinct("batch_job", recent)} - self._answers.keys())
        return self._answers[job_id]

    def _ask(self, job_ids: set[str]) -> None:
        self._answers |= dict.fromkeys(job_ids)
        if not slurm.is_here():
            self.trouble = "SLURM's commands are not on this machine"
            return
        try:
            self._answers |= slurm.living(sorted(job_ids))
        except GodeltaError as error:
            self.trouble = error.what
