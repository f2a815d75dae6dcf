"""Reference forces in training, as derivatives of the kernel.

A datum is the derivative of the residual energy along a direction u of all atoms, -F_residual . u in eV/Å;
its row is dk_M/du = sum_i k(p_i, z_m) (z_m - p_i) . dp_i/du / l². It knows nothing of the prior mean, which
depends on composition only. Beside a displaced copy of the structure (`displaced`), whose energy differs by a
few meV and is as uncertain as any other, it holds far more of what the forces say, at one row each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import numpy as np
from ase import Atoms

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta.displaced import MARK, moving_atoms
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.settings import DeltaSettings
from godelta.delta.training import TrainingSet

_ROWS_PER_POINT = 10  # derivatives to an inducing point, at most: more of them hardly add to what it knows


class Descriptor(Protocol):
    """What atoms are compared by."""

    def kinds(self, atoms: Atoms) -> IntArray:
        """(n,) index of each atom's species."""
        ...

    def features(self, atoms: Atoms) -> FloatArray:
        """(n, f) features of the atoms."""
        ...

    def slopes(self, atoms: Atoms, directions: Sequence[FloatArray]) -> FloatArray:
        """Derivatives (D, n, f) of the features along directions (n, 3), per Å."""
        ...


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

    The first one is along the residual forces, where the foundation is most wrong, the others are random,
    always the same for the same id, and the same whatever `count`.
    """
    free = np.ones(len(atoms), dtype=np.bool_) if moving is None else moving
    places = np.flatnonzero(np.repeat(free, 3))
    rng = np.random.default_rng(np.frombuffer(sha256(name.encode()).digest()[:16], dtype=np.uint32))
    trial = rng.normal(size=(len(places), len(places)))
    forces = residual_forces.ravel()[places]
    if len(places) and np.abs(forces).max() > 1e-6:
        trial[:, 0] = forces
    result = np.zeros((min(count, len(places)), 3 * len(atoms)))
    result[:, places] = np.linalg.qr(trial)[0].T[: len(result)]
    return result.reshape(-1, len(atoms), 3)


def with_gradients(
    training: TrainingSet,
    structures: Sequence[Atoms],
    residual_forces: Mapping[str, FloatArray],
    settings: DeltaSettings,
) -> tuple[TrainingSet, list[Datum]]:
    """The data and, for each structure, derivatives along up to `force_directions`; in the order of ids.

    There are fewer directions where all of them would be more than ten times the inducing points.

    Parameters
    ----------
    training, structures
        N structures and their energies.
    residual_forces
        Reference minus foundation forces (n, 3) in eV/Å by id.
    """
    data = [Datum(name, atoms) for name, atoms in zip(training.ids, structures, strict=True)]
    room = _ROWS_PER_POINT * settings.inducing_points // len(structures)
    count = min(settings.force_directions, max(room, 1))
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


def kernel_rows(
    kernels: Sequence[LocalKernel],
    descriptor: Descriptor,
    data: Sequence[Datum],
    plain: Mapping[str, FloatArray],
) -> list[FloatArray]:
    """Rows (N, M) of the data for each kernel: of structures, and of derivatives of structures, per Å.

    Only one structure's derivatives of features are in memory at a time.

    Parameters
    ----------
    plain
        Features (n, f) of the structures among the data, by id.
    """
    result = [np.empty((len(data), kernel.size)) for kernel in kernels]
    for members in _by_structure(data):
        atoms = data[members[0]].atoms
        own = [k for k in members if data[k].direction is None]
        features = plain[data[own[0]].id] if own else descriptor.features(atoms)
        x = Environments(features, descriptor.kinds(atoms))
        along, directions = _directions(data, members)
        slopes = descriptor.slopes(atoms, directions)
        for kernel, rows in zip(kernels, result, strict=True):
            values = kernel.values(x)
            rows[own] = kernel.row(values)
            if along:
                rows[along] = kernel.slopes(values, slopes)
    return result


def _by_structure(data: Sequence[Datum]) -> Iterator[list[int]]:
    """Indices of the data of each structure."""
    members: dict[int, list[int]] = {}
    for k, datum in enumerate(data):
        members.setdefault(id(datum.atoms), []).append(k)
    yield from members.values()


def _directions(data: Sequence[Datum], members: Sequence[int]) -> tuple[list[int], list[FloatArray]]:
    """Which of the members are derivatives, and along what."""
    found = [(k, u) for k in members if (u := data[k].direction) is not None]
    return [k for k, _ in found], [u for _, u in found]
