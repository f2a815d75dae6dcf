"""What a campaign may use: its budget, and machines for its jobs. All of it may change on resume."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from godelta.settings import Settings, digest

# They end up in a batch script: a letter more could be a command.
_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:=+@&|*()\[\]-]{0,99}$")]
_Memory = Annotated[str, StringConstraints(pattern=r"^[0-9]+[KMGT]?$")]
_Time = Annotated[
    str, StringConstraints(pattern=r"^([0-9]+-[0-9]{1,2}(:[0-9]{2}){0,2}|[0-9]+(:[0-9]{2}){0,2})$")
]
_Count = Annotated[int, Field(ge=1, le=100_000)]

Role = Literal["search", "reference", "light"]


class Budget(Settings):
    """How far a campaign goes; may be changed when it is resumed."""

    chains: int = Field(1, ge=1, le=1000, description="independent sequences of rounds")
    rounds: int = Field(20, ge=1, description="most rounds of each chain")
    evaluations: int = Field(100, ge=1, description="most evaluations of the campaign; failures count")
    cpu_hours: float | None = Field(
        None, gt=0, description="most processor time of the campaign's evaluations, in hours"
    )
    stop_without_improvement: int | None = Field(
        None, ge=1, description="end a chain after so many rounds without a lower energy"
    )
    improvement: float = Field(
        0.01, ge=0, description="how much lower an energy has to be to count as an improvement, eV"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer keys that are not given: a finished campaign is not taken for a changed one."""
        values: dict[str, Any] = write(self)
        if self.stop_without_improvement is None:
            values.pop("stop_without_improvement", None)
        if self.improvement == type(self).model_fields["improvement"].default:
            values.pop("improvement", None)
        return values


class BatchResources(Settings):
    """What the batch jobs that serve one role of this campaign ask for, beyond what the cluster's files say.

    Without any of these the campaign shares its batch jobs with all that ask for nothing of their own.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    nodes: _Count | None = None
    ntasks: _Count | None = Field(None, description="tasks, as many as the MPI ranks of the engine")
    ntasks_per_node: _Count | None = None
    cpus_per_task: _Count | None = Field(None, description="cores, which are threads, of each task")
    gpus_per_node: _Word | None = Field(None, description="number, or type and number, as a100:1")
    gres: _Word | None = None
    mem: _Memory | None = Field(None, description="memory of a node, as 64G")
    mem_per_cpu: _Memory | None = None
    walltime: _Time | None = Field(None, description="HH:MM:SS or D-HH:MM:SS")
    partition: _Word | None = None
    account: _Word | None = None
    qos: _Word | None = None
    constraint: _Word | None = None

    def given(self) -> dict[str, str | int]:
        """What is set."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def mark(self) -> str:
        """What tells these resources from others; "" where nothing is set."""
        given = self.given()
        return digest(given)[:8] if given else ""


class Resources(Settings):
    """What a campaign's jobs run on; may be changed when it is resumed."""

    workers: int = Field(2, ge=1, le=256, description="worker processes of `godelta run`")
    evaluations_per_job: int | None = Field(
        None, ge=1, description="evaluations that one job of the queue makes [default: 1 with DFT, else 10]"
    )
    threads: int = Field(1, ge=1, le=256, description="threads of each worker's potential")
    quorum: float = Field(
        1.0, gt=0, le=1, description="part of a round's evaluations after which the next round may begin"
    )
    deadline_hours: float | None = Field(
        None, gt=0, description="hours after its selection when a round waits for no more evaluations"
    )
    wait: bool = Field(
        True,
        description="whether a round waits for its evaluations; if not, the search goes on when those of the"
        " round before are in, and evaluations of two rounds are under way",
    )
    search: BatchResources = BatchResources()
    reference: BatchResources = BatchResources()

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a newer key that is not given: a finished campaign is not taken for a changed one."""
        values: dict[str, Any] = write(self)
        if self.wait:
            values.pop("wait", None)
        return values

    def of(self, role: Role) -> BatchResources:
        """What the batch jobs of a role ask for; light jobs ask for nothing of their own."""
        return {"search": self.search, "reference": self.reference}.get(role, BatchResources())
