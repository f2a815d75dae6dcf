"""Feature rows and foundation forces of evaluated structures: computed once in the life of a database."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ase import Atoms

from godelta.arrays import FloatArray
from godelta.delta.soap import SOAP
from godelta.foundation import Foundation
from godelta.store import features
from godelta.store.database import Store


@dataclass
class StoredFeatures:
    """Features by structure id: from memory, else from the database, else computed and stored."""

    store: Store
    _memory: dict[tuple[str, str], FloatArray] = field(default_factory=dict)

    def __call__(self, soap: SOAP, ids: Sequence[str], structures: Sequence[Atoms]) -> list[FloatArray]:
        """(n_atoms, n_features) rows of the structures, in their order."""
        digest = soap.digest
        missing = [i for i in ids if (digest, i) not in self._memory]
        found = features.get_many(self.store, missing, digest) if missing else {}
        computed = {
            i: soap.features(atoms)
            for i, atoms in zip(ids, structures, strict=True)
            if (digest, i) not in self._memory and i not in found
        }
        if computed:
            features.put_many(self.store, digest, computed)
        self._memory.update({(digest, i): rows for i, rows in (found | computed).items()})
        return [self._memory[digest, i] for i in ids]


@dataclass
class StoredForces:
    """Forces of a foundation by structure id: from memory, else from the database, else computed and stored.

    Another machine's last bits would make other displaced copies, and another Δ-model: the first ones stay.
    """

    store: Store
    _memory: dict[tuple[str, str], FloatArray] = field(default_factory=dict)

    def __call__(
        self, foundation: Foundation, ids: Sequence[str], structures: Sequence[Atoms]
    ) -> list[FloatArray]:
        """(n_atoms, 3) forces in eV/Å of the structures, in their order."""
        digest = f"forces-{foundation.identity.digest()}"
        missing = [i for i in ids if (digest, i) not in self._memory]
        found = features.get_many(self.store, missing, digest) if missing else {}
        new = {i: atoms for i, atoms in zip(ids, structures, strict=True) if i in missing and i not in found}
        if new:
            computed = dict(zip(new, foundation.evaluate(list(new.values())).forces, strict=True))
            features.put_many(self.store, digest, computed)
            found |= computed
        self._memory.update({(digest, i): forces for i, forces in found.items()})
        return [self._memory[digest, i] for i in ids]
