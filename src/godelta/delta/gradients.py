"""Reference forces in training, as derivatives of the kernel.

A datum is the derivative of the residual energy along a direction u of all atoms, -F_residual . u in eV/Å;
its row is dk_M/du = sum_i k(p_i, z_m) (z_m - p_i) . dp_i/du / l². It knows nothing of the prior mean, which
depends on composition only. Beside a displaced copy of the structure (`displaced`), whose energy differs by a
few meV and is as uncertain as any other, it holds far more of what the forces say, at one row each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from ase import Atoms

from godelta.arrays import BoolArray, FloatArray
from godelta.delta.displaced import MARK, moving_atoms
from godelta.delta.local_kernel import Environments, EnvironmentSlopes
from godelta.delta.soap import SOAP
from godelta.delta.training import TrainingSet

_STEP = 1e-3  # Å of the central differences of features: relative error 1e-6, round-off 1e-12


@dataclass(frozen=True, slots=True)
class Datum:
    """A structure, or its derivative along `direction` (n, 3) of unit length."""

    id: str
    atoms: Atoms
    direction: FloatArray | None = None


def directions_of(
    atoms: Atoms, name: str, residual_forces: FloatArray, moving: BoolArray | None, count: int
) -> FloatArray:
    """Up to `count` orthonormal directions (d, n, 3) in which moving atoms move.

    All coordinates, if there are no more than `count`. Otherwise the first one is along the residual forces,
    where the foundation is most wrong, and the others are random, always the same for the same id.
    """
    free = np.ones(len(atoms), dtype=np.bool_) if moving is None else moving
    places = np.flatnonzero(np.repeat(free, 3))
    result = np.zeros((min(count, len(places)), 3 * len(atoms)))
    if len(places) <= count:
        result[np.arange(len(places)), places] = 1.0
        return result.reshape(-1, len(atoms), 3)
    rng = np.random.default_rng(np.frombuffer(sha256(name.encode()).digest()[:16], dtype=np.uint32))
    trial = rng.normal(size=(len(places), count))
    forces = residual_forces.ravel()[places]
    if np.abs(forces).max() > 1e-6:
        trial[:, 0] = forces
    result[:, places] = np.linalg.qr(trial)[0].T
    return result.reshape(-1, len(atoms), 3)


def with_gradients(
    training: TrainingSet,
    structures: Sequence[Atoms],
    residual_forces: Mapping[str, FloatArray],
    count: int,
) -> tuple[TrainingSet, list[Datum]]:
    """The data and, for each structure, derivatives along up to `count` directions; in the order of ids.

    Parameters
    ----------
    training, structures
        N structures and their energies.
    residual_forces
        Reference minus foundation forces (n, 3) in eV/Å by id.
    """
    data = [Datum(name, atoms) for name, atoms in zip(training.ids, structures, strict=True)]
    counts, labels = [*training.counts], list(training.residuals)
    for name, atoms in zip(training.ids, structures, strict=True):
        forces = residual_forces[name]
        for u in directions_of(atoms, name, forces, moving_atoms(atoms), count):
            data.append(Datum(f"{name}{MARK}{sha256(u.tobytes()).hexdigest()[:16]}", atoms, u))
            counts.append(np.zeros_like(training.counts[0]))
            labels.append(-float(np.sum(forces * u)))
    order = sorted(range(len(data)), key=lambda k: data[k].id)
    # The energies of derivatives are zero; what is learnt is the difference.
    base = np.concatenate([training.foundation_energies, np.zeros(len(data) - len(structures))])
    merged = TrainingSet(
        ids=tuple(data[k].id for k in order),
        counts=np.array([counts[k] for k in order]),
        reference_energies=base[order] + np.array(labels)[order],
        foundation_energies=base[order],
    )
    return merged, [data[k] for k in order]


def environments_of(
    soap: SOAP,
    data: Sequence[Datum],
    describe: Callable[[SOAP, Sequence[str], Sequence[Atoms]], list[FloatArray]],
) -> list[Environments]:
    """Environments of structures, whose features `describe` gives, and their slopes along directions."""
    plain = [datum for datum in data if datum.direction is None]
    features = describe(soap, [datum.id for datum in plain], [datum.atoms for datum in plain])
    known = {id(datum.atoms): values for datum, values in zip(plain, features, strict=True)}
    result = []
    for datum in data:
        if id(datum.atoms) not in known:
            known[id(datum.atoms)] = soap.features(datum.atoms)
        values, kinds = known[id(datum.atoms)], soap.kinds(datum.atoms)
        if datum.direction is None:
            result.append(Environments(values, kinds))
        else:
            result.append(EnvironmentSlopes(values, kinds, _slopes(soap, datum.atoms, datum.direction)))
    return result


def _slopes(soap: SOAP, atoms: Atoms, direction: FloatArray) -> FloatArray:
    """Derivative (n, f) of the features along a direction, per Å."""
    ahead, behind = atoms.copy(), atoms.copy()
    ahead.positions += _STEP * direction
    behind.positions -= _STEP * direction
    return (soap.features(ahead) - soap.features(behind)) / (2.0 * _STEP)
