"""Conventions of energies: differences between two of them are no energy of anything.

Potentials that were trained on the Materials Project predict energies with its empirical corrections
(CHGNet 0.3.0; Wang et al., Sci. Rep. 11, 15496 (2021)) or without (SevenNet-0): 0.229 eV per atom of Cu2O.
"""

MP2020 = "mp2020-corrected"  # PBE and PBE+U, shifted per anion (O, S, F, ...) and per transition metal with U
UNCORRECTED = "pbe-mp-uncorrected"  # PBE and PBE+U of the Materials Project as computed
R2SCAN = "r2scan"
