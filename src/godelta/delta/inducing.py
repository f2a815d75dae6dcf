"""Choice of inducing points: representative local environments."""

import numpy as np

from godelta.arrays import FloatArray, IntArray

SUBSAMPLE = 3000  # environments looked at per inducing choice: all atoms of 200 slabs would take minutes
_CUR_RANK = 60


def farthest_points(X: FloatArray, count: int) -> IntArray:
    """Indices of up to `count` rows of X (n, f), each the farthest from those before it.

    Starts at the row farthest from the centroid and stops early when only duplicates are left
    (Gonzalez, Theor. Comput. Sci. 38, 293 (1985)).
    """
    X = X - X.mean(axis=0)
    squared = np.einsum("ij,ij->i", X, X)
    first = int(np.argmax(squared))
    chosen = [first]
    distance = squared + squared[first] - 2.0 * (X @ X[first])
    duplicate = 1e-12 * max(float(squared[first]), 1e-300)
    while len(chosen) < min(count, len(X)):
        k = int(np.argmax(distance))
        if distance[k] <= duplicate:
            break
        chosen.append(k)
        np.minimum(distance, squared + squared[k] - 2.0 * (X @ X[k]), out=distance)
    return np.array(chosen, dtype=np.int64)


def cur_rows(X: FloatArray, count: int, rng: np.random.Generator) -> IntArray:
    """Indices of `count` rows of X (n, f), drawn by their leverage scores (CUR decomposition).

    Scores come from the leading left singular vectors of a thin SVD (Mahoney & Drineas, PNAS 106, 697
    (2009)); the full SVD would form an n x n matrix that nothing needs.
    """
    left, singular, _ = np.linalg.svd(X, full_matrices=False)
    rank = min(_CUR_RANK, int(np.count_nonzero(singular > 1e-12 * singular[0])) or 1)
    scores = np.sum(left[:, :rank] ** 2, axis=1) + 1e-12  # every row stays possible
    chosen = rng.choice(len(X), min(count, len(X)), replace=False, p=scores / scores.sum())
    return np.asarray(chosen, dtype=np.int64)


def quotas(available: IntArray, total: int) -> IntArray:
    """Share `total` among groups in proportion to `available`, by largest remainders, at least one each."""
    if available.sum() <= total:
        return available
    share = available * (total / available.sum())
    result: IntArray = np.maximum(np.floor(share).astype(np.int64), np.minimum(available, 1))
    for k in np.argsort(np.floor(share) - share, kind="stable"):
        if result.sum() < total and result[k] < available[k]:
            result[k] += 1
    while result.sum() > max(total, np.count_nonzero(available)):
        result[int(np.argmax(result))] -= 1
    return result


def choose_inducing(
    groups: list[FloatArray], count: int, selection: str, rng: np.random.Generator
) -> list[FloatArray]:
    """Inducing features for each group (n_b, f) of environments, about `count` in all.

    While all environments are no more than `count`, each of them is an inducing point: the sparse model
    is then the exact one. `selection` is "fps" or "cur".
    """
    available = np.array([len(group) for group in groups], dtype=np.int64)
    if available.sum() <= count:
        return [np.ascontiguousarray(group) for group in groups]
    result = []
    for group, quota in zip(groups, quotas(available, count), strict=True):
        sample = group
        if len(group) > max(SUBSAMPLE, quota):
            sample = group[np.sort(rng.choice(len(group), max(SUBSAMPLE, int(quota)), replace=False))]
        if quota == 0:
            result.append(sample[:0])
            continue
        chosen = farthest_points(sample, quota) if selection == "fps" else cur_rows(sample, quota, rng)
        result.append(np.ascontiguousarray(sample[chosen]))
    return result


def median_distance(groups: list[FloatArray], rng: np.random.Generator) -> float:
    """Median distance between environments of a group, over all groups; never 0.

    Where environments coincide (a dimer), 5 % of the features' size stands in for a distance.
    """
    distances, sizes = [], []
    for group in groups:
        sample = group if len(group) <= 400 else group[rng.choice(len(group), 400, replace=False)]
        if len(sample) == 0:
            continue
        sizes.append(np.linalg.norm(sample, axis=1))
        squared = np.sum((sample[:, None, :] - sample[None, :, :]) ** 2, axis=-1)
        distances.append(np.sqrt(squared[np.triu_indices(len(sample), 1)]))
    least = 0.05 * float(np.median(np.concatenate(sizes))) + 1e-12
    every = np.concatenate(distances)
    return max(float(np.median(every)), least) if every.size else least
