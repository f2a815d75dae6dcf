"""What a long-lived worker keeps in memory is bounded."""

import numpy as np
import pytest
from ase import Atoms

from godelta.delta.settings import SOAPSettings
from godelta.delta.soap import SOAP
from godelta.foundation.settings import ASEFoundationSettings
from godelta.makers import potentials
from godelta.makers.features import StoredFeatures
from godelta.makers.potentials import MEMORY_VARIABLE, PotentialCache


class Loader:
    """Stands in the place of load_foundation: each potential takes as many MB as it is told to."""

    def __init__(self):
        self.loaded, self.resident, self.size = [], 100.0, 60.0

    def __call__(self, settings):
        self.loaded.append(settings.arguments["number"])
        self.resident += self.size
        return object()


@pytest.fixture
def loader(monkeypatch):
    made = Loader()
    monkeypatch.setattr(potentials, "load_foundation", made)
    monkeypatch.setattr(potentials, "_resident_mb", lambda: made.resident)
    return made


def settings(number):
    return ASEFoundationSettings(
        name="ase", calculator="ase.calculators.emt.EMT", arguments={"number": number}
    )


def test_potentials_are_loaded_once_and_the_oldest_goes(loader):
    cache = PotentialCache(bound_mb=130.0)
    first = cache.get(settings(1))
    cache.get(settings(2))
    assert cache.get(settings(1)) is first
    cache.get(settings(3))  # 180 MB: the least recently used one, 2, goes
    assert cache.get(settings(1)) is first
    cache.get(settings(2))
    assert loader.loaded == [1, 2, 3, 2]


def test_the_one_in_use_stays_however_large(loader):
    cache = PotentialCache(bound_mb=10.0)
    first = cache.get(settings(1))
    assert cache.get(settings(1)) is first
    assert loader.loaded == [1]


def test_the_bound_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "123.5")
    assert PotentialCache().bound_mb == 123.5


def test_features_beyond_the_bound_are_read_again(opened):
    soap = SOAP(SOAPSettings(), (29,))
    rng = np.random.default_rng(1)
    structures = [Atoms("Cu4", positions=rng.uniform(0, 6, (4, 3)), cell=[12] * 3) for _ in range(5)]
    ids = [f"s{k}" for k in range(5)]
    size = soap.features(structures[0]).nbytes
    stored = StoredFeatures(opened, bound=2 * size)
    rows = stored(soap, ids, structures)
    assert sum(array.nbytes for array in stored._memory.values()) <= 2 * size
    for array, atoms in zip(rows, structures, strict=True):
        np.testing.assert_array_equal(array, soap.features(atoms))
    again = stored(soap, ids, [Atoms("Au")] * 5)  # nothing is computed: the database has all of them
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(rows))
