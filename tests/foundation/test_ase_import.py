import pytest
from ase.calculators.lj import LennardJones

from godelta.errors import InputError
from godelta.foundation.ase_import import import_calculator


def test_class_is_made_with_its_arguments():
    calculator = import_calculator("ase.calculators.lj.LennardJones", {"sigma": 2.5})
    assert isinstance(calculator, LennardJones)
    assert calculator.parameters.sigma == 2.5


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.module.Class", "No module named 'no'"),
        ("LennardJones", "no import path"),
        ("ase.calculators.lj.", "no import path"),
        ("ase.Atoms", "no ASE calculator"),
        ("ase.units.Bohr", "no calculator class"),
        ("ase.calculators.lj.Nope", "has no Nope"),
        ("ase.calculators.lj", "no calculator class"),
    ],
)
def test_anything_else_is_refused(path, words):
    with pytest.raises(InputError, match=words) as caught:
        import_calculator(path)
    assert "ase.calculators.lj.LennardJones" in str(caught.value)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="made with the arguments") as caught:
        import_calculator("ase.calculators.mixing.SumCalculator", {"nonsense": 1})
    assert caught.value.where == "ase.calculators.mixing.SumCalculator"
