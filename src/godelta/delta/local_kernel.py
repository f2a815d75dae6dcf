"""The kernel between structures: squared exponentials of local environments, summed over atoms.

k(i, j) = delta(b_i, b_j) exp(-|p_i - p_j|² / 2 l²), in units of the amplitude s². Blocks b are species, or
one block for all. A prediction needs two matrix products and one exponential per block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta import products

JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class Environments:
    """The atoms of one structure: features (n, f) and the index of each atom's species (n,)."""

    features: FloatArray
    kinds: IntArray


@dataclass(frozen=True, slots=True)
class BlockValues:
    """Atoms of one block: indices (n_b,), X and k as `products` has them, with rows rounded up."""

    block: int
    atoms: IntArray
    X: FloatArray
    K: FloatArray


class _Block:
    """Inducing points (m, f) of one block, prepared for products. Distances ignore the common centre."""

    def __init__(self, inducing: FloatArray, length_scale: float) -> None:
        m, f = inducing.shape
        self.scale = 1.0 / length_scale
        self.centre = inducing.mean(axis=0) if m else np.zeros(f)
        self.points = np.zeros(((f + 3) // 4 * 4, m))
        self.points[:f] = ((inducing - self.centre) * self.scale).T
        self.half = -0.5 * np.einsum("ij,ij->j", self.points, self.points)

    def values(self, features: FloatArray, members: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
        """Indices, X and k of the atoms that are `members`."""
        atoms, X, K = products.squared_exponents(
            features, members, self.centre, self.scale, self.points, self.half
        )
        return atoms, X, np.exp(K, out=K)


@dataclass(frozen=True)
class LocalKernel:
    """Kernel of summed local environments with inducing points.

    inducing: one array (m_b, f) per species, or a single one for all species.
    length_scale: l, in units of the features.
    """

    inducing: tuple[FloatArray, ...]
    length_scale: float

    @cached_property
    def _blocks(self) -> list[_Block]:
        return [_Block(points, self.length_scale) for points in self.inducing]

    @cached_property
    def offsets(self) -> IntArray:
        """(blocks + 1,) where each block's inducing points begin."""
        return np.concatenate([[0], np.cumsum([len(points) for points in self.inducing])]).astype(np.int64)

    @property
    def size(self) -> int:
        """M, the number of inducing points."""
        return int(self.offsets[-1])

    @cached_property
    def factors(self) -> list[FloatArray]:
        """Lower Cholesky factors of K_MM + 1e-8, by block."""
        result: list[FloatArray] = []
        for points, block in zip(self.inducing, self._blocks, strict=True):
            K = block.values(points, np.ones(len(points), dtype=np.bool_))[2][: len(points)]
            K = 0.5 * (K + K.T)
            K[np.diag_indices(len(K))] = 1.0 + JITTER
            result.append(np.asarray(np.linalg.cholesky(K), dtype=np.float64))
        return result

    def values(self, environments: Environments) -> list[BlockValues]:
        """Kernel between each atom and the inducing points of its block."""
        result, kinds = [], environments.kinds
        for b, block in enumerate(self._blocks):
            members = kinds == b if len(self.inducing) > 1 else kinds >= 0
            result.append(BlockValues(b, *block.values(environments.features, members)))
        return result

    def row(self, values: list[BlockValues]) -> FloatArray:
        """k_M (M,): the kernel of the structure with each inducing point."""
        result = np.zeros(self.size)
        for v in values:
            result[self.offsets[v.block] : self.offsets[v.block + 1]] = v.K[: len(v.atoms)].sum(axis=0)
        return result

    def rows(self, structures: Sequence[Environments]) -> FloatArray:
        """(N, M) kernel of structures with inducing points."""
        result = np.empty((len(structures), self.size))
        for k, environments in enumerate(structures):
            result[k] = self.row(self.values(environments))
        return result

    def slopes(self, values: list[BlockValues], slopes: FloatArray) -> FloatArray:
        """sum_i k(p_i, z_m) (z_m - p_i) . slopes_i / l² (D, M): derivatives of k_M along D directions.

        slopes: (D, n, f), of the features along each direction. A row does not depend on the other ones, to
        the last bit: it may be computed again without them.
        """
        result, f = np.zeros((len(slopes), self.size)), slopes.shape[2]
        for v in values:
            n, points = len(v.atoms), self._blocks[v.block].points[:f]
            part = slice(self.offsets[v.block], self.offsets[v.block + 1])
            for row, slope in zip(result, slopes, strict=True):
                scaled = slope[v.atoms] / self.length_scale
                towards = scaled @ points - np.sum(scaled * v.X[:n, :f], axis=1)[:, None]
                row[part] = np.einsum("ij,ij->j", v.K[:n], towards)
        return result

    def pull_back(
        self, values: list[BlockValues], weights: FloatArray, shape: tuple[int, ...]
    ) -> tuple[float, FloatArray]:
        """k_M . weights and its derivative by the features, an array of `shape` (n, f)."""
        total, gradient = 0.0, np.zeros(shape)
        for v in values:
            part = weights[self.offsets[v.block] : self.offsets[v.block + 1]]
            points = self._blocks[v.block].points
            total += products.weighted_pull(v.atoms, v.X, v.K, part, points, gradient)
        gradient /= self.length_scale
        return total, gradient

    def self_values(self, values: list[BlockValues]) -> tuple[float, list[FloatArray]]:
        """k** = sum_ij k(p_i, p_j) of one structure, and the matrices k(p_i, p_j) by block."""
        matrices = []
        for v in values:
            X = v.X[: len(v.atoms)]
            half = 0.5 * np.einsum("ij,ij->i", X, X)
            matrices.append(np.exp(X @ X.T - half[:, None] - half[None, :]))
        return float(sum(matrix.sum() for matrix in matrices)), matrices

    def self_gradient(
        self, values: list[BlockValues], matrices: list[FloatArray], shape: tuple[int, ...]
    ) -> FloatArray:
        """Derivative of k** by the features, an array of `shape` (n, f)."""
        gradient = np.zeros(shape)
        for v, S in zip(values, matrices, strict=True):
            X = v.X[: len(v.atoms), : shape[1]]
            gradient[v.atoms] = (S @ X - X * S.sum(axis=1)[:, None]) * (2.0 / self.length_scale)
        return gradient

    def whiten(self, rows: FloatArray) -> FloatArray:
        """Whitened rows L^-T for (N, M + c) rows; columns beyond M are features of their own and stay."""
        return self._solve(rows, transposed=False)

    def unwhiten(self, rows: FloatArray) -> FloatArray:
        """Products rows L^-1 for (N, M + c) rows in whitened coordinates."""
        return self._solve(rows, transposed=True)

    def _solve(self, rows: FloatArray, *, transposed: bool) -> FloatArray:
        result = np.array(rows, dtype=np.float64)
        for L, begin, end in zip(self.factors, self.offsets[:-1], self.offsets[1:], strict=True):
            if end > begin:
                part = solve_triangular(L, rows[:, begin:end].T, lower=True, trans=int(transposed))
                result[:, begin:end] = part.T
        return result
