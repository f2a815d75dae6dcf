"""Compiled matrix products of a few atoms with many inducing points.

BLAS packs its operands first, which for ten rows costs more than the product: these loops take a third to a
half of its time. Rows and columns come in blocks of four; callers pad with zeros.
"""

import numpy as np

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta.compiled import compiled

CHUNK = 256  # columns at a time: four rows of each operand stay in the first-level cache


@compiled
def squared_exponents(
    features: FloatArray,
    members: BoolArray,
    centre: FloatArray,
    scale: float,
    points: FloatArray,
    half: FloatArray,
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Scaled features X of the atoms that are `members`, and -|x - z|²/2 of each with the inducing points.

    x = (feature - centre) * scale, for features (n, f) and centre (f,). points: z (f', m), scaled in the same
    way, f' = f rounded up to a multiple of four; half: -|z|²/2 (m,). Returns the atoms (n_b,), X (n', f') and
    the exponents (n', m), n' = n_b rounded up to a multiple of four; rows beyond n_b are meaningless.
    """
    f, (padded, m) = features.shape[1], points.shape
    atoms = np.flatnonzero(members)
    n = (len(atoms) + 3) // 4 * 4
    X, out = np.zeros((n, padded)), np.empty((n, m))
    for i in range(n):
        size = 0.0
        if i < len(atoms):
            for k in range(f):
                x = (features[atoms[i], k] - centre[k]) * scale
                X[i, k] = x
                size += x * x
        for j in range(m):
            out[i, j] = half[j] - 0.5 * size
    for start in range(0, m, CHUNK):
        stop = min(start + CHUNK, m)
        for i in range(0, n, 4):
            a, b, c, d = (
                out[i, start:stop],
                out[i + 1, start:stop],
                out[i + 2, start:stop],
                out[i + 3, start:stop],
            )
            for k in range(0, padded, 4):
                w, x = points[k, start:stop], points[k + 1, start:stop]
                y, z = points[k + 2, start:stop], points[k + 3, start:stop]
                a0, a1, a2, a3 = X[i, k], X[i, k + 1], X[i, k + 2], X[i, k + 3]
                b0, b1, b2, b3 = X[i + 1, k], X[i + 1, k + 1], X[i + 1, k + 2], X[i + 1, k + 3]
                c0, c1, c2, c3 = X[i + 2, k], X[i + 2, k + 1], X[i + 2, k + 2], X[i + 2, k + 3]
                d0, d1, d2, d3 = X[i + 3, k], X[i + 3, k + 1], X[i + 3, k + 2], X[i + 3, k + 3]
                for j in range(stop - start):
                    a[j] += a0 * w[j] + a1 * x[j] + a2 * y[j] + a3 * z[j]
                    b[j] += b0 * w[j] + b1 * x[j] + b2 * y[j] + b3 * z[j]
                    c[j] += c0 * w[j] + c1 * x[j] + c2 * y[j] + c3 * z[j]
                    d[j] += d0 * w[j] + d1 * x[j] + d2 * y[j] + d3 * z[j]
    return atoms, X, out


@compiled
def weighted_pull(
    atoms: IntArray,
    X: FloatArray,
    K: FloatArray,
    weights: FloatArray,
    points: FloatArray,
    gradient: FloatArray,
) -> float:
    """Sum of K (n', m) times weights (m,) over the atoms; writes its derivative by their x.

    Row atoms[i] of gradient (n, f) becomes sum_j w_j k_ij (z_j - x_i), with points z (f', m) and X (n', f')
    as `squared_exponents` has them.
    """
    n, m = K.shape
    padded = len(points)
    sums, out, weighted = np.zeros(n), np.empty((n, padded)), np.empty((4, m))
    for i in range(0, n, 4):
        for r in range(4):
            part = 0.0
            for j in range(m):
                t = K[i + r, j] * weights[j]
                weighted[r, j] = t
                part += t
            sums[i + r] = part
        a, b, c, d = weighted[0], weighted[1], weighted[2], weighted[3]
        for k in range(0, padded, 2):
            y, z = points[k], points[k + 1]
            a0, a1, b0, b1, c0, c1, d0, d1 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(m):
                a0 += a[j] * y[j]
                a1 += a[j] * z[j]
                b0 += b[j] * y[j]
                b1 += b[j] * z[j]
                c0 += c[j] * y[j]
                c1 += c[j] * z[j]
                d0 += d[j] * y[j]
                d1 += d[j] * z[j]
            out[i, k], out[i, k + 1] = a0, a1
            out[i + 1, k], out[i + 1, k + 1] = b0, b1
            out[i + 2, k], out[i + 2, k + 1] = c0, c1
            out[i + 3, k], out[i + 3, k + 1] = d0, d1
    total = 0.0
    for i in range(len(atoms)):
        total += sums[i]
        for k in range(gradient.shape[1]):
            gradient[atoms[i], k] = out[i, k] - sums[i] * X[i, k]
    return total
