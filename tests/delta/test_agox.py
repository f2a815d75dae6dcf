"""The preset `paper` against predictions of AGOX 3.11.1, the papers' own code (stored, with their data)."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from godelta.delta.model import train
from godelta.delta.settings import DeltaSettings

NOISE = 0.01 * np.sqrt(6)  # eV, what the model takes the labels to be uncertain by


@pytest.fixture(scope="module")
def stored():
    return json.loads((Path(__file__).parent / "data" / "agox_ag4s2.json").read_text())


def test_the_paper_preset_predicts_what_agox_predicts(stored):
    training, held_out = (
        [Atoms(stored["symbols"], positions=entry["positions"]) for entry in stored[part]]
        for part in ("training", "held_out")
    )
    labels = [entry["energy"] for entry in stored["training"]]
    ids = [f"{k:03d}" for k in range(len(labels))]
    model = train(DeltaSettings(preset="paper"), (16, 47), training, np.zeros(len(ids)), labels, ids)
    assert model.kernel.size == 240  # every environment, as in AGOX: nothing is random
    predictions = [model.predict(atoms) for atoms in held_out]
    energies = np.array([p.energy for p in predictions])
    expected = np.array([entry["energy"] for entry in stored["held_out"]])
    assert np.ptp(expected) > 10 * NOISE
    assert np.abs(energies - expected).max() < 0.1 * NOISE
    forces = np.array([p.forces for p in predictions])
    reference = np.array([entry["forces"] for entry in stored["held_out"]])
    assert np.abs(reference).max() > 0.5
    assert np.abs(forces - reference).max() < 0.01
