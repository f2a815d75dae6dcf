"""Compiled loops of the SOAP descriptor: neighbours, coefficients, power spectrum and pull-back.

Convention: dscribe's (GTO radial basis, real spherical harmonics, power spectrum). With the Gaussian width
sigma, eta = 1/(2 sigma²), and a neighbour j of centre i at r (r = |r|):

    d[i,Z,lm,q] = sum_j w(r) P[l,q] exp(-A[l,q] r²) S_lm(r),     c[i,lm,(Z,n)] = sum_q B[l,n,q] d[i,Z,lm,q]
    A = alpha eta/(alpha+eta),  P = (eta/(alpha+eta))^l (pi/(alpha+eta))^1.5
    p[i,l,a<=b] = pi sqrt(8/(2l+1)) sum_m c[i,lm,a] c[i,lm,b]

S_lm are real solid harmonics. The gradient is taken in reverse: dE/dp -> dE/dc -> dE/dd -> one loop over
pairs, so no Jacobian is ever formed. Every pair is stored once: S_lm(-r) = (-1)^l S_lm(r) gives its mirror.
Units: Å.
"""

from math import ceil, exp, floor, pi, sqrt
from typing import NamedTuple

import numpy as np

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta.compiled import compiled, inlined


class Basis(NamedTuple):
    """Constants of the descriptor.

    decay, prefactor: A and P (l_max+1, n_max). mixing: B (l_max+1, n_max, n_max). harmonics: (l_max+1,
    l_max+1) normalisation of S_lm by [l, |m|]. slots: (l_max+1, N(N+1)/2) position of the product of the
    channels a <= b, N = species x n_max, in the feature vector. r_cut in Å, power: m of the weighting.
    """

    decay: FloatArray
    prefactor: FloatArray
    mixing: FloatArray
    harmonics: FloatArray
    slots: IntArray
    n_species: int
    r_cut: float
    power: float


@inlined
def reciprocal(cell: FloatArray) -> FloatArray:
    """Inverse of the (3, 3) cell with vectors as rows: its columns are the reciprocal vectors."""
    inverse = np.empty((3, 3))
    for k in range(3):
        a, b = cell[(k + 1) % 3], cell[(k + 2) % 3]
        for x in range(3):
            y, z = (x + 1) % 3, (x + 2) % 3
            inverse[x, k] = a[y] * b[z] - a[z] * b[y]
    volume = 0.0
    for x in range(3):
        volume += cell[0, x] * inverse[x, 0]
    return inverse / volume


@inlined
def invertible_cell(cell: FloatArray, periodic: BoolArray) -> FloatArray:
    """The cell (3, 3), with unit vectors normal to all others in open directions.

    Raises ValueError if the periodic vectors are not independent.
    """
    result = cell.copy()
    directions, count = np.zeros((3, 3)), 0
    for settled in (True, False):
        for k in range(3):
            if periodic[k] != settled:
                continue
            longest = 0.0
            for axis in range(1 if settled else 3):
                v = cell[k].copy()
                if not settled:
                    v[:] = 0.0
                    v[axis] = 1.0
                full = sqrt(np.sum(v * v))
                for other in range(count):
                    v -= np.sum(v * directions[other]) * directions[other]
                size = sqrt(np.sum(v * v))
                if size > max(longest, 1e-10 * full):
                    longest = size
                    directions[count] = v / size
            if longest == 0.0:
                raise ValueError("dependent cell vectors")
            if not settled:
                result[k] = directions[count]
            count += 1
    return result


