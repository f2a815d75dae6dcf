"""Feature rows and foundation forces of evaluated structures: computed once in the life of a database."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ase import Atoms

from godelta.arrays import FloatArray
from godelta.delta.embedding import features_of, slopes_of
from godelta.delta.soap import SOAP
from godelta.foundation import Foundation
from godelta.foundation.base import EmbeddingFoundation
from godelta.store import features
from godelta.store.database import Store

MEMORY_BYTES = 256_000_000  # of one process and kind; what is not in memory is read again


@dataclass
class _StoredArrays:
    """Arrays by structure id: from memory, else from the database, else computed and stored."""

    store: Store
    bound: int = MEMORY_BYTES
    _memory: OrderedDict[tuple[str, str], FloatArray] = field(default_factory=OrderedDict)

    def get(
        self, digest: str, ids: Sequence[str], compute: Callable[[list[int]], Mapping[str, FloatArray]]
    ) -> list[FloatArray]:
        """The arrays, in the order of ids; `compute` is given the places of those that nobody has."""
        arrays = {i: self._memory[digest, i] for i in ids if (digest, i) in self._memory}
        missing = [i for i in ids if i not in arrays]
        if missing:
            arrays |= features.get_many(self.store, missing, digest)
        new = [place for place, i in enumerate(ids) if i not in arrays]
        if new:
            computed = compute(new)
            features.put_many(self.store, digest, computed)
            arrays |= computed
        self._remember(digest, arrays)
        return [arrays[i] for i in ids]

    def _remember(self, digest: str, arrays: Mapping[str, FloatArray]) -> None:
        for i, array in arrays.items():
            self._memory[digest, i] = array
            self._memory.move_to_end((digest, i))
        total = sum(array.nbytes for array in self._memory.values())
        while total > self.bound:
            total -= self._memory.popitem(last=False)[1].nbytes


@dataclass
class StoredFeatures(_StoredArrays):
    """Features of structures."""

    def __call__(self, soap: SOAP, ids: Sequence[str], structures: Sequence[Atoms]) -> list[FloatArray]:
        """(n_atoms, n_features) rows of the structures, in their order."""
        return self.get(
            soap.digest, ids, lambda new: {ids[place]: soap.features(structures[place]) for place in new}
        )


@dataclass
class StoredEmbeddings(_StoredArrays):
    """A foundation's features of atoms; the first ones stay, for the reason that `StoredForces` has."""

    def __call__(
        self, foundation: EmbeddingFoundation, ids: Sequence[str], structures: Sequence[Atoms]
    ) -> list[FloatArray]:
        """(n_atoms, n_features) rows of the structures, in their order."""

        def compute(new: list[int]) -> dict[str, FloatArray]:
            rows = features_of(foundation, [structures[place] for place in new])
            return dict(zip((ids[place] for place in new), rows, strict=True))

        # The size tells layers of the same weights apart.
        digest = f"embedding-{foundation.feature_size}-{foundation.identity.digest()}"
        return self.get(digest, ids, compute)


@dataclass
class StoredForces(_StoredArrays):
    """Forces of a foundation.

    Another machine's last bits would make other displaced copies, and another Δ-model: the first ones stay.
    """

    def __call__(
        self, foundation: Foundation, ids: Sequence[str], structures: Sequence[Atoms]
    ) -> list[FloatArray]:
        """(n_atoms, 3) forces in eV/Å of the structures, in their order."""

        def compute(new: list[int]) -> dict[str, FloatArray]:
            batch = foundation.evaluate([structures[place] for place in new])
            return dict(zip((ids[place] for place in new), batch.forces, strict=True))

        return self.get(f"forces-{foundation.identity.digest()}", ids, compute)


@dataclass
class RememberedSlopes:
    """Derivatives of a foundation's features, of structures that this process has trained on.

    Not in the database, where those of a slab would take megabytes: another process computes them again.
    """

    bound: int = MEMORY_BYTES
    _memory: OrderedDict[str, FloatArray] = field(default_factory=OrderedDict)

    def __call__(
        self, foundation: EmbeddingFoundation, atoms: Atoms, directions: Sequence[FloatArray]
    ) -> FloatArray:
        """(D, n, d) derivatives along directions (n, 3), per Å."""
        parts = [atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, *directions]
        key = sha256(foundation.identity.digest().encode())
        for part in parts:
            key.update(part.tobytes())
        name = key.hexdigest()
        if name not in self._memory:
            self._memory[name] = slopes_of(foundation, atoms, directions)
        self._memory.move_to_end(name)
        total = sum(array.nbytes for array in self._memory.values())
        while total > self.bound and len(self._memory) > 1:
            total -= self._memory.popitem(last=False)[1].nbytes
        return self._memory[name]
