"""From settings to the search problem."""

import difflib
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, reference_states
from ase.io import read

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.errors import InputError
from godelta.systems.checks import MIN_WIDTH, check_packing, check_template, check_vacuum
from godelta.systems.confinement import Confinement
from godelta.systems.formula import parse_formula
from godelta.systems.problem import SearchProblem
from godelta.systems.settings import (
    ClusterSettings,
    ExplicitConfinement,
    FixedBelow,
    SurfaceConfinement,
    SurfaceSettings,
    SystemSettings,
    TemplateSettings,
)
from godelta.systems.slabs import fcc_slab


def build_problem(settings: SystemSettings, base: Path) -> SearchProblem:
    """Build the search problem of a campaign.

    Parameters
    ----------
    settings
        What the user asked for.
    base
        Folder that a template's relative path starts from.

    Raises
    ------
    InputError
        If the formula, the template, the fixed atoms or the confinement cannot be used.
    """
    try:
        numbers = parse_formula(settings.formula)
    except ValueError as error:
        raise InputError(
            str(error), where="system.formula", mend="list the atoms to place, e.g. Ag8S4"
        ) from error
    if isinstance(settings, ClusterSettings):
        problem = _cluster(settings, numbers)
    elif isinstance(settings, SurfaceSettings):
        problem = _surface(settings, numbers)
    else:
        problem = _template(settings, numbers, base)
    check_vacuum(problem)
    check_packing(problem, settings.formula)
    return problem


def _cluster(settings: ClusterSettings, numbers: IntArray) -> SearchProblem:
    template = Atoms(cell=np.eye(3) * settings.box, pbc=False)
    corner = np.full(3, 0.5 * (settings.box - settings.confinement))
    confinement = Confinement(np.eye(3) * settings.confinement, corner, (True, True, True))
    return SearchProblem(template, np.zeros(0, dtype=np.bool_), numbers, confinement)


def _surface(settings: SurfaceSettings, numbers: IntArray) -> SearchProblem:
    a = settings.lattice_constant
    if a is None:
        state: dict[str, Any] = reference_states[atomic_numbers[settings.element]] or {}
        if state.get("symmetry") != "fcc":
            raise InputError(
                f"ASE knows no fcc lattice constant of {settings.element}",
                where="system.lattice_constant",
                mend="give lattice_constant in Å",
            )
        a = state["a"]
    slab = fcc_slab(settings, a)
    # Half of the vacuum lies below: codes with a non-periodic direction need it on both sides.
    top = float(np.ptp(slab.positions[:, 2])) + settings.confinement.top
    cell = np.array(slab.cell)
    cell[2] = (0.0, 0.0, settings.vacuum + max(top, float(np.ptp(slab.positions[:, 2]))))
    slab.positions[:, 2] += 0.5 * settings.vacuum - slab.positions[:, 2].min()
    held = settings.layers if settings.fixed_layers is None else settings.fixed_layers
    fixed = np.asarray(slab.get_tags() > settings.layers - held, dtype=np.bool_)  # tag 1 is the top layer
    template = Atoms(slab.numbers, slab.positions, cell=cell, pbc=(True, True, False))
    return SearchProblem(template, fixed, numbers, _above(template, settings.confinement))


def _template(settings: TemplateSettings, numbers: IntArray, base: Path) -> SearchProblem:
    template = _read(settings, base)
    if isinstance(settings.confinement, SurfaceConfinement):
        confinement = _above(template, settings.confinement)
    else:
        confinement = _explicit(template, settings.confinement)
    return SearchProblem(template, _fixed(template, settings), numbers, confinement)


def _read(settings: TemplateSettings, base: Path) -> Atoms:
    path = base / settings.file
    where = "system.file"
    try:
        found = path.is_file()
        names = [] if found or not path.parent.is_dir() else [p.name for p in path.parent.iterdir()]
    except OSError as error:  # a name too long, a folder that may not be read
        raise InputError(
            f"the template {path} cannot be read: {error.strerror}",
            where=where,
            mend="put it beside the campaign file",
        ) from error
    if not found:
        near = difflib.get_close_matches(path.name, names, n=1)
        mend = f"did you mean {near[0]}?" if near else "paths start from the folder of the campaign file"
        raise InputError(f"there is no template {path}", where=where, mend=mend)
    try:
        atoms: Any = read(path, index=-1)
    except Exception as error:  # ASE's readers raise anything on a broken file
        raise InputError(
            f"ASE cannot read the template {path}: {type(error).__name__}: {error}",
            where=where,
            mend="check the file and its ending; extxyz, POSCAR and CIF are read",
        ) from error
    if not isinstance(atoms, Atoms):
        raise InputError(
            f"the template {path} holds no structure",
            where=where,
            mend="give a file with one structure, e.g. extxyz",
        )
    check_template(atoms, f"the template {path}")
    pbc = atoms.pbc if settings.pbc is None else settings.pbc
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=pbc)


def _fixed(template: Atoms, settings: TemplateSettings) -> BoolArray:
    n = len(template)
    if settings.fixed == "all":
        return np.ones(n, dtype=np.bool_)
    if isinstance(settings.fixed, FixedBelow):
        return np.asarray(template.positions[:, 2] < settings.fixed.below, dtype=np.bool_)
    wrong = [i for i in settings.fixed if not 0 <= i < n]
    if wrong:
        raise InputError(
            f"the template has no atoms {wrong}",
            where="system.fixed",
            mend=f"it holds {n} atoms: indices go from 0 to {n - 1}",
        )
    flags = np.zeros(n, dtype=np.bool_)
    flags[list(settings.fixed)] = True
    return flags


def _above(template: Atoms, settings: SurfaceConfinement) -> Confinement:
    """Slice above the highest atom, spanning the cell in the plane."""
    cell = np.array(template.cell)
    if np.abs(cell[:2, 2]).max() > 1e-6 or not template.pbc[:2].all():
        raise InputError(
            "a confinement above a surface needs a template that is periodic in the xy plane",
            where="system.confinement",
            mend="orient the slab along z with pbc [true, true, false], or give cell and corner",
        )
    corner = np.array([0.0, 0.0, template.positions[:, 2].max() + settings.height])
    if settings.dimensions == 2:
        return Confinement(cell[:2], corner, (False, False))
    region = np.array([cell[0], cell[1], [0.0, 0.0, settings.thickness]])
    return Confinement(region, corner, (False, False, True))


def _explicit(template: Atoms, settings: ExplicitConfinement) -> Confinement:
    """Walls stand where the confinement does not span a whole periodic cell."""
    cell: FloatArray = np.array(settings.cell, dtype=float)
    if np.linalg.svd(cell, compute_uv=False).min() < MIN_WIDTH:
        raise InputError(
            "the vectors of the confinement span nothing",
            where="system.confinement.cell",
            mend="give two or three independent vectors in Å",
        )
    spans = [
        any(template.pbc[k] and np.allclose(vector, template.cell[k], atol=1e-4) for k in range(3))
        for vector in cell
    ]
    return Confinement(cell, np.array(settings.corner), tuple(not s for s in spans))