@inlined
def images(  # noqa: PLR0912  (loops over three directions)
    positions: FloatArray, cell: FloatArray, periodic: BoolArray, cutoff: float
) -> tuple[FloatArray, IntArray, BoolArray]:
    """Atoms in the home cell, then their periodic images within the cutoff of the home atoms' bounding box.

    Returns positions (g, 3), the index of the atom (g,), and whether an image's lattice translation is in
    the positive half space (g,): of an atom and its own image only that half is kept as a pair.
    """
    n = len(positions)
    inverse = reciprocal(cell)
    home, low, high = np.empty((n, 3)), np.empty(3), np.empty(3)
    fractional = np.empty((n, 3))
    counts = np.zeros(3, np.int64)
    for k in range(3):
        low[k], high[k] = np.inf, -np.inf
        for i in range(n):
            f = 0.0
            for x in range(3):
                f += positions[i, x] * inverse[x, k]
            if periodic[k]:
                f -= floor(f)
            fractional[i, k] = f
            low[k], high[k] = min(low[k], f), max(high[k], f)
        reach = cutoff * sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        if periodic[k]:
            counts[k] = ceil(reach + high[k] - low[k])
        low[k] -= reach
        high[k] += reach
    for i in range(n):
        for x in range(3):
            home[i, x] = 0.0
            for k in range(3):
                home[i, x] += fractional[i, k] * cell[k, x]
    capacity = n * (2 * counts[0] + 1) * (2 * counts[1] + 1) * (2 * counts[2] + 1)
    points, owner = np.empty((capacity, 3)), np.empty(capacity, np.int64)
    positive = np.zeros(capacity, np.bool_)
    points[:n] = home
    for i in range(n):
        owner[i] = i
    g = n
    for a in range(-counts[0], counts[0] + 1):
        for b in range(-counts[1], counts[1] + 1):
            for c in range(-counts[2], counts[2] + 1):
                if a == 0 and b == 0 and c == 0:
                    continue
                for j in range(n):
                    u, v, w = fractional[j, 0] + a, fractional[j, 1] + b, fractional[j, 2] + c
                    if u < low[0] or u > high[0] or v < low[1] or v > high[1] or w < low[2] or w > high[2]:
                        continue
                    for x in range(3):
                        points[g, x] = home[j, x] + a * cell[0, x] + b * cell[1, x] + c * cell[2, x]
                    owner[g] = j
                    positive[g] = a > 0 or (a == 0 and (b > 0 or (b == 0 and c > 0)))
                    g += 1
    return points[:g], owner[:g], positive[:g]


@inlined
def neighbour_pairs(
    positions: FloatArray, cell: FloatArray, periodic: BoolArray, cutoff: float
) -> tuple[IntArray, FloatArray]:
    """Pairs closer than the cutoff, each once: indices (pairs, 2) and vectors (pairs, 3) first to second.

    `cell` must be invertible. Skewed cells and cells smaller
    than the cutoff are exact: all images within reach are counted, an atom's own images included.
    """
    n = len(positions)
    points, owner, positive = images(positions, cell, periodic, cutoff)
    capacity = 64 * n + 64
    indices, vectors = np.empty((capacity, 2), np.int64), np.empty((capacity, 3))
    limit = cutoff * cutoff
    count = 0
    for i in range(n):
        for g in range(i + 1, len(points)):
            j = owner[g]
            if j < i or (j == i and not positive[g]):
                continue
            x, y, z = points[g, 0] - points[i, 0], points[g, 1] - points[i, 1], points[g, 2] - points[i, 2]
            if x * x + y * y + z * z >= limit:
                continue
            if count == capacity:
                capacity *= 2
                more_indices, more_vectors = np.empty((capacity, 2), np.int64), np.empty((capacity, 3))
                more_indices[:count] = indices
                more_vectors[:count] = vectors
                indices, vectors = more_indices, more_vectors
            indices[count, 0], indices[count, 1] = i, j
            vectors[count, 0], vectors[count, 1], vectors[count, 2] = x, y, z
            count += 1
    return indices[:count], vectors[:count]


@inlined
def solid_harmonics(
    vector: FloatArray, harmonics: FloatArray, work: FloatArray, values: FloatArray, slopes: FloatArray
) -> None:
    """Real solid harmonics S_lm (at l²+l+m) of a vector into `values`, gradients into `slopes` (3, lm).

    S_l,±m = F[l,m] Q_lm(z, r²) Re|Im (x+iy)^m with dQ_lm/dx = x Q_(l-1)(m+1), dQ_lm/dz = (l+m) Q_(l-1)m.
    `work` (l_max+3, l_max+2) must be zero at the first call. An empty `slopes` leaves out the gradients.
    """
    l_max = len(harmonics) - 1
    x, y, z = vector[0], vector[1], vector[2]
    r2 = x * x + y * y + z * z
    q, real, imaginary = work, work[l_max + 1], work[l_max + 2]
    real[0], imaginary[0] = 1.0, 0.0
    q[0, 0] = 1.0
    for m in range(1, l_max + 1):
        real[m] = x * real[m - 1] - y * imaginary[m - 1]
        imaginary[m] = x * imaginary[m - 1] + y * real[m - 1]
        q[m, m] = -(2 * m - 1) * q[m - 1, m - 1]
    for m in range(l_max):
        q[m + 1, m] = (2 * m + 1) * z * q[m, m]
        for l in range(m + 2, l_max + 1):  # noqa: E741
            q[l, m] = ((2 * l - 1) * z * q[l - 1, m] - (l + m - 1) * r2 * q[l - 2, m]) / (l - m)
    for l in range(l_max + 1):  # noqa: E741
        centre = l * l + l
        values[centre] = harmonics[l, 0] * q[l, 0]
        for m in range(1, l + 1):
            f = harmonics[l, m] * q[l, m]
            values[centre + m], values[centre - m] = f * real[m], f * imaginary[m]
    if slopes.size == 0:
        return
    slopes[:, 0] = 0.0
    for l in range(1, l_max + 1):  # noqa: E741
        centre = l * l + l
        for m in range(l + 1):
            f = harmonics[l, m]
            qx, qz = f * q[l - 1, m + 1], f * (l + m) * q[l - 1, m]
            a, b = real[m], imaginary[m]
            slopes[0, centre + m], slopes[1, centre + m], slopes[2, centre + m] = (
                x * qx * a,
                y * qx * a,
                qz * a,
            )
            if m > 0:
                g = f * q[l, m] * m
                u, v = real[m - 1], imaginary[m - 1]
                slopes[0, centre + m] += g * u
                slopes[1, centre + m] -= g * v
                slopes[0, centre - m] = x * qx * b + g * v
                slopes[1, centre - m] = y * qx * b + g * u
                slopes[2, centre - m] = qz * b


