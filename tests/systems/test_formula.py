import pytest
from ase.symbols import string2symbols

from godelta.systems.formula import check_element, parse_formula


@pytest.mark.parametrize("text", ["Ag8S4", "Cu12Ag", "O", "(TiO2)3", "AgSAg"])
def test_numbers_are_those_that_ase_reads(text):
    from ase.data import atomic_numbers

    expected = sorted(atomic_numbers[s] for s in string2symbols(text))
    assert sorted(parse_formula(text).tolist()) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("Ag0", "0 atoms"),
        ("ag8s4", "capital letter first"),
        ("Ag-8", "cannot read"),
        ("Ag8(S4", "cannot read"),
        ("Aq2S", "did you mean A"),
        ("AG2", "Ag"),
        ("Ag100000", "too many"),
        ("Ag900S900", "1800 atoms"),
    ],
)
def test_an_impossible_formula_says_why(text, said):
    with pytest.raises(ValueError, match=said):
        parse_formula(text)


def test_elements_without_covalent_radius_are_refused():
    assert check_element("Cm") == 96
    for symbol in ("Bk", "X", "ag"):
        with pytest.raises(ValueError, match="unknown element"):
            check_element(symbol)
