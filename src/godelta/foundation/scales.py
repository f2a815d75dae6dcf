"""Conventions of energies: differences between two of them are no energy of anything.

Potentials that were trained on the Materials Project predict energies with its empirical corrections
(CHGNet 0.3.0; Wang et al., Sci. Rep. 11, 15496 (2021)) or without (SevenNet-0): 0.229 eV per atom of Cu2O.
"""

from collections.abc import Mapping

from godelta.errors import InputError

MP2020 = "mp2020-corrected"  # PBE and PBE+U, shifted per anion (O, S, F, ...) and per transition metal with U
UNCORRECTED = "pbe-mp-uncorrected"  # PBE and PBE+U of the Materials Project as computed
R2SCAN = "r2scan"


def refuse_mixed_scales(scales: Mapping[str, str]) -> None:
    """Energies that are to be compared or fitted together must be on one scale.

    Parameters
    ----------
    scales
        Energy scale by what brings it: a foundation, a campaign, a chemical potential.

    Raises
    ------
    InputError
        There is more than one scale.
    """
    if len(set(scales.values())) > 1:
        raise InputError(
            "energies of different scales cannot be mixed: "
            + ", ".join(f"{source}: {scale}" for source, scale in scales.items()),
            mend="take all of them from foundations of one energy scale",
        )
