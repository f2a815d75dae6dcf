"""Settings of the search problem: a cluster, a surface, or a template from a file."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from godelta.settings import Settings

MAX_TEMPLATE = 2000  # atoms
MIN_VACUUM = 6.0  # Å; foundations treat every structure as periodic, and their cutoffs end here


def _checked_formula(text: str) -> str:
    from godelta.systems.formula import parse_formula  # ASE is imported only where a formula is given

    parse_formula(text)
    return text


def _checked_element(symbol: str) -> str:
    from godelta.systems.formula import check_element

    check_element(symbol)
    return symbol


Formula = Annotated[
    str, AfterValidator(_checked_formula), Field(description="atoms that the search places, e.g. Ag8S4")
]
Coordinate = Annotated[float, Field(ge=-1000.0, le=1000.0)]
Vector = tuple[Coordinate, Coordinate, Coordinate]


class ClusterSettings(Settings):
    """A free cluster in a cubic box."""

    kind: Literal["cluster"] = "cluster"
    formula: Formula
    box: float = Field(20.0, gt=0, le=200.0, description="edge of the cubic box, Å")
    confinement: float = Field(
        12.0, ge=0.1, description="edge of the cube in the middle of the box in which atoms may be, Å"
    )

    @model_validator(mode="after")
    def _leave_vacuum(self) -> Self:
        if self.box - self.confinement < MIN_VACUUM:
            raise ValueError(
                f"only {self.box - self.confinement:g} Å lie between the confinement"
                f" ({self.confinement:g} Å) and its periodic images; foundations need {MIN_VACUUM:g} Å:"
                f" make the box at least {self.confinement + MIN_VACUUM:g} Å, or the confinement smaller"
            )
        return self


class SurfaceConfinement(Settings):
    """A slice above a surface that spans the whole cell in the plane."""

    height: float = Field(
        0.5, ge=-100.0, le=100.0, description="where it begins, Å above the highest atom of the template"
    )
    thickness: float = Field(
        5.0, ge=0.1, le=100.0, description="its height, Å; of no meaning in two dimensions"
    )
    dimensions: Literal[2, 3] = Field(3, description="2: atoms are placed in the plane at `height`")

    @property
    def top(self) -> float:
        """Upper end of the confinement, Å above the highest atom of the template."""
        return self.height + (self.thickness if self.dimensions == 3 else 0.0)


class ExplicitConfinement(Settings):
    """A parallelepiped, or with two vectors a parallelogram, given by its vectors and a corner."""

    cell: tuple[Vector, Vector, Vector] | tuple[Vector, Vector] = Field(description="spanning vectors, Å")
    corner: Vector = Field(description="corner, Å")


class SurfaceSettings(Settings):
    """Atoms on an fcc surface built by ASE."""

    kind: Literal["surface"] = "surface"
    builder: Literal["fcc111", "fcc100"] = "fcc111"
    element: Annotated[str, AfterValidator(_checked_element)] = Field(description="element of the slab")
    size: tuple[int, int, int] = Field((4, 4, 3), description="repetitions in the plane, and layers")
    lattice_constant: float | None = Field(None, gt=1.0, le=15.0, description="Å; ASE's value when not given")
    fixed_layers: int | None = Field(None, ge=0, description="layers held, from below; all when not given")
    vacuum: float = Field(
        10.0,
        ge=MIN_VACUUM,
        le=100.0,
        description="empty space between the top of the confinement and the next image of the slab, Å",
    )
    formula: Formula
    confinement: SurfaceConfinement = SurfaceConfinement()

    @model_validator(mode="after")
    def _sane_slab(self) -> Self:
        if min(self.size) < 1:
            raise ValueError(f"size {list(self.size)} must hold three numbers of at least 1")
        if math.prod(self.size) > MAX_TEMPLATE:
            raise ValueError(
                f"a slab of size {list(self.size)} has {math.prod(self.size)} atoms: at most {MAX_TEMPLATE}"
            )
        if self.fixed_layers is not None and self.fixed_layers > self.size[2]:
            raise ValueError(f"fixed_layers is {self.fixed_layers}, but the slab has {self.size[2]} layers")
        return self


class FixedBelow(Settings):
    """Template atoms below a height are fixed."""

    below: float = Field(description="Cartesian z, Å")


class TemplateSettings(Settings):
    """Atoms added to a structure read from a file."""

    kind: Literal["template"] = "template"
    file: Path = Field(description="any format that ASE reads; relative to the campaign file")
    formula: Formula
    fixed: Literal["all"] | tuple[int, ...] | FixedBelow = Field(
        "all", description="all, a list of indices from 0, or {below: z}"
    )
    pbc: tuple[bool, bool, bool] | None = Field(None, description="periodicity, the file's when not given")
    confinement: ExplicitConfinement | SurfaceConfinement = SurfaceConfinement()


SystemSettings = Annotated[ClusterSettings | SurfaceSettings | TemplateSettings, Field(discriminator="kind")]