@inlined
def weighting(r2: float, basis: Basis) -> tuple[float, float]:
    """w(r) and w'(r)/r of the polynomial weighting [1 + 2u³ - 3u²]^m, u = r/r_cut."""
    u = sqrt(r2) / basis.r_cut
    if u >= 1.0:
        return 0.0, 0.0
    b = 1.0 + u * u * (2.0 * u - 3.0)
    slope = 6.0 * (u - 1.0) / (basis.r_cut * basis.r_cut)
    power = b if basis.power == 2.0 else b ** (basis.power - 1.0)  # the common power costs no pow()
    return power * b, basis.power * power * slope


@inlined
def coefficients(  # noqa: PLR0912  (two nests of loops)
    kinds: IntArray, indices: IntArray, vectors: FloatArray, basis: Basis
) -> FloatArray:
    """Expansion coefficients c (n, (l_max+1)², species x n_max) of the neighbour density of each atom."""
    n = len(kinds)
    n_l, n_max = basis.decay.shape
    density = np.zeros((n, basis.n_species, n_l * n_l, n_max))
    values, none, radial = np.empty(n_l * n_l), np.empty((0, 0)), np.empty(n_max)
    work = np.zeros((n_l + 2, n_l + 1))
    for i in range(n):
        for q in range(n_max):
            density[i, kinds[i], 0, q] += basis.prefactor[0, q] * basis.harmonics[0, 0]
    for p in range(len(indices)):
        vector = vectors[p]
        r2 = vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
        w, _ = weighting(r2, basis)
        solid_harmonics(vector, basis.harmonics, work, values, none)
        forth = density[indices[p, 0], kinds[indices[p, 1]]]
        back = density[indices[p, 1], kinds[indices[p, 0]]]
        parity = 1.0
        for l in range(n_l):  # noqa: E741
            for q in range(n_max):
                radial[q] = w * basis.prefactor[l, q] * exp(-basis.decay[l, q] * r2)
            for k in range(l * l, (l + 1) * (l + 1)):
                for q in range(n_max):
                    t = values[k] * radial[q]
                    forth[k, q] += t
                    back[k, q] += parity * t
            parity = -parity
    result = np.empty((n, n_l * n_l, basis.n_species * n_max))
    for i in range(n):
        for s in range(basis.n_species):
            for l in range(n_l):  # noqa: E741
                for k in range(l * l, (l + 1) * (l + 1)):
                    for m in range(n_max):
                        t = 0.0
                        for q in range(n_max):
                            t += basis.mixing[l, m, q] * density[i, s, k, q]
                        result[i, k, s * n_max + m] = t
    return result


@inlined
def power_spectrum(c: FloatArray, basis: Basis) -> FloatArray:
    """Features (n, n_features) of coefficients c (n, lm, channels)."""
    n, _, channels = c.shape
    n_l, products = basis.slots.shape
    features, row = np.empty((n, n_l * products)), np.empty(products)
    for i in range(n):
        for l in range(n_l):  # noqa: E741
            row[:] = 0.0
            scale = pi * sqrt(8.0 / (2 * l + 1))
            for k in range(l * l, (l + 1) * (l + 1)):
                t = 0
                for a in range(channels):
                    u = scale * c[i, k, a]
                    for b in range(a, channels):
                        row[t + b - a] += u * c[i, k, b]
                    t += channels - a
            for t in range(products):
                features[i, basis.slots[l, t]] = row[t]
    return features


@inlined
def kinds_of(numbers: IntArray, table: IntArray) -> IntArray:
    """(n,) index of each atom's species; raises ValueError where the table by atomic number has none."""
    kinds = np.empty(len(numbers), np.int64)
    for i in range(len(numbers)):
        kinds[i] = table[numbers[i]]
        if kinds[i] < 0:
            raise ValueError("unknown species")
    return kinds


