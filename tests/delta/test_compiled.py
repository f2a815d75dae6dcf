"""Compiled code gives the same bits in the process that compiles it and in those that load it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BITS = """
import hashlib
import numpy as np
from ase.build import fcc111, molecule
from godelta.delta.settings import SOAPSettings
from godelta.delta.soap import SOAP

digest = hashlib.sha256()
water = molecule("H2O", vacuum=4.0, pbc=True)
water.rattle(0.1, seed=1)
slab = fcc111("Cu", (2, 2, 2), vacuum=5.0)
slab.rattle(0.1, seed=1)
for atoms, species in ((water, (1, 8)), (slab, (29,))):
    soap = SOAP(SOAPSettings(), species)
    features, context = soap.describe(atoms)
    gradient = np.random.default_rng(1).normal(size=features.shape)
    digest.update(features.tobytes() + soap.vjp(context, gradient).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_process_that_compiles_and_the_next_one_agree_to_the_last_bit(tmp_path: Path) -> None:
    def bits() -> str:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", BITS]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    compiling = bits()
    assert list(tmp_path.rglob("*.nbc"))
    assert bits() == compiling
