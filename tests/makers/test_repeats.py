"""Which structures that were selected before may be evaluated again."""

import numpy as np
import pytest
from ase import Atoms

from godelta.makers.repeats import Selected, labels
from godelta.search.selection import FOLLOW_UP
from godelta.store.documents import StructureDocument


def dimer(distance, round_=0, move=""):
    """Two silver atoms so far apart, in Å; up to 0.15 Å more or less are equivalent."""
    atoms = Atoms("Ag2", [[5, 5, 5], [5 + distance, 5, 5]], cell=np.eye(3) * 15.0)
    return StructureDocument.from_atoms(
        atoms, campaign_id="c", chain=0, round=round_, foundation_energy=0.0, model_energy=0.0, move=move
    )


def is_welcome(distance, promise, seen):
    (label,) = labels([dimer(distance)], np.array([promise]), np.array([promise]), seen)
    return label >= 0


@pytest.mark.parametrize("turned", [False, True])
def test_every_equivalent_structure_counts_not_only_the_first_of_its_kind(turned):
    seen = [Selected(dimer(2.5), -1.0, (0, 0)), Selected(dimer(2.6), -1.1, (1, 0))]
    seen = seen[::-1] if turned else seen
    assert not is_welcome(2.7, -1.11, seen)  # unlike the first, like the second
    assert is_welcome(2.7, -1.13, seen)
    assert is_welcome(2.8, 0.0, seen)  # unlike both


def test_what_is_under_way_or_failed_is_not_selected_again():
    seen = [Selected(dimer(2.5), -1.0, (0, 0)), Selected(dimer(2.6), None, (1, 0))]
    assert not is_welcome(2.7, -9.0, seen)
    assert is_welcome(2.36, -1.1, seen)  # unlike the one under way


def test_the_order_is_that_of_selections_not_of_proposals():
    """A walker may stand on a structure for rounds before it is selected."""
    early, late = dimer(2.6, round_=1), dimer(2.61, round_=0)
    paid_off = [Selected(early, -1.0, (1, 0)), Selected(late, -1.1, (2, 0))]
    in_vain = [Selected(early, -1.1, (1, 0)), Selected(late, -1.0, (2, 0))]
    assert is_welcome(2.62, -1.2, paid_off)
    assert not is_welcome(2.62, -1.2, in_vain)


def test_a_step_down_is_not_asked_in_vain():
    seen = [Selected(dimer(2.6), -1.1, (0, 0)), Selected(dimer(2.61, 1, FOLLOW_UP), -1.1, (1, 0))]
    assert is_welcome(2.62, -1.2, seen)


def test_nothing_known_and_no_candidates():
    assert is_welcome(2.5, 3.0, [])
    assert labels([], np.empty(0), np.empty(0), [Selected(dimer(2.5), -1.0, (0, 0))]).shape == (0,)
