"""Phase diagrams against cases done by hand, chemical potentials against tables."""

from itertools import pairwise

import numpy as np
import pytest
from ase import units

from godelta.analysis.gas import DIATOMICS
from godelta.analysis.phases import Levels, Line, Phase, Stable, stable_phases, surface_line

ATM = 101325.0
# Reuter and Scheffler, Phys. Rev. B 65, 035406 (2001), table I: oxygen at 1 atm, eV, from the JANAF tables
OXYGEN = {100: -0.08, 200: -0.17, 300: -0.27, 400: -0.38, 500: -0.50, 600: -0.61, 700: -0.73, 800: -0.85,
          900: -0.98, 1000: -1.10}  # fmt: skip


@pytest.mark.parametrize("temperature", OXYGEN)
def test_oxygen_against_the_janaf_tables(temperature):
    assert DIATOMICS["O"].chemical_potential(temperature, ATM) == pytest.approx(
        OXYGEN[temperature], abs=0.011
    )


@pytest.mark.parametrize("temperature", [300, 500, 700, 1000])
def test_sulphur_against_the_shomate_equation(temperature):
    """S2 gas in the NIST Chemistry WebBook; H(298) - H(0) = 9.13 kJ/mol of the JANAF tables."""
    a, b, c, d, e, f, g, h = 33.51313, 5.065360, -1.059670, 0.089905, -0.211911, 117.6855, 266.0919, 128.6003
    t = temperature / 1000
    enthalpy = a * t + b * t**2 / 2 + c * t**3 / 3 + d * t**4 / 4 - e / t + f - h + 9.13
    entropy = a * np.log(t) + b * t + c * t**2 / 2 + d * t**3 / 3 - e / (2 * t**2) + g
    expected = 0.5 * (enthalpy - temperature * entropy / 1000) * units.kJ / units.mol
    assert DIATOMICS["S"].chemical_potential(temperature) == pytest.approx(expected, abs=0.002)


def test_pressure_is_the_inverse():
    gas = DIATOMICS["O"]
    for pressure in (1e-5, 1.0, 1e5):
        potential = gas.chemical_potential(600.0, pressure)
        assert float(gas.pressure(potential, 600.0)) == pytest.approx(pressure, rel=1e-9)


# One oxygen on 10 Å² binds with -1.0 eV, two with -1.5 eV together; metal atoms cost their own.
LEVELS = Levels(clean=-100.0, solids={"Cu": -3.0}, gas="O", gas_energy=-5.0)
ONE = Phase("one", -106.0, {"O": 1}, 10.0)
TWO = Phase("two", -111.5, {"O": 2}, 10.0)
OXIDE = Phase("oxide", -100.0 - 3.0 * 2 - 5.0 * 2 - 1.2, {"O": 2, "Cu": 2}, 10.0)


def test_lines_by_hand():
    assert surface_line(ONE, LEVELS) == Line("one", pytest.approx(-0.1), pytest.approx(-0.1))
    assert surface_line(TWO, LEVELS) == Line("two", pytest.approx(-0.15), pytest.approx(-0.2))
    assert surface_line(OXIDE, LEVELS) == Line("oxide", pytest.approx(-0.12), pytest.approx(-0.2))
    assert float(surface_line(TWO, LEVELS).at(-1.0)) == pytest.approx(0.05)
    assert surface_line(Phase("bare", -103.0, {"Cu": 1}, 10.0), LEVELS).slope == 0.0
    with pytest.raises(KeyError):
        surface_line(Phase("unknown", -1.0, {"S": 1}, 10.0), LEVELS)


def test_ranges_by_hand():
    """Clean below -1.0 eV, one oxygen up to -0.5 eV, then two; the oxide nowhere."""
    lines = [surface_line(phase, LEVELS) for phase in (ONE, TWO, OXIDE)]
    found = stable_phases(lines, -2.0, 0.0)
    assert [(row.name, pytest.approx(row.low), pytest.approx(row.high)) for row in found] == [
        ("clean", -2.0, -1.0),
        ("one", -1.0, -0.5),
        ("two", -0.5, 0.0),
    ]
    assert stable_phases([], -2.0, 0.0) == [Stable("clean", -2.0, 0.0)]
    assert stable_phases([lines[0]], -0.9, -0.2) == [Stable("one", -0.9, -0.2)]


def test_the_envelope_is_the_minimum_everywhere():
    rng = np.random.default_rng(1)
    lines = [Line(str(k), rng.normal(0.0, 0.2), -rng.integers(1, 9) / 20) for k in range(12)]
    found = stable_phases(lines, -3.0, 0.5)
    assert found[0].low == -3.0
    assert found[-1].high == 0.5
    assert all(a.high == b.low for a, b in pairwise(found))
    named = {line.name: line for line in lines} | {"clean": Line("clean", 0.0, 0.0)}
    for row in found:
        for x in np.linspace(row.low, row.high, 7):
            lowest = min(float(line.at(x)) for line in named.values())
            assert float(named[row.name].at(x)) == pytest.approx(lowest, abs=1e-9)
