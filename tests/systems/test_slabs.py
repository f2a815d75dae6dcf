"""Cells of surfaces against those of the literature: lengths, angles, areas, atoms."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, root_surface
from ase.neighborlist import neighbor_list
from pydantic import ValidationError

from godelta.systems.builders import build_problem
from godelta.systems.settings import Supercell, SurfaceSettings
from godelta.systems.slabs import fcc_slab

NEAREST = 4.0 / np.sqrt(2)  # Å, at a lattice constant of 4 Å


def _slab(builder, matrix, angle=None, layers=3):
    supercell = {"matrix": matrix, "angle": angle, "layers": layers}
    settings = SurfaceSettings(element="Ag", builder=builder, formula="S", supercell=supercell)
    return fcc_slab(settings, 4.0)


@pytest.mark.parametrize(
    ("builder", "matrix", "angle", "lengths", "between", "rotation", "cells"),
    [
        # √7x√7 R19.1 of S on Ag(111)
        ("fcc111", [[2, 1], [-1, 3]], 60, (7**0.5, 7**0.5), 60.0, 19.107, 7),
        # √17x√17 R14 and p(2x2) of S on Ag(100)
        ("fcc100", [[4, 1], [-1, 4]], 90, (17**0.5, 17**0.5), 90.0, 14.036, 17),
        ("fcc100", [[2, 0], [0, 2]], None, (2.0, 2.0), 90.0, 0.0, 4),
        # the "8" oxide on Cu(111): the same matrix and area in both bases, and another cell
        ("fcc111", [[3, 2], [-1, 2]], 120, (7**0.5, 7**0.5), 98.213, None, 8),
        ("fcc111", [[3, 2], [-1, 2]], 60, (19**0.5, 3**0.5), 66.587, None, 8),
        # (√3x√3)R30
        ("fcc111", [[1, 1], [-1, 2]], None, (3**0.5, 3**0.5), 60.0, 30.0, 3),
        ("fcc111", [[2, 1], [-1, 1]], 120, (3**0.5, 3**0.5), 120.0, 30.0, 3),
    ],
)
def test_cells_of_the_literature(builder, matrix, angle, lengths, between, rotation, cells):
    slab = _slab(builder, matrix, angle)
    a, b, _, alpha, beta, gamma = slab.cell.cellpar()
    np.testing.assert_allclose([a, b], NEAREST * np.array(lengths), rtol=1e-9)
    assert gamma == pytest.approx(between, abs=1e-3)
    assert (alpha, beta) == pytest.approx((90.0, 90.0))
    one = NEAREST**2 * (np.sqrt(3) / 2 if builder == "fcc111" else 1.0)
    assert np.linalg.norm(np.cross(*slab.cell[:2])) == pytest.approx(cells * one)
    assert len(slab) == 3 * cells
    assert np.bincount(slab.get_tags()).tolist() == [0, cells, cells, cells]
    np.testing.assert_allclose(slab.cell[0, 1:], 0.0, atol=1e-9)
    if rotation is not None:  # of the first vector from a row of atoms of the top layer
        top = slab.positions[slab.get_tags() == 1]
        images = (top[:, None] + _lattice(slab)[None]).reshape(-1, 3) - top[0]
        near = images[np.isclose(np.linalg.norm(images, axis=1), NEAREST)]
        turned = np.degrees(np.arctan2(near[:, 1], near[:, 0]))
        assert np.abs(turned - rotation).min() < 1e-2 or np.abs(turned + rotation).min() < 1e-2


def _lattice(slab):
    steps = np.array([(i, j, 0) for i in range(-2, 3) for j in range(-2, 3)])
    return steps @ slab.cell.array


@pytest.mark.parametrize(
    ("root", "matrix"), [(3, [[1, 1], [-1, 2]]), (7, [[2, 1], [-1, 3]]), (13, [[3, 1], [-1, 4]])]
)
def test_equals_ases_root_surfaces(root, matrix):
    expected = root_surface(fcc111("Ag", (1, 1, 3), a=4.0, periodic=True), root)
    slab = _slab("fcc111", matrix)
    np.testing.assert_allclose(slab.cell.lengths()[:2], expected.cell.lengths()[:2])
    np.testing.assert_allclose(_neighbours(slab), _neighbours(expected), atol=0.05)  # ASE rounds its heights


def _neighbours(slab):
    """All distances up to 6.5 Å, in order."""
    return np.sort(neighbor_list("d", Atoms(slab, pbc=(True, True, False)), 6.5))


def test_repetitions_are_a_matrix_too():
    ordinary = fcc_slab(SurfaceSettings(element="Ag", formula="S", size=(3, 2, 4)), 4.0)
    by_matrix = _slab("fcc111", [[3, 0], [0, 2]], layers=4)
    np.testing.assert_allclose(by_matrix.cell[:2], ordinary.cell[:2], atol=1e-9)
    places = [
        {tuple(row) for row in np.round(s.get_scaled_positions() * [6, 6, 3], 6) % [6, 6, 9]}
        for s in (ordinary, by_matrix)
    ]
    assert places[0] == places[1]


def test_the_problem_has_its_layers_fixed_and_room_above(tmp_path):
    settings = SurfaceSettings(
        element="Ag", formula="Ag3S3", supercell=Supercell(matrix=((2, 1), (-1, 3)), layers=4), fixed_layers=3
    )
    problem = build_problem(settings, tmp_path)
    assert (len(problem.template), problem.fixed.sum()) == (28, 21)
    assert (
        problem.template.positions[~problem.fixed, 2].min()
        > problem.template.positions[problem.fixed, 2].max()
    )
    np.testing.assert_allclose(problem.confinement.cell[:2], problem.template.cell[:2])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"supercell": {"matrix": [[1, 0], [0, -2]]}},
            r"turn around.*-2\): take \[\[0, -2\], \[1, 0\]\]",
        ),
        ({"supercell": {"matrix": [[1, 2], [2, 4]]}}, "are parallel"),
        ({"supercell": {"matrix": [[2, 0], [0, 2]], "angle": 90}}, "fcc111 has 60 or 120 degrees"),
        ({"builder": "fcc100", "supercell": {"matrix": [[2, 0], [0, 2]], "angle": 60}}, "fcc100 has 90"),
        ({"supercell": {"matrix": [[2, 0], [0, 2]]}, "size": [2, 2, 2]}, "exclude each other"),
        ({"supercell": {"matrix": [[2, 0], [0, 2]], "layers": 2}, "fixed_layers": 3}, "has 2 layers"),
        ({"supercell": {"matrix": [[30, 0], [0, 30]]}}, "2700 atoms"),
    ],
)
def test_cells_that_are_none(changes, said):
    with pytest.raises(ValidationError, match=said):
        SurfaceSettings.model_validate({"element": "Ag", "formula": "S"} | changes)


def test_campaigns_of_before_keep_their_identity():
    values = SurfaceSettings(element="Ag", formula="S").model_dump(mode="json")
    assert "supercell" not in values
    assert SurfaceSettings.model_validate(values | {"size": [4, 4, 3]}) == SurfaceSettings(
        element="Ag", formula="S"
    )
