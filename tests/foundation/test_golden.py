"""Energies of the potentials whose weights come with a package: a changed dependency shows here first."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from godelta.foundation import CHGNetSettings, SevenNetSettings, load_foundation
from godelta.foundation.scales import MP2020, R2SCAN, UNCORRECTED


def cuprite() -> Atoms:
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), *np.array([(1, 1, 1), (1, 3, 3), (3, 1, 3), (3, 3, 1)]) / 4]
    return Atoms("O2Cu4", scaled_positions=scaled, cell=[4.27] * 3, pbc=True)


def acanthite() -> Atoms:
    """Ag2S in P2_1/n: Frueh, Z. Kristallogr. 110, 136 (1958)."""
    asymmetric = np.array([(0.758, 0.015, 0.305), (0.285, 0.320, 0.435), (0.359, 0.239, 0.134)])
    turned = asymmetric * [-1, 1, -1] + 0.5
    scaled = np.concatenate([asymmetric, -asymmetric, turned, -turned])
    return Atoms("Ag2S" * 4, scaled_positions=scaled, cell=[4.23, 6.93, 7.86, 90, 99.6, 90], pbc=True)


def cluster() -> Atoms:
    positions = [(0, 0, 0), (2.8, 0, 0), (1.4, 2.4, 0), (1.4, 0.8, 2.3), (-1.2, 1.6, 1.4), (3.4, 1.7, 1.6)]
    atoms = Atoms("Ag4S2", positions=positions, cell=[18.0] * 3)
    atoms.center()
    return atoms


STRUCTURES = {"Cu": bulk("Cu", a=3.58), "Cu2O": cuprite(), "Ag2S": acanthite(), "Ag4S2": cluster()}
SETTINGS = {
    "chgnet": CHGNetSettings(),
    "r2scan": CHGNetSettings(model="r2scan"),
    "sevennet": SevenNetSettings(device="cpu"),
}
# eV, in float32 on a CPU: chgnet 0.4.2, sevenn 0.13.0, torch 2.13.0
GOLDEN = {
    "chgnet": [-4.07783, -30.10427, -41.16936, -16.35921],
    "r2scan": [-10.82192, -58.38943, -204.23267, -97.73019],
    "sevennet": [-4.09224, -28.73521, -39.32095, -14.10993],
}


@pytest.fixture(scope="module")
def energies(require):
    """Energies of all the structures in eV, by potential."""

    def evaluate(name: str):
        require("sevennet" if name == "sevennet" else "chgnet")
        return load_foundation(SETTINGS[name]).evaluate(list(STRUCTURES.values())).energies

    return evaluate


@pytest.mark.parametrize("name", SETTINGS)
def test_golden_energies(energies, name):
    atoms = np.array([len(structure) for structure in STRUCTURES.values()])
    np.testing.assert_allclose(energies(name) / atoms, GOLDEN[name] / atoms, atol=1e-5)


def test_each_declares_its_energy_scale(require):
    require("chgnet")
    scales = {name: load_foundation(SETTINGS[name]).identity.energy_scale for name in ("chgnet", "r2scan")}
    assert scales == {"chgnet": MP2020, "r2scan": R2SCAN}


def test_scales_differ_by_the_corrections_for_anions(energies):
    """SevenNet-0 less CHGNet: MP2020 has -0.687 eV per O, -0.503 eV per S, nothing for metals."""
    atoms = np.array([len(structure) for structure in STRUCTURES.values()])
    differences = dict(zip(STRUCTURES, (energies("sevennet") - energies("chgnet")) / atoms, strict=True))
    assert load_foundation(SETTINGS["sevennet"]).identity.energy_scale == UNCORRECTED
    assert differences["Cu"] == pytest.approx(0.0, abs=0.02)
    assert differences["Cu2O"] == pytest.approx(0.687 / 3, abs=0.02)
    assert differences["Ag2S"] == pytest.approx(0.503 / 3, abs=0.02)
