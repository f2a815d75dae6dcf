"""Structures, rounds and a private server for the store's tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, RoundKey, StructureDocument
from godelta.store.mongod import PrivateMongod
from godelta.store.serverfile import wait_for_end

MakeCampaign = Callable[..., CampaignDocument]
MakeStructure = Callable[..., StructureDocument]
Kill = Callable[[PrivateMongod], None]


@pytest.fixture
def make_campaign(store: Store) -> MakeCampaign:
    """Create a campaign: `make_campaign("a", seed=1)`; keywords are part of its identity."""
    from godelta.store.campaigns import create_campaign

    def make(
        name: str = "first",
        *,
        budget: int = 10,
        reference_hash: str = "r" * 64,
        weights_sha256: str | None = None,
        **identity: object,
    ):
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
            weights_sha256=weights_sha256,
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


@pytest.fixture
def kill() -> Kill:
    """`kill(server)` ends its mongod without a word."""

    def _kill(server: PrivateMongod) -> None:
        pid = server.status().pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            assert wait_for_end(pid, 10)

    return _kill


@pytest.fixture
def server(require: Callable[[str], None], tmp_path: Path, kill: Kill) -> Iterator[PrivateMongod]:
    if "GODELTA_MONGOD" not in os.environ:
        require("mongod")
    server = PrivateMongod(tmp_path)
    yield server
    # The whole folder goes: no need for a clean end, which takes seconds.
    kill(server)
