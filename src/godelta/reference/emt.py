"""Effective-medium theory of ASE: fast and smooth, for tests and demonstrations."""

from godelta.reference.ase_calculator import evaluate_with
from godelta.reference.engine import EngineResult, Task


def evaluate(task: Task) -> EngineResult:
    """Energy and forces by ase.calculators.emt.EMT."""
    from ase.calculators.emt import EMT

    return evaluate_with(EMT(), task)
