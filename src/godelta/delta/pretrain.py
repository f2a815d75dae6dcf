"""Which evaluations of other campaigns a Δ-model starts from."""

from typing import Any, Self

from pydantic import Field, model_validator

from godelta.settings import Settings


class PretrainSettings(Settings):
    """Evaluations of other campaigns: those of named ones, or all that fit, the lowest per atom first.

    Only those of the same foundation and the same reference level, and of the campaign's own elements, can be
    learnt from.
    """

    campaigns: tuple[str, ...] = Field((), description="names of campaigns; none: every one that fits")
    tags: tuple[str, ...] = Field((), description="tags that a campaign must have, all of them")
    formula: str | None = Field(None, description="composition of the whole structure, e.g. Ag4S2")
    at_most: int = Field(500, ge=1, le=10_000, description="how many evaluations")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """A name, or a list of names, stands for those campaigns."""
        if isinstance(value, str):
            return {"campaigns": (value,)}
        return {"campaigns": tuple(value)} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _something_is_asked_for(self) -> Self:
        if not (self.campaigns or self.tags or self.formula):
            raise ValueError("name campaigns, tags or a formula to learn from")
        return self
