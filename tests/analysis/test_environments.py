"""Nearest environments, in an embedding that can be checked by hand and in CHGNet's."""

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from godelta.analysis.environments import EnvironmentIndex
from godelta.errors import InputError
from godelta.foundation import CHGNetSettings, load_foundation


@dataclass
class Heights:
    """An embedding whose only feature is an atom's z."""

    feature_size: int = 1

    def features(self, structures):
        return [atoms.positions[:, 2:] for atoms in structures]


def column(*places: tuple[str, float]) -> Atoms:
    return Atoms([symbol for symbol, _ in places], [[0.0, 0.0, z] for _, z in places], cell=[20.0] * 3)


DATA = [
    column(("Ag", 0.0), ("Ag", 0.1), ("S", 5.0)),
    column(("Ag", 1.0), ("S", 6.0)),
    column(("Ag", 3.0), ("S", 8.0)),
    column(("Cu", 2.0)),
]


def test_the_nearest_of_the_same_species_one_from_each_structure():
    index = EnvironmentIndex.build(Heights(), DATA)
    silver, sulfur = index.nearest(column(("Ag", 0.2), ("S", 6.4)), 2)
    assert [(near.structure, near.atom) for near in silver.nearest] == [(0, 1), (1, 0)]
    assert [near.distance for near in silver.nearest] == pytest.approx([0.1, 0.8])
    assert [near.formula for near in sulfur.nearest] == ["AgS", "Ag2S"]
    assert (sulfur.atom, sulfur.symbol) == (1, "S")


def test_novelty_is_relative_to_the_data_set():
    """Distances of its silver atoms to those of other structures: 1.0, 0.9, 0.9 and 2.0."""
    index = EnvironmentIndex.build(Heights(), DATA)
    (far,) = index.nearest(column(("Ag", 12.5)), 1)
    assert far.novelty == pytest.approx(9.5 / 0.95)
    (alone,) = index.nearest(column(("Cu", 0.0)), 1)
    assert np.isnan(alone.novelty)
    (unknown,) = index.nearest(column(("Au", 0.0)), 1)
    assert (unknown.nearest, unknown.novelty) == ([], np.inf)


def test_only_what_is_asked_for_is_kept():
    told = []
    index = EnvironmentIndex.build(Heights(), DATA, numbers=[47], done=told.append)
    assert (list(index.species), told) == ([47], [4])
    with pytest.raises(InputError, match="no structure"):
        EnvironmentIndex.build(Heights(), [])


def test_in_chgnet_a_crystal_knows_itself(require):
    require("chgnet")
    data = [bulk("Ag", a=a) for a in (3.9, 4.09, 4.3)] + [bulk("Cu")]
    index = EnvironmentIndex.build(load_foundation(CHGNetSettings()), data)
    (atom,) = index.nearest(bulk("Ag", a=4.1), 3)
    assert atom.nearest[0].structure == 1
    assert atom.novelty < 0.5
    lonely = Atoms("Ag", cell=[15.0] * 3, pbc=True)
    assert index.nearest(lonely, 1)[0].novelty > 2.0