@compiled
def describe(
    positions: FloatArray,
    cell: FloatArray,
    periodic: BoolArray,
    numbers: IntArray,
    table: IntArray,
    basis: Basis,
) -> tuple[FloatArray, IntArray, FloatArray, IntArray, FloatArray]:
    """Features (n, n_features), kinds (n,), coefficients, and pairs (indices, vectors) of one structure.

    Everything in one call: in a search, the processor's caches belong to the foundation, and every line of
    Python costs ten times as much as in a tight loop.
    """
    kinds = kinds_of(numbers, table)
    usable = invertible_cell(cell, periodic)
    indices, vectors = neighbour_pairs(positions, usable, periodic, basis.r_cut)
    c = coefficients(kinds, indices, vectors, basis)
    return power_spectrum(c, basis), kinds, c, indices, vectors


@compiled
def neighbours(
    positions: FloatArray,
    cell: FloatArray,
    periodic: BoolArray,
    numbers: IntArray,
    table: IntArray,
    cutoff: float,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Kinds (n,), and pairs (indices, vectors) of one structure, as `describe` has them."""
    kinds = kinds_of(numbers, table)
    usable = invertible_cell(cell, periodic)
    indices, vectors = neighbour_pairs(positions, usable, periodic, cutoff)
    return kinds, indices, vectors


@inlined
def density_gradient(c: FloatArray, gradient: FloatArray, basis: Basis) -> FloatArray:
    """dE/dd (n, species, lm, n_max) from dE/dp (n, n_features)."""
    n, n_lm, channels = c.shape
    n_l, n_max = basis.decay.shape
    products = basis.slots.shape[1]
    result = np.zeros((n, basis.n_species, n_lm, n_max))
    row, g = np.empty(products), np.empty(channels)
    for i in range(n):
        for l in range(n_l):  # noqa: E741
            scale = pi * sqrt(8.0 / (2 * l + 1))
            for t in range(products):
                row[t] = scale * gradient[i, basis.slots[l, t]]
            for k in range(l * l, (l + 1) * (l + 1)):
                g[:] = 0.0
                t = 0
                for a in range(channels):
                    u, v = c[i, k, a], 0.0
                    for b in range(a, channels):
                        g[b] += row[t + b - a] * u
                        v += row[t + b - a] * c[i, k, b]
                    g[a] += v
                    t += channels - a
                for s in range(basis.n_species):
                    for m in range(n_max):
                        for q in range(n_max):
                            result[i, s, k, q] += basis.mixing[l, m, q] * g[s * n_max + m]
    return result


@compiled
def pull_back(
    kinds: IntArray,
    pairs: tuple[IntArray, FloatArray],
    c: FloatArray,
    gradient: FloatArray,
    moving: BoolArray,
    basis: Basis,
) -> FloatArray:
    """dE/dR (n, 3) from dE/dp (n, n_features); rows of atoms that do not move are zero."""
    indices, vectors = pairs
    n_l, n_max = basis.decay.shape
    h = density_gradient(c, gradient, basis)
    result = np.zeros((len(kinds), 3))
    values, slopes = np.empty(n_l * n_l), np.empty((3, n_l * n_l))
    radial, steep = np.empty(n_max), np.empty(n_max)
    work = np.zeros((n_l + 2, n_l + 1))
    for p in range(len(indices)):
        i, j = indices[p, 0], indices[p, 1]
        if i == j or not (moving[i] or moving[j]):
            continue
        vector = vectors[p]
        r2 = vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
        w, dw = weighting(r2, basis)
        solid_harmonics(vector, basis.harmonics, work, values, slopes)
        forth, back = h[i, kinds[j]], h[j, kinds[i]]
        x, y, z, along, parity = 0.0, 0.0, 0.0, 0.0, 1.0
        for l in range(n_l):  # noqa: E741
            for q in range(n_max):
                e = basis.prefactor[l, q] * exp(-basis.decay[l, q] * r2)
                radial[q], steep[q] = w * e, (dw - 2.0 * basis.decay[l, q] * w) * e
            for k in range(l * l, (l + 1) * (l + 1)):
                u, v = 0.0, 0.0
                for q in range(n_max):
                    both = forth[k, q] + parity * back[k, q]
                    u += both * radial[q]
                    v += both * steep[q]
                along += v * values[k]
                x += u * slopes[0, k]
                y += u * slopes[1, k]
                z += u * slopes[2, k]
            parity = -parity
        x += along * vector[0]
        y += along * vector[1]
        z += along * vector[2]
        result[j, 0] += x
        result[j, 1] += y
        result[j, 2] += z
        result[i, 0] -= x
        result[i, 1] -= y
        result[i, 2] -= z
    for i in range(len(kinds)):
        if not moving[i]:
            result[i] = 0.0
    return result
