"""Documents: identities of structures, exact round trips, refusal of what does not belong."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms, FixedPlane
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from godelta.errors import GodeltaError, InputError
from godelta.store import documents
from godelta.store.database import Store
from godelta.store.documents import (
    SCHEMA_VERSION,
    RoundKey,
    StructureDocument,
    hill_formula,
    structure_hash,
    structure_id,
)
from godelta.store.structures import add_candidates, get_structure

ORIGIN = {"campaign_id": "c", "chain": 0, "round": 2, "foundation_energy": -3.0, "model_energy": -3.1}


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    atoms.rattle(0.05, seed=1)
    atoms.set_constraint(FixAtoms(indices=[0, 1, 2, 3]))
    return atoms


def test_a_structure_survives_the_database_exactly(store: Store) -> None:
    atoms = slab()
    document = StructureDocument.from_atoms(atoms, **ORIGIN, walker=3, parents=["a"], uncertainty=0.25)
    add_candidates(store, [document])
    read = get_structure(store, document.structure_id)
    again = read.atoms()
    assert np.array_equal(again.positions, atoms.positions)
    assert np.array_equal(again.cell.array, atoms.cell.array)
    assert np.array_equal(again.numbers, atoms.numbers)
    assert np.array_equal(again.pbc, atoms.pbc)
    assert list(again.constraints[0].index) == [0, 1, 2, 3]
    assert (read.walker, read.parents, read.uncertainty, read.model_id) == (3, ("a",), 0.25, None)
    assert read.structure_id == structure_id("c", structure_hash(atoms))
    assert (read.formula, read.elements) == ("Cu12", ("Cu",))
    assert read.created_at.utcoffset().total_seconds() == 0


def test_hash_ignores_what_is_below_the_resolution_and_sees_what_is_above() -> None:
    atoms = Atoms("Ag2", [[0.2, 0.3, 0.4], [2.0, 2.0, 2.0]], cell=[10, 10, 10])
    noisy, moved = atoms.copy(), atoms.copy()
    noisy.positions[1] += 1e-6
    moved.positions[1, 0] += 2e-4
    assert structure_hash(noisy) == structure_hash(atoms)
    assert structure_hash(moved) != structure_hash(atoms)


def test_hash_knows_no_negative_zero() -> None:
    plus = Atoms("Ag2", [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], cell=[10, 10, 10])
    minus = plus.copy()
    minus.positions = [[-0.0, -1e-9, -0.0], [2.0, -0.0, 0.0]]
    minus.cell[0, 1] = -0.0
    assert structure_hash(plus) == structure_hash(minus)


@pytest.mark.parametrize("edge", [-1e-9, 1e-9, -3e-5, 0.0])
def test_atoms_at_the_two_edges_of_a_periodic_cell_are_the_same(edge: float) -> None:
    cell = np.array([[7.1, 0.0, 0.0], [1.3, 6.4, 0.0], [0.0, 0.0, 20.0]])
    inner = Atoms("Cu2", [[0.0, 0.0, 5.0], [3.0, 3.0, 5.0]], cell=cell, pbc=[True, True, False])
    shifted = inner.copy()
    shifted.positions[0] += cell[0] + edge * cell[0] / np.linalg.norm(cell[0])
    assert structure_hash(inner) == structure_hash(shifted)


@given(
    seed=st.integers(0, 2**32 - 1),
    shifts=st.lists(st.integers(-3, 3), min_size=8, max_size=8),
    third=st.booleans(),
)
def test_hash_does_not_change_with_periodic_images(seed: int, shifts: list[int], third: bool) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag([6.0, 7.0, 9.0]) + rng.uniform(-1, 1, (3, 3))
    # Coordinates in the middle of a step: rounding is not what is tested here.
    steps = np.linalg.norm(cell, axis=1) / 1e-4
    fractional = rng.integers(0, 60000, (4, 3)) / np.rint(steps)
    atoms = Atoms("Ag3S", scaled_positions=fractional, cell=cell, pbc=[True, True, third])
    image = atoms.copy()
    vectors = np.array(shifts, dtype=float).reshape(4, 2)
    image.positions += vectors @ cell[:2]
    assert structure_hash(atoms) == structure_hash(image)


def test_hash_sees_order_species_cell_and_periodicity() -> None:
    atoms = Atoms("AgS", [[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]], cell=[8, 8, 8], pbc=True)
    others = [atoms[[1, 0]], atoms.copy(), atoms.copy(), atoms.copy()]
    others[1].numbers[0] = 29
    others[2].set_cell([8, 8, 8.01])
    others[3].pbc = [True, True, False]
    hashes = {structure_hash(item) for item in [atoms, *others]}
    assert len(hashes) == 5


def test_a_cluster_without_a_cell_and_a_wire_have_hashes() -> None:
    bare = Atoms("Ag2", [[0, 0, 0], [2.5, 0, 0]])
    wire = Atoms("Ag2", [[0, 0, 0], [0, 0, 2.5]], cell=[0, 0, 5.0], pbc=[False, False, True])
    image = wire.copy()
    image.positions[1, 2] += 5.0
    assert structure_hash(bare) != structure_hash(wire)
    assert structure_hash(wire) == structure_hash(image)


def test_documents_refuse_unknown_keys_newer_versions_and_nan() -> None:
    document = StructureDocument.from_atoms(slab(), **ORIGIN)
    raw = document.to_mongo()
    with pytest.raises(GodeltaError, match="colour"):
        StructureDocument.from_mongo(raw | {"colour": "red"})
    with pytest.raises(GodeltaError, match="upgrade godelta"):
        StructureDocument.from_mongo(raw | {"schema_version": SCHEMA_VERSION + 1, "colour": "red"})
    with pytest.raises(ValidationError, match="finite"):
        StructureDocument.from_atoms(slab(), **{**ORIGIN, "model_energy": float("nan")})
    with pytest.raises(GodeltaError, match="positions"):
        StructureDocument.from_mongo(raw | {"positions": raw["positions"][1:]})


def test_other_constraints_are_refused_rather_than_lost() -> None:
    atoms = slab()
    atoms.set_constraint(FixedPlane(0, (0, 0, 1)))
    with pytest.raises(TypeError, match="FixedPlane"):
        StructureDocument.from_atoms(atoms, **ORIGIN)


def test_formulae_of_users_are_put_into_the_stored_order() -> None:
    assert hill_formula("S4Ag8") == Atoms("Ag8S4").get_chemical_formula("hill")
    assert hill_formula("OCH4") == "CH4O"
    for wrong in ("", "Xx2", "X2", "Ag(", "8"):
        with pytest.raises(InputError, match="formula"):
            hill_formula(wrong)


def test_a_round_key_reads_well() -> None:
    assert str(RoundKey("abc", 1, 7)) == "abc/1/7"


@pytest.mark.parametrize(
    "kind",
    [
        documents.CampaignDocument,
        documents.RoundDocument,
        documents.StructureDocument,
        documents.EvaluationDocument,
        documents.ModelDocument,
    ],
)
def test_every_field_says_what_it_is(kind):
    """The page of collections is made of it."""
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
