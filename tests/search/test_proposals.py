"""Counts of moves."""

import json

import numpy as np
from ase import Atoms

from godelta.search.proposals import Proposal, count_moves
from godelta.search.relax import Relaxed


def test_counts_of_moves_are_plain_numbers():
    proposals = [Proposal(np.zeros((2, 3)), move, ()) for move in ("rattle", "rattle", "random")]
    reasons = [None, "forces are huge", None]
    relaxed = [Relaxed(Atoms("Cu2"), 0.0, 0.0, 0.0, 1, 1, True, reason) for reason in reasons]
    verdicts = tuple(np.array([0.1, 0.2, 0.9]) > 0.5)  # of NumPy, as a comparison with a random number is
    counts = count_moves(proposals, relaxed, verdicts, {"permutation": 2})
    assert json.loads(json.dumps(counts)) == {
        "rattle": {"proposed": 2, "relaxed": 1, "accepted": 0, "impossible": 0},
        "random": {"proposed": 1, "relaxed": 1, "accepted": 1, "impossible": 0},
        "permutation": {"proposed": 0, "relaxed": 0, "accepted": 0, "impossible": 2},
    }
