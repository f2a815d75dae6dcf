"""Foundation + Δ as an ASE calculator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes

from godelta.delta.model import DeltaModel


class DeltaCalculator(Calculator):
    """ASE calculator of a `DeltaModel`: energy [eV], forces [eV/Å], and `results["uncertainty"]` [eV].

    Parameters
    ----------
    model
        Foundation + Δ.
    uncertainty
        Whether to compute the uncertainty with every energy; it is NaN without a correction.
    """

    implemented_properties = [  # noqa: RUF012  (as the base class has it)
        "energy",
        "free_energy",
        "forces",
    ]

    def __init__(self, model: DeltaModel, *, uncertainty: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.uncertainty = uncertainty

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the atoms, as ASE asks it to."""
        Calculator.calculate(self, atoms, properties, system_changes)
        if self.atoms is None:
            raise CalculatorSetupError("there are no atoms to calculate")
        batch = self.model.evaluate([self.atoms], uncertainty=self.uncertainty)
        energy = float(batch.energies[0])
        results: dict[str, Any] = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.asarray(batch.forces[0]),
            "uncertainty": float(batch.uncertainties[0]),
        }
        self.results = results
