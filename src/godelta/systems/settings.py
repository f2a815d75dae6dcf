"""Settings of the search problem: a cluster, a surface, or a template from a file."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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


BASIS_ANGLES = {"fcc111": (60.0, 120.0), "fcc100": (90.0,)}  # degrees; ASE's own first
Entry = Annotated[int, Field(ge=-50, le=50)]


class Supercell(Settings):
    """A commensurate cell of a surface: its vectors in those of the surface's own cell.

    A row (m, n) is m a + n b, where a and b are the shortest lattice vectors and enclose `angle`. On fcc(111)
    both 60° and 120° are in use, and the same matrix is another cell in each.
    """

    matrix: tuple[tuple[Entry, Entry], tuple[Entry, Entry]] = Field(
        description="rows: the new vectors, e.g. [[2, 1], [-1, 3]]"
    )
    angle: Literal[60, 90, 120] | None = Field(
        None, description="between a and b, degrees: 60 or 120 on fcc111 (60 when not given), 90 on fcc100"
    )
    layers: int = Field(3, ge=1, le=50, description="layers of the slab")

    @property
    def determinant(self) -> int:
        """Area in cells of the surface; negative for vectors of the wrong hand."""
        (m, n), (p, q) = self.matrix
        return m * q - n * p


class SurfaceSettings(Settings):
    """Atoms on an fcc surface: repetitions of its cell (`size`), or a commensurate one (`supercell`)."""

    kind: Literal["surface"] = "surface"
    builder: Literal["fcc111", "fcc100"] = "fcc111"
    element: Annotated[str, AfterValidator(_checked_element)] = Field(description="element of the slab")
    size: tuple[int, int, int] = Field((4, 4, 3), description="repetitions in the plane, and layers")
    supercell: Supercell | None = Field(None, description="in place of `size`: a cell by its matrix")
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

    @property
    def layers(self) -> int:
        """Layers of the slab."""
        return self.size[2] if self.supercell is None else self.supercell.layers

    @model_validator(mode="after")
    def _sane_slab(self) -> Self:
        if self.supercell is not None:
            return self._sane_supercell(self.supercell)
        if min(self.size) < 1:
            raise ValueError(f"size {list(self.size)} must hold three numbers of at least 1")
        return self._sane_layers(math.prod(self.size), f"of size {list(self.size)}")

    def _sane_supercell(self, cell: Supercell) -> Self:
        if "size" in self.model_fields_set and self.size != type(self).model_fields["size"].default:
            raise ValueError("`size` and `supercell` exclude each other: leave one of them out")
        matrix = [list(row) for row in cell.matrix]
        if cell.determinant <= 0:
            what = f"the vectors of supercell.matrix {matrix}"
            if cell.determinant == 0:
                raise ValueError(f"{what} are parallel: the cell has no area")
            raise ValueError(f"{what} turn around (determinant {cell.determinant}): take {matrix[::-1]}")
        allowed = BASIS_ANGLES[self.builder]
        if cell.angle is not None and cell.angle not in allowed:
            known = " or ".join(f"{angle:g}" for angle in allowed)
            raise ValueError(f"supercell.angle is {cell.angle}, but {self.builder} has {known} degrees")
        return self._sane_layers(cell.determinant * cell.layers, f"with supercell {matrix}")

    def _sane_layers(self, atoms: int, which: str) -> Self:
        if atoms > MAX_TEMPLATE:
            raise ValueError(f"a slab {which} has {atoms} atoms: at most {MAX_TEMPLATE}")
        if self.fixed_layers is not None and self.fixed_layers > self.layers:
            raise ValueError(f"fixed_layers is {self.fixed_layers}, but the slab has {self.layers} layers")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the newer key that is not given: a finished campaign is not taken for a changed one."""
        values: dict[str, Any] = write(self)
        if self.supercell is None:
            values.pop("supercell", None)
        return values


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
