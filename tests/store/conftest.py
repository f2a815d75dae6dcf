"""Structures and rounds for the store's tests."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, RoundKey, StructureDocument

MakeCampaign = Callable[..., CampaignDocument]
MakeStructure = Callable[..., StructureDocument]


@pytest.fixture
def make_campaign(store: Store) -> MakeCampaign:
    """Create a campaign: `make_campaign("a", seed=1)`; keywords are part of its identity."""
    from godelta.store.campaigns import create_campaign

    def make(name: str = "first", *, budget: int = 10, reference_hash: str = "r" * 64, **identity: object):
        identity = {"system": {"formula": "Ag2S"}, "reference": {"engine": "emt"}, **identity}
        return create_campaign(
            store,
            name=name,
            config={**identity, "budget": {"evaluations": budget}},
            identity=identity,
            identity_hash=repr(sorted(identity.items())),
            reference_hash=reference_hash,
            problem=b"problem",
            versions={"godelta": "0.1.0"},
        )

    return make


@pytest.fixture
def make_structure() -> MakeStructure:
    """Describe a structure of a round; another number is another structure."""

    def make(key: RoundKey, number: int, *, symbols: str = "Ag2S", **fields: object) -> StructureDocument:
        atoms = Atoms(symbols, cell=[12, 12, 12], pbc=False)
        atoms.positions = np.random.default_rng(number).uniform(0, 12, (len(atoms), 3))
        energies = {"foundation_energy": -float(number), "model_energy": -number - 0.5}
        return StructureDocument.from_atoms(
            atoms, campaign_id=key.campaign_id, chain=key.chain, round=key.k, **(energies | fields)
        )

    return make
