"""Local SOAP descriptors with analytic gradients, in dscribe's convention and feature order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import factorial, pi, sqrt

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta import soap_kernels
from godelta.delta.settings import SOAPSettings
from godelta.errors import InputError

_STEP = 1e-3  # Å of the central differences of features: relative error 1e-6, round-off 1e-12


@dataclass(frozen=True, slots=True)
class SOAPContext:
    """What the gradient pass needs from the energy pass of one structure.

    kinds: (n,) index of each atom's species. pairs: neighbour indices (p, 2) and vectors (p, 3) in Å.
    coefficients: (n, (l_max+1)², species x n_max).
    """

    kinds: IntArray
    pairs: tuple[IntArray, FloatArray]
    coefficients: FloatArray


@lru_cache(maxsize=8)
def _radial_basis(r_cut: float, n_max: int, l_max: int) -> tuple[FloatArray, FloatArray]:
    """Exponents alpha (l_max+1, n_max) and mixing B (l_max+1, n_max, n_max) of dscribe's GTO basis."""
    from dscribe.descriptors import SOAP as DscribeSOAP  # noqa: N811  (a second to import)

    any_soap = DscribeSOAP(species=["H"], r_cut=r_cut, n_max=n_max, l_max=l_max, periodic=False)
    alphas, betas = any_soap.get_basis_gto(r_cut, n_max, l_max)
    return np.asarray(alphas, dtype=np.float64), np.ascontiguousarray(betas, dtype=np.float64)


