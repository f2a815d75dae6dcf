"""Weights of moves and generators in a campaign file."""

from typing import Self

from pydantic import Field, model_validator

from godelta.settings import Settings

FROM_NOTHING = ("random", "symmetric")  # kinds of structures that owe nothing to earlier ones


class _Weights(Settings):
    """Weights of several kinds; only their ratios matter."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not any(self.shares().values()):
            raise ValueError("at least one weight must be above 0")
        return self

    def shares(self) -> dict[str, float]:
        """Weight of each kind divided by their sum."""
        weights = {name: float(weight) for name, weight in self.model_dump().items()}
        total = sum(weights.values())
        return {name: weight / total if total else 0.0 for name, weight in weights.items()}


class MoveWeights(_Weights):
    """How often a search makes each kind of move; a key that is not given keeps its default."""

    rattle: float = Field(0.8, ge=0, le=1e6, description="displace all placed atoms")
    permutation: float = Field(0.2, ge=0, le=1e6, description="exchange two unlike atoms")
    centre_of_geometry: float = Field(
        0.0, ge=0, le=1e6, description="place the outermost atoms anew, nearer to the centre"
    )
    symmetric_rattle: float = Field(
        0.0, ge=0, le=1e6, description="displace atoms together, so that a symmetry of the structure stays"
    )


class GeneratorWeights(_Weights):
    """How often a search begins from each kind of structure; a key that is not given keeps its default."""

    random: float = Field(1.0, ge=0, le=1e6, description="atoms placed one by one")
    symmetric: float = Field(
        0.0, ge=0, le=1e6, description="a point group of clusters, the template's symmetry on surfaces"
    )
    reuse: float = Field(0.0, ge=0, le=1e6, description="one of the chain's low minima, slightly rattled")
