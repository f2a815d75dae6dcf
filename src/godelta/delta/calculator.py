"""Foundation + Δ as an ASE calculator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from godelta.delta.model import DeltaModel


class DeltaCalculator(Calculator):
    """ASE calculator of a `DeltaModel`: energy [eV], forces [eV/Å], and `results["uncertainty"]` [eV].

    Stress [eV/Å³] too, where every part of the model has one: with a foundation that has features of atoms,
    and a correction on them or none.

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
        if model.has_stress:
            self.implemented_properties = [*self.implemented_properties, "stress"]

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
        stress = properties is not None and "stress" in properties
        batch = self.model.evaluate([self.atoms], uncertainty=self.uncertainty, stress=stress)
        energy = float(batch.energies[0])
        results: dict[str, Any] = {
            "energy": energy,
            "free_energy": energy,
            "forces": np.asarray(batch.forces[0]),
            "uncertainty": float(batch.uncertainties[0]),
        }
        if batch.stresses is not None:
            results["stress"] = full_3x3_to_voigt_6_stress(batch.stresses[0])
        self.results = results
