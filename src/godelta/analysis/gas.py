"""Chemical potentials of gases of diatomic molecules: ideal gas, rigid rotor, harmonic vibration.

As Reuter and Scheffler, Phys. Rev. B 65, 035406 (2001): relative to half the energy of a molecule at rest, so
that zero is where the gas would condense at 0 K. Zero-point energies are left out, as they are of the solids.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.thermochemistry import IdealGasThermo

from godelta.arrays import FloatArray

STANDARD = 1e5  # Pa


@dataclass(frozen=True, slots=True)
class Diatomic:
    """A molecule of two like atoms: bond length [Å], vibration [1/cm] and spin (1 of a triplet).

    Values from the NIST Chemistry WebBook (Huber and Herzberg, Constants of Diatomic Molecules, 1979); the
    vibration is the first transition.
    """

    symbol: str
    length: float
    wave_number: float
    spin: float

    def atoms(self, box: float | None = None) -> Atoms:
        """The molecule, in the middle of a box with this edge in Å if there is one."""
        atoms = Atoms([self.symbol] * 2, [[0.0, 0.0, 0.0], [0.0, 0.0, self.length]])
        if box is not None:
            atoms.set_cell([box] * 3)
            atoms.center()
        return atoms

    def chemical_potential(self, temperature: float, pressure: float = STANDARD) -> float:
        """Of an atom, in eV above half a molecule at rest; temperature in K, pressure in Pa."""
        gas = IdealGasThermo(
            vib_energies=[self.wave_number * units.invcm],
            geometry="linear",
            atoms=self.atoms(),
            symmetrynumber=2,
            spin=self.spin,
        )
        free = gas.get_gibbs_energy(temperature, pressure, verbose=False)
        return 0.5 * float(free - gas.get_ZPE_correction())

    def pressure(self, chemical_potential: FloatArray | float, temperature: float) -> FloatArray:
        """The pressure in Pa at which an atom has a chemical potential [eV]."""
        above = np.asarray(chemical_potential) - self.chemical_potential(temperature)
        return np.asarray(STANDARD * np.exp(2.0 * above / (units.kB * temperature)))


DIATOMICS = {
    gas.symbol: gas
    for gas in (
        Diatomic("H", 0.74144, 4161.2, 0),
        Diatomic("N", 1.09768, 2329.9, 0),
        Diatomic("O", 1.20752, 1556.4, 1),
        Diatomic("S", 1.88920, 719.9, 1),
        Diatomic("Cl", 1.98720, 554.3, 0),
    )
}