class SOAP:
    """SOAP power spectrum of every atom, with a vector-Jacobian product.

    Equals `dscribe.descriptors.SOAP(rbf="gto", weighting={"function": "poly", "r0": r_cut, "c": 1,
    "m": weighting_power})`, feature by feature.

    Parameters
    ----------
    settings
        Cutoff, basis size and widths.
    species
        Atomic numbers that structures may contain; their order does not matter.

    Raises
    ------
    InputError
        If there is no species.
    """

    def __init__(self, settings: SOAPSettings, species: Sequence[int]) -> None:
        self.settings = settings
        self.species = tuple(sorted({int(z) for z in species}))
        if not self.species:
            raise InputError(
                "a SOAP descriptor needs at least one species", mend="give the atomic numbers that occur"
            )
        self._kind_of = np.full(len(chemical_symbols) + 1, -1, dtype=np.int64)
        self._kind_of[list(self.species)] = np.arange(len(self.species))
        self.basis = self._make_basis()

    @property
    def n_features(self) -> int:
        """Length of an atom's feature vector."""
        return self.basis.slots.size

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that changes a feature."""
        text = f"{self.settings.digest()} {self.species}"
        return hashlib.sha256(text.encode()).hexdigest()

    def kinds(self, atoms: Atoms) -> IntArray:
        """(n,) index of each atom's species; raises InputError for a species that is not covered."""
        numbers = np.asarray(atoms.numbers, dtype=np.int64)
        kinds: IntArray = self._kind_of[numbers]
        if kinds.size and kinds.min() < 0:
            symbol = chemical_symbols[int(numbers[int(np.argmin(kinds))])]
            known = ", ".join(chemical_symbols[z] for z in self.species)
            raise InputError(
                f"the descriptor covers {known}, but the structure contains {symbol}",
                mend="make the descriptor with every species that occurs",
            )
        return kinds

    def features(self, atoms: Atoms) -> FloatArray:
        """(n, n_features) power spectrum of the atoms, in dscribe's order."""
        return self.describe(atoms)[0]

    def slopes(self, atoms: Atoms, directions: Sequence[FloatArray]) -> FloatArray:
        """Derivatives (D, n, n_features) of the features along directions (n, 3), per Å."""
        moved, result = atoms.copy(), np.empty((len(directions), len(atoms), self.n_features))
        for slope, direction in zip(result, directions, strict=True):
            moved.positions = atoms.positions + _STEP * direction
            ahead = self.features(moved)
            moved.positions = atoms.positions - _STEP * direction
            slope[:] = (ahead - self.features(moved)) / (2.0 * _STEP)
        return result

    def describe(self, atoms: Atoms) -> tuple[FloatArray, SOAPContext]:
        """Features (n, n_features) and the context for `vjp`. Any periodicity, any cell shape.

        Raises
        ------
        InputError
            For a species that is not covered, or periodic directions without independent cell vectors.
        """
        try:
            features, kinds, coefficients, indices, vectors = soap_kernels.describe(
                *self._arrays(atoms), self.basis
            )
        except ValueError:
            raise self._refusal(atoms) from None
        return features, SOAPContext(kinds, (indices, vectors), coefficients)

    def neighbours(self, atoms: Atoms) -> tuple[IntArray, IntArray, FloatArray]:
        """Species indices (n,), and pairs of atoms within the cutoff, each once: (p, 2) and (p, 3) in Å.

        Raises
        ------
        InputError
            As `describe`.
        """
        try:
            kinds, indices, vectors = soap_kernels.neighbours(*self._arrays(atoms), self.basis.r_cut)
        except ValueError:
            raise self._refusal(atoms) from None
        return kinds, indices, vectors

    def _arrays(self, atoms: Atoms) -> tuple[FloatArray, FloatArray, BoolArray, IntArray, IntArray]:
        positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
        cell = np.ascontiguousarray(atoms.cell.array, dtype=np.float64)
        return positions, cell, atoms.pbc, atoms.numbers, self._kind_of

    def _refusal(self, atoms: Atoms) -> InputError:
        """What compiled code does not take, in words."""
        self.kinds(atoms)  # names the species, if that is what is wrong
        return InputError(
            "the structure is periodic along cell vectors that are missing or not independent",
            mend="give it a cell, or take the periodicity away",
        )

    def vjp(self, context: SOAPContext, G: FloatArray, moving: BoolArray | None = None) -> FloatArray:
        """Pull dE/dfeatures G (n, n_features) back to dE/dpositions (n, 3), in units of E per Å.

        Pairs of two atoms that are not `moving` (n,) are left out; rows of such atoms are zero.
        """
        if moving is None:
            moving = np.ones(len(context.kinds), dtype=np.bool_)
        gradient: FloatArray = soap_kernels.pull_back(
            context.kinds, context.pairs, context.coefficients, np.ascontiguousarray(G), moving, self.basis
        )
        return gradient

    def _make_basis(self) -> soap_kernels.Basis:
        s = self.settings
        alphas, mixing = _radial_basis(s.r_cut, s.n_max, s.l_max)
        eta = 1.0 / (2.0 * s.sigma**2)
        l_values = np.arange(s.l_max + 1)[:, None]
        harmonics = np.zeros((s.l_max + 1, s.l_max + 1))
        for l in range(s.l_max + 1):  # noqa: E741
            for m in range(l + 1):
                norm = (2 * l + 1) / ((4 if m == 0 else 2) * pi) * factorial(l - m) / factorial(l + m)
                harmonics[l, m] = (-1) ** m * sqrt(norm)
        return soap_kernels.Basis(
            decay=alphas * eta / (alphas + eta),
            prefactor=(eta / (alphas + eta)) ** l_values * (pi / (alphas + eta)) ** 1.5,
            mixing=mixing,
            harmonics=harmonics,
            slots=_dscribe_slots(len(self.species), s.n_max, s.l_max),
            n_species=len(self.species),
            r_cut=s.r_cut,
            power=s.weighting_power,
        )


def _dscribe_slots(n_species: int, n_max: int, l_max: int) -> IntArray:
    """(l_max+1, N(N+1)/2) position in dscribe's vector of each product of channels a <= b, by l."""
    channels = n_species * n_max
    product = np.zeros((channels, channels), dtype=np.int64)
    product[np.triu_indices(channels)] = np.arange(channels * (channels + 1) // 2)
    slots = np.empty((l_max + 1, channels * (channels + 1) // 2), dtype=np.int64)
    position = 0
    for z in range(n_species):
        for other in range(z, n_species):
            for l in range(l_max + 1):  # noqa: E741
                for n in range(n_max):
                    for k in range(n if other == z else 0, n_max):
                        slots[l, product[z * n_max + n, other * n_max + k]] = position
                        position += 1
    return slots
