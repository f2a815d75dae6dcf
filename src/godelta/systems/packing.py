"""The search problem as bytes, so that a stored campaign needs its template's file no more."""

import numpy as np
from ase import Atoms

from godelta.arrays import pack_arrays, unpack_arrays
from godelta.systems.confinement import Confinement
from godelta.systems.problem import SearchProblem


def pack_problem(problem: SearchProblem) -> bytes:
    """Everything of a problem, exactly."""
    template, confinement = problem.template, problem.confinement
    return pack_arrays(
        {
            "template_numbers": np.asarray(template.numbers, dtype=np.int64),
            "template_positions": np.asarray(template.positions, dtype=np.float64),
            "cell": np.asarray(template.cell.array, dtype=np.float64),
            "pbc": np.asarray(template.pbc, dtype=np.bool_),
            "fixed": problem.fixed,
            "numbers": problem.numbers,
            "confinement_cell": confinement.cell,
            "confinement_corner": confinement.corner,
            "confinement_walls": np.asarray(confinement.walls, dtype=np.bool_),
        }
    )


def unpack_problem(blob: bytes) -> SearchProblem:
    """Read what `pack_problem` wrote."""
    a = unpack_arrays(blob)
    template = Atoms(a["template_numbers"], a["template_positions"], cell=a["cell"], pbc=a["pbc"])
    walls = tuple(bool(wall) for wall in a["confinement_walls"])
    confinement = Confinement(a["confinement_cell"], a["confinement_corner"], walls)
    return SearchProblem(template, a["fixed"], a["numbers"], confinement)
