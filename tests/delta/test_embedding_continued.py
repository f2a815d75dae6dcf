"""Δ-models on features that go on from the one before."""

from dataclasses import replace

import numpy as np
import pytest
from embedding_toy import SPECIES, Features, embedding, fit

from godelta.delta.embedding import train_embedding
from godelta.delta.local_kernel import Environments
from godelta.delta.model import Learnt
from godelta.delta.sparse_gp import SparseGP


@pytest.fixture(autouse=True)
def _torch(require):
    require("chgnet")  # it brings PyTorch


def grown(settings, data, first, last):
    """A model of `first` structures, and the data of `last`."""
    structures, energies, ids = data(last)
    return fit(settings, structures[:first], energies[:first], ids[:first]), (structures, energies, ids)


def test_a_continued_fit_is_the_one_from_nothing_with_the_same_inducing_points(data):
    settings = embedding(aggregation="atomic", inducing_points=30)
    previous, (structures, energies, ids) = grown(settings, data, 20, 28)
    asked = []

    def embed(names, chosen):
        asked.extend(names)
        return Features().features(chosen)

    continued = train_embedding(
        settings, SPECIES, structures, np.zeros(28), energies, ids,
        foundation=Features(), previous=previous, embed=embed,
    )  # fmt: skip
    assert asked == ids[20:]
    assert continued.kernel is previous.kernel
    kinds = [np.searchsorted(SPECIES, atoms.numbers) for atoms in structures]
    seen = [Environments(f, k) for f, k in zip(Features().features(structures), kinds, strict=True)]
    gp = SparseGP(2, settings)
    gp.fit_rows(
        previous.kernel,
        previous.kernel.rows(seen),
        gp.counts(seen),
        energies,
        continued.training.excess,
    )
    np.testing.assert_array_equal(continued.rows, gp.rows_)
    np.testing.assert_array_equal(continued.posterior.weights, gp.posterior_.weights)
    np.testing.assert_array_equal(continued.posterior.projection, gp.posterior_.projection)
    assert continued.selected_environments == previous.selected_environments
    assert continued.metrics["n_structures"] == 28


def test_continuing_from_stored_bytes_gives_the_same_bits(data):
    settings = embedding(aggregation="atomic", inducing_points=30, force_directions=0)
    previous, (structures, energies, ids) = grown(settings, data, 20, 30)
    stored = Learnt.from_bytes(Learnt(previous).to_bytes()).correction
    values = (settings, SPECIES, structures, np.zeros(30), energies, ids)
    first = train_embedding(*values, foundation=Features(), previous=previous)
    again = train_embedding(*values, foundation=Features(), previous=stored)
    assert first.to_bytes() == again.to_bytes()
    order = np.random.default_rng(1).permutation(30)
    shuffled = [structures[k] for k in order], np.zeros(30), energies[order], [ids[k] for k in order]
    turned = train_embedding(settings, SPECIES, *shuffled, foundation=Features(), previous=stored)
    assert turned.to_bytes() == first.to_bytes()


@pytest.mark.parametrize("reason", ["twice", "few", "lost", "settings", "foundation", "rows", "global"])
def test_when_a_fit_starts_from_nothing(data, reason):
    changes = {"aggregation": "global" if reason == "global" else "atomic", "inducing_points": 30}
    if reason == "few":
        changes["inducing_points"] = 500
    settings = embedding(**changes)
    previous, (structures, energies, ids) = grown(settings, data, 20, 42 if reason == "twice" else 24)
    values = structures, energies, ids
    if reason == "lost":
        values = structures[1:], energies[1:], ids[1:]
    if reason == "settings":
        settings = embedding(**changes, seed=3)
    previous = {
        "foundation": replace(previous, foundation="another"),
        "rows": replace(previous, rows=None),
    }.get(reason, previous)
    continued = train_embedding(
        settings, SPECIES, values[0], np.zeros(len(values[2])), *values[1:],
        foundation=Features(), previous=previous,
    )  # fmt: skip
    assert continued.to_bytes() == fit(settings, *values).to_bytes()
