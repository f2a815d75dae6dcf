"""The kernel between structures: squared exponentials of local environments, summed over atoms.

k(i, j) = delta(b_i, b_j) exp(-|p_i - p_j|² / 2 l²), in units of the amplitude s². Blocks b are species, or
one block for all. Everything a prediction needs is two matrix products and one exponential per block.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from godelta.arrays import FloatArray, IntArray

JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class Environments:
    """The atoms of one structure: features (n, f) and the index of each atom's species (n,)."""

    features: FloatArray
    kinds: IntArray


@dataclass(frozen=True, slots=True)
class BlockValues:
    """Atoms of one block: indices, features (n_b, f) relative to the block's centre, and k (n_b, m_b)."""

    block: int
    atoms: IntArray | slice
    X: FloatArray
    K: FloatArray


class _Block:
    """Inducing points (m, f) of one block, prepared for products. Distances ignore the common centre."""

    def __init__(self, inducing: FloatArray, length_scale: float) -> None:
        self.size = len(inducing)
        self.centre = inducing.mean(axis=0) if self.size else np.zeros(inducing.shape[1])
        self.inverse = 1.0 / length_scale**2
        z = inducing - self.centre
        half = -0.5 * self.inverse * np.einsum("ij,ij->i", z, z)
        one = np.ones(self.size)
        # exponent = [x, 1, -|x|²/2l²] . [z/l², -|z|²/2l², 1]: one product, no pass over (n, m) to add norms
        self.exponents = np.ascontiguousarray(np.column_stack([z * self.inverse, half, one]).T)
        self.pull = np.column_stack([z * self.inverse, one])

    def values(self, X: FloatArray) -> FloatArray:
        n, f = X.shape
        left = np.empty((n, f + 2))
        left[:, :f] = X
        left[:, f] = 1.0
        left[:, f + 1] = (-0.5 * self.inverse) * np.einsum("ij,ij->i", X, X)
        K = left @ self.exponents
        np.minimum(K, 0.0, out=K)  # round-off only
        values: FloatArray = np.exp(K, out=K)
        return values

    def weighted_pull(self, weights: FloatArray) -> FloatArray:
        """Rows [z/l², 1] times weights (m,); kept for the weights of the mean, which recur."""
        return self.pull * weights[:, None]


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
            K = block.values(points - block.centre)
            K = 0.5 * (K + K.T)
            K[np.diag_indices(len(K))] = 1.0 + JITTER
            result.append(np.asarray(np.linalg.cholesky(K), dtype=np.float64))
        return result

    def values(self, environments: Environments) -> list[BlockValues]:
        """Kernel between each atom and the inducing points of its block."""
        if len(self.inducing) == 1:
            block = self._blocks[0]
            X = environments.features - block.centre
            return [BlockValues(0, slice(None), X, block.values(X))]
        result = []
        for b, block in enumerate(self._blocks):
            atoms = np.flatnonzero(environments.kinds == b)
            if atoms.size:
                X = environments.features[atoms] - block.centre
                result.append(BlockValues(b, atoms, X, block.values(X)))
        return result

    def row(self, values: list[BlockValues]) -> FloatArray:
        """k_M (M,): the kernel of the structure with each inducing point."""
        result = np.zeros(self.size)
        for v in values:
            result[self.offsets[v.block] : self.offsets[v.block + 1]] = v.K.sum(axis=0)
        return result

    def rows(self, structures: list[Environments]) -> FloatArray:
        """(N, M) kernel of structures with inducing points."""
        result = np.empty((len(structures), self.size))
        for k, environments in enumerate(structures):
            result[k] = self.row(self.values(environments))
        return result

    def prepare(self, weights: FloatArray) -> list[FloatArray]:
        """Matrices by which `pull_back` differentiates k_M . weights."""
        parts = zip(self._blocks, self.offsets[:-1], self.offsets[1:], strict=True)
        return [block.weighted_pull(weights[begin:end]) for block, begin, end in parts]

    def pull_back(
        self, values: list[BlockValues], prepared: list[FloatArray], shape: tuple[int, ...]
    ) -> tuple[float, FloatArray]:
        """k_M . weights and its derivative by the features, an array of `shape` (n, f)."""
        total, gradient = 0.0, np.zeros(shape)
        inverse = 1.0 / self.length_scale**2
        for v in values:
            product = v.K @ prepared[v.block]
            weight = product[:, -1:]
            total += float(weight.sum())
            gradient[v.atoms] = product[:, :-1] - v.X * (weight * inverse)
        return total, gradient

    def self_values(self, values: list[BlockValues]) -> tuple[float, list[FloatArray]]:
        """k** = sum_ij k(p_i, p_j) of one structure, and the matrices k(p_i, p_j) by block."""
        matrices = []
        for v in values:
            squared = np.einsum("ij,ij->i", v.X, v.X)
            exponent = v.X @ v.X.T - 0.5 * (squared[:, None] + squared[None, :])
            matrices.append(np.exp(np.minimum(exponent / self.length_scale**2, 0.0)))
        return float(sum(matrix.sum() for matrix in matrices)), matrices

    def self_gradient(
        self, values: list[BlockValues], matrices: list[FloatArray], shape: tuple[int, ...]
    ) -> FloatArray:
        """Derivative of k** by the features, an array of `shape` (n, f)."""
        gradient = np.zeros(shape)
        for v, S in zip(values, matrices, strict=True):
            gradient[v.atoms] = (S @ v.X - v.X * S.sum(axis=1)[:, None]) * (2.0 / self.length_scale**2)
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
