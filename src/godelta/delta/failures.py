"""The fit of a `Repulsion` to failed structures; good ones say where there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.optimize import nnls

from godelta.arrays import FloatArray, IntArray
from godelta.delta.displaced import moving_atoms
from godelta.delta.inducing import farthest_points, median_distance
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.model import Describe
from godelta.delta.repulsion import HEIGHT, UNIT, Repulsion, closest_contacts, contacts
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.systems.geometry import radii_of

HIGHEST = 4 * HEIGHT  # eV: a structure that fails again and again at the same place is raised no further
MARGIN = 0.15  # Å that a wall reaches beyond a failed contact: a relaxation would stop right at its foot
SHORT = 1.3  # times the sum of covalent radii: longer distances are no contacts
FAILED_MISFIT = 0.2 * HEIGHT  # eV
GOOD_LIFT = 0.3  # eV: what walls may cost a good structure; one of them must not argue away many failures
GOOD_BUMP = 0.1  # eV, the same for bumps
UNEXPLAINED = 0.2 * HEIGHT  # eV missing at a failed structure that calls for bumps
LEAST_FAILURES = 2  # that a pair of species has to explain: one failure is a place, not a class
WALL_RIDGE = 0.02  # weight of a wall's energy at failures: correlated walls share
BUMP_RIDGE = 0.1
BUMP_WIDTH = 0.15  # of the median distance between environments: short, a bump knows one place only
MAX_BUMPS = 100  # centres per species


@dataclass(frozen=True)
class Failures:
    """F structures whose evaluation failed.

    ids
        Names for stored features, unique.
    raised
        (F,) eV: model energy minus foundation energy when each was proposed. One that failed in spite of
        a repulsion has to be raised higher than before.
    """

    structures: Sequence[Atoms]
    ids: Sequence[str]
    raised: FloatArray


def fit_repulsion(
    settings: DeltaSettings,
    species: Sequence[int],
    failures: Failures,
    good: Sequence[Atoms],
    good_ids: Sequence[str],
    learnt: Callable[[Sequence[Atoms]], FloatArray] | None,
    describe: Describe,
) -> Repulsion | None:
    """The repulsion that explains the failures; None where there are none.

    Parameters
    ----------
    species
        Atomic numbers that structures may contain.
    good, good_ids
        Structures whose evaluation succeeded, and names for their stored features.
    learnt
        Energies in eV of the Δ-model that was trained on the good ones; None: there is none.
    describe
        Gives the features of structures with ids, as for `train`.
    """
    if not failures.structures:
        return None
    known = tuple(sorted({int(z) for z in species}))
    # Names decide the order, so that the order of arrival does not.
    order = np.argsort(np.array(failures.ids))
    failed = [failures.structures[k] for k in order]
    names = [failures.ids[k] for k in order]
    good_order = np.argsort(np.array(good_ids, dtype=np.str_))
    good = [good[k] for k in good_order]
    good_names = [good_ids[k] for k in good_order]
    energies = learnt(failed) if learnt is not None else np.zeros(len(failed))
    targets = np.clip(HEIGHT + failures.raised[order] - energies, HEIGHT, HIGHEST)
    pairs, reach, stiffness, lifted = _walls(known, failed, good, targets)
    soap = SOAP(settings.soap, known)
    kernel = LocalKernel(tuple(np.empty((0, soap.n_features)) for _ in known), 1.0)
    heights = np.empty(0)
    missing = np.flatnonzero(targets - lifted > UNEXPLAINED)
    if len(missing):
        centres = _environments(soap, describe, [names[k] for k in missing], [failed[k] for k in missing])
        others = _environments(soap, describe, good_names, good)
        kernel, heights = _bumps(len(known), centres, others, (targets - lifted)[missing], settings.seed)
    return Repulsion(pairs, reach, stiffness, settings.soap, known, kernel, heights)


def _walls(
    species: tuple[int, ...], failed: Sequence[Atoms], good: Sequence[Atoms], targets: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Pairs (w, 2), reaches (w,), stiffnesses (w,), and the walls' energies at failed structures (F,)."""
    candidates = _suspects(species, failed, good)
    at_failed = _wall_energies(failed, candidates)
    at_good = _wall_energies(good, candidates)
    # In units of a wall's typical energy at a failure: steepness alone makes no explanation cheap.
    touched = np.maximum((at_failed > 0).sum(axis=0), 1)
    scale = np.sqrt((at_failed**2).sum(axis=0) / touched) + 1e-12
    weights = _fewest(at_failed / scale, targets, at_good / scale, [(a, b) for a, b, _ in candidates])
    keep = weights > 1e-6
    stiffness = (weights / scale)[keep]
    chosen = [candidate for candidate, kept in zip(candidates, keep, strict=True) if kept]
    pairs = np.array([(a, b) for a, b, _ in chosen], dtype=np.int64).reshape(-1, 2)
    reach = np.array([c for _, _, c in chosen], dtype=np.float64)
    return pairs, reach, stiffness, at_failed[:, keep] @ stiffness


