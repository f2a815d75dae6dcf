"""The configuration of a campaign, composed of the settings that each floor defines for itself."""

from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from godelta.delta.settings import DeltaSettings
from godelta.foundation.settings import ASEFoundationSettings, CHGNetSettings, FoundationSettings
from godelta.reference.settings import ReferenceSettings, XTBSettings
from godelta.resources import Budget, Resources
from godelta.search.settings import RefineSettings, REXSettings, SearchSettings
from godelta.settings import Settings, digest
from godelta.systems.settings import ClusterSettings, SystemSettings

IDENTITY_KEYS = ("system", "foundation", "delta", "search", "reference", "share", "seed")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class CampaignConfig(Settings):
    """One search for one system with one configuration."""

    name: str = Field(pattern=NAME)
    tags: tuple[Annotated[str, Field(pattern=NAME)], ...] = Field(
        (), max_length=20, description="words to find the campaign by: `godelta query --tag`"
    )
    system: SystemSettings
    foundation: FoundationSettings = CHGNetSettings()
    delta: DeltaSettings = DeltaSettings()
    search: SearchSettings = REXSettings()
    reference: ReferenceSettings = XTBSettings()
    share: bool = Field(True, description="chains learn from each other's evaluations")
    budget: Budget = Budget()
    refine: RefineSettings = RefineSettings()
    resources: Resources = Resources()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _reference_fits_system(self) -> Self:
        if isinstance(self.reference, XTBSettings) and not isinstance(self.system, ClusterSettings):
            raise ValueError("reference engine xtb computes clusters only; use gpaw, emt or ase for surfaces")
        return self

    @model_validator(mode="after")
    def _embedding_has_features(self) -> Self:
        if self.delta.descriptor == "embedding" and isinstance(self.foundation, ASEFoundationSettings):
            raise ValueError(
                "`delta.descriptor: embedding` needs a foundation that has features of atoms, and an ASE"
                " calculator has none; take another foundation, or `delta.descriptor: soap`"
            )
        return self

    @model_validator(mode="after")
    def _every_chain_has_a_budget(self) -> Self:
        if not self.share and self.budget.evaluations < self.budget.chains:
            raise ValueError("with `share: false` every chain needs at least one of budget.evaluations")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a newer key that is not given: a finished campaign is not taken for a changed one."""
        values: dict[str, Any] = write(self)
        if self.refine == RefineSettings():
            values.pop("refine", None)
        return values

    def with_defaults_of(self, older: Self) -> Self:
        """The configuration, and defaults as they were for `older` where it says nothing itself.

        So a campaign file goes on with a campaign that was begun when a default was another one.
        """
        return self.model_copy(update={"delta": self.delta.with_defaults_of(older.delta)})

    def identity(self) -> dict[str, Any]:
        """The settings that decide the results; changing one makes another campaign."""
        values = self.model_dump(mode="json", include=set(IDENTITY_KEYS))
        # Where an engine's program and files lie is not what they compute: the reference hash tells that.
        for key in ("limits", "command", "pseudo_dir", "pp_path"):
            values["reference"].pop(key, None)
        # A weight file is known by its hash, which a campaign records: it may be moved.
        values["foundation"].pop("weights", None)
        return values

    def identity_hash(self) -> str:
        """SHA-256 of `identity`."""
        return digest(self.identity())
