import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.io import write

from godelta.errors import InputError
from godelta.systems.builders import build_problem
from godelta.systems.packing import pack_problem, unpack_problem
from godelta.systems.settings import (
    ClusterSettings,
    ExplicitConfinement,
    FixedBelow,
    SurfaceConfinement,
    SurfaceSettings,
    TemplateSettings,
)


@pytest.fixture
def slab_file(tmp_path):
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=False)
    slab.set_cell([*slab.cell[:2], [0, 0, 30.0]])
    write(tmp_path / "slab.xyz", slab, format="extxyz")
    return tmp_path


def test_a_cluster_is_confined_to_the_middle_of_an_open_box(tmp_path):
    problem = build_problem(ClusterSettings(formula="Ag8S4"), tmp_path)
    assert not problem.template.pbc.any()
    np.testing.assert_array_equal(problem.template.cell, np.eye(3) * 20.0)
    corners = problem.confinement.corner + np.array([np.zeros(3), np.ones(3)]) @ problem.confinement.cell
    np.testing.assert_allclose(corners, [[4.0] * 3, [16.0] * 3])
    assert problem.numbers.tolist() == [47] * 8 + [16] * 4
    assert problem.moving.all()


@pytest.mark.parametrize("held", [None, 2, 0])
def test_a_surface_is_ases_slab_with_room_above(tmp_path, held):
    settings = SurfaceSettings(
        element="Cu", builder="fcc100", size=(3, 2, 3), formula="O2", fixed_layers=held
    )
    problem = build_problem(settings, tmp_path)
    slab = problem.template
    assert slab.pbc.tolist() == [True, True, False]
    spacing = bulk("Cu", cubic=True).cell[0, 0]
    heights = np.unique(slab.positions[:, 2].round(6))
    np.testing.assert_allclose(np.diff(heights), spacing / 2, atol=1e-5)
    np.testing.assert_allclose(slab.get_all_distances(mic=True)[0, 1], spacing / np.sqrt(2), atol=1e-6)
    layers = 3 if held is None else held
    np.testing.assert_array_equal(problem.fixed, np.isin(slab.positions[:, 2].round(6), heights[:layers]))
    region = problem.confinement
    assert region.corner[2] == pytest.approx(heights[-1] + 0.5)
    assert slab.cell[2, 2] - (region.corner[2] + 5.0) + heights[0] == pytest.approx(settings.vacuum)
    assert region.walls == (False, False, True)


def test_a_flat_confinement_has_two_vectors(tmp_path):
    settings = SurfaceSettings(
        element="Ag", formula="S2", confinement=SurfaceConfinement(dimensions=2, height=1.8)
    )
    region = build_problem(settings, tmp_path).confinement
    assert region.dimensions == 2
    assert region.walls == (False, False)


def test_an_element_without_fcc_lattice_needs_a_lattice_constant(tmp_path):
    with pytest.raises(InputError, match="lattice constant of Fe"):
        build_problem(SurfaceSettings(element="Fe", formula="O"), tmp_path)
    settings = SurfaceSettings(element="Fe", formula="O", lattice_constant=3.6, size=(2, 2, 2))
    assert build_problem(settings, tmp_path).template.get_all_distances(mic=True)[0, 1] == pytest.approx(
        3.6 / np.sqrt(2)
    )


@pytest.mark.parametrize(
    ("fixed", "count"), [("all", 12), ((0, 1, 11), 3), (FixedBelow(below=9.0), 4), ((), 0)]
)
def test_a_template_is_fixed_as_asked(slab_file, fixed, count):
    problem = build_problem(TemplateSettings(file="slab.xyz", formula="O2", fixed=fixed), slab_file)
    assert problem.fixed.sum() == count
    assert problem.structure(np.zeros((2, 3))).get_chemical_formula() == "Cu12O2"


def test_walls_stand_where_a_confinement_does_not_span_the_cell(slab_file):
    cell = fcc111("Cu", (2, 2, 3)).cell
    explicit = ExplicitConfinement(
        cell=(tuple(cell[0]), tuple(0.5 * cell[1]), (0.0, 0.0, 4.0)), corner=(0.0, 0.0, 13.0)
    )
    problem = build_problem(TemplateSettings(file="slab.xyz", formula="O2", confinement=explicit), slab_file)
    assert problem.confinement.walls == (False, True, True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ClusterSettings(formula="Ag200"), "too small"),
        (ClusterSettings(formula="Ag8", confinement=1.0), "too small"),
        (TemplateSettings(file="slap.xyz", formula="O"), "did you mean slab.xyz"),
        (TemplateSettings(file="broken.xyz", formula="O"), "cannot read the template"),
        (TemplateSettings(file="free.xyz", formula="O"), "no three-dimensional cell"),
        (TemplateSettings(file="slab.xyz", formula="O", fixed=(3, 12)), r"no atoms \[12\]"),
        (
            TemplateSettings(file="slab.xyz", formula="O", confinement=SurfaceConfinement(thickness=20.0)),
            "lengthen this cell vector",
        ),
        (TemplateSettings(file="slab.xyz", formula="O", pbc=(False,) * 3), "periodic in the xy plane"),
        (
            TemplateSettings(
                file="slab.xyz",
                formula="O",
                confinement=ExplicitConfinement(cell=((1, 0, 0), (2, 0, 0)), corner=(0, 0, 14)),
            ),
            "span nothing",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_way_out(slab_file, settings, said):
    (slab_file / "broken.xyz").write_text("12\nno atoms here\n")
    write(slab_file / "free.xyz", Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]]))
    with pytest.raises(InputError, match=said):
        build_problem(settings, slab_file)


def test_a_problem_survives_storage(slab_file):
    for settings in (
        ClusterSettings(formula="Ag8S4"),
        TemplateSettings(
            file="slab.xyz", formula="O2", confinement=SurfaceConfinement(dimensions=2, height=2.0)
        ),
    ):
        problem = build_problem(settings, slab_file)
        again = unpack_problem(pack_problem(problem))
        assert again.template == problem.template
        np.testing.assert_array_equal(again.fixed, problem.fixed)
        np.testing.assert_array_equal(again.numbers, problem.numbers)
        np.testing.assert_array_equal(again.confinement.cell, problem.confinement.cell)
        np.testing.assert_array_equal(again.confinement.corner, problem.confinement.corner)
        assert again.confinement.walls == problem.confinement.walls