def _fewest(
    at_failed: FloatArray, targets: FloatArray, at_good: FloatArray, pairs: Sequence[tuple[int, int]]
) -> FloatArray:
    """Weights (w,) of walls between as few pairs of species as explain the failures.

    Pairs come in one by one, the best explanation first, as long as each explains `LEAST_FAILURES` more.
    All at once would share the blame, and a wall that the search never crosses is never proved wrong.
    """
    weights = np.zeros(len(pairs))
    used: set[tuple[int, int]] = set()
    unexplained = len(targets)
    while unexplained and set(pairs) - used:
        trials = []
        for pair in sorted(set(pairs) - used):
            columns = [k for k, name in enumerate(pairs) if name == pair or name in used]
            ridge = np.full(len(columns), WALL_RIDGE)
            part = _non_negative(at_failed[:, columns], targets, at_good[:, columns], GOOD_LIFT, ridge)
            missing = targets - at_failed[:, columns] @ part
            lift = at_good[:, columns] @ part
            misfit = float(missing @ missing) / FAILED_MISFIT**2 + float(lift @ lift) / GOOD_LIFT**2
            trials.append((misfit, pair, int((missing > UNEXPLAINED).sum()), columns, part))
        _, pair, left, columns, part = min(trials, key=lambda trial: trial[:2])
        if unexplained - left < LEAST_FAILURES:
            break
        used.add(pair)
        unexplained = left
        weights[:] = 0.0
        weights[columns] = part
    return weights


def _suspects(
    species: tuple[int, ...], failed: Sequence[Atoms], good: Sequence[Atoms]
) -> list[tuple[int, int, float]]:
    """Species and reach of every wall that may be: by contacts that are closer than in any good structure."""
    shape = (-1, len(species), len(species))
    bad = np.array([closest_contacts(atoms, species, moving_atoms(atoms)) for atoms in failed]).reshape(shape)
    well = np.array([closest_contacts(atoms, species, moving_atoms(atoms)) for atoms in good]).reshape(shape)
    survived = well.min(axis=0, initial=np.inf)
    radii = radii_of(np.array(species))
    limit = np.minimum(survived, SHORT * (radii[:, None] + radii[None, :]))
    result = []
    for i, a in enumerate(species):
        for j in range(i, len(species)):
            close = bad[:, i, j][bad[:, i, j] < limit[i, j]]
            steps = np.unique(np.ceil((close + MARGIN) / UNIT - 1e-9))
            result += [(a, species[j], float(round(step * UNIT, 6))) for step in steps]
    return result


def _wall_energies(structures: Sequence[Atoms], candidates: Sequence[tuple[int, int, float]]) -> FloatArray:
    """(n, w) energies of walls of stiffness 1."""
    energies = np.zeros((len(structures), len(candidates)))
    for row, atoms in zip(energies, structures, strict=True):
        moving = moving_atoms(atoms)
        for a, b in {(a, b) for a, b, _ in candidates}:
            columns = [k for k, candidate in enumerate(candidates) if candidate[:2] == (a, b)]
            reaches = np.array([candidates[k][2] for k in columns])
            distances = contacts(atoms, a, b, moving, float(reaches.max()))[2]
            row[columns] = (np.maximum((reaches[:, None] - distances) / UNIT, 0.0) ** 2).sum(axis=1)
    return energies


def _environments(
    soap: SOAP, describe: Describe, ids: Sequence[str], structures: Sequence[Atoms]
) -> list[Environments]:
    features = describe(soap, ids, structures)
    return [Environments(f, soap.kinds(atoms)) for f, atoms in zip(features, structures, strict=True)]


def _bumps(
    n_species: int, failed: list[Environments], good: list[Environments], targets: FloatArray, seed: int
) -> tuple[LocalKernel, FloatArray]:
    """Centres and heights (m,) of bumps that reach the targets (F,) at failed structures, 0 at good ones."""
    by_species = _split(failed, n_species)
    everywhere = _split(failed + good, n_species)
    width = BUMP_WIDTH * median_distance(everywhere, np.random.default_rng(seed))
    centres = tuple(
        points[np.sort(farthest_points(points, MAX_BUMPS))] if len(points) else points
        for points in by_species
    )
    kernel = LocalKernel(centres, width)
    ridge = np.full(kernel.size, BUMP_RIDGE)
    heights = _non_negative(kernel.rows(failed), targets, kernel.rows(good), GOOD_BUMP, ridge)
    keep = heights > 1e-6
    parts = zip(centres, kernel.offsets[:-1], kernel.offsets[1:], strict=True)
    return LocalKernel(tuple(p[keep[i:j]] for p, i, j in parts), width), heights[keep]


def _split(environments: list[Environments], n_species: int) -> list[FloatArray]:
    features = np.concatenate([e.features for e in environments])
    kinds = np.concatenate([e.kinds for e in environments])
    return [features[kinds == k] for k in range(n_species)]


def _non_negative(
    failed: FloatArray, targets: FloatArray, good: FloatArray, lift: float, ridge: FloatArray
) -> FloatArray:
    """Weights (w,) >= 0 of columns: the targets at failed rows, 0 within `lift` at good ones."""
    if failed.shape[1] == 0:
        return np.empty(0)
    A = np.vstack([failed / FAILED_MISFIT, good / lift, np.diag(ridge)])
    b = np.concatenate([targets / FAILED_MISFIT, np.zeros(len(good) + len(ridge))])
    return np.asarray(nnls(A, b, maxiter=100 * A.shape[1])[0], dtype=np.float64)
