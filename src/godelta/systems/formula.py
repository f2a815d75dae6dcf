"""Chemical formulas as users write them."""

import difflib
import re

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.formula import Formula

from godelta.arrays import IntArray

MAX_ATOMS = 1000
LAST_ELEMENT = 96  # Cm: covalent radii (Cordero et al. 2008) end here
_SYMBOLS = chemical_symbols[1 : LAST_ELEMENT + 1]


def check_element(symbol: str) -> int:
    """Atomic number of an element.

    Raises
    ------
    ValueError
        If there is no such element, with the nearest symbols.
    """
    number = atomic_numbers.get(symbol, 0)
    if 1 <= number <= LAST_ELEMENT:
        return int(number)
    near = [s for s in _SYMBOLS if s.lower() == symbol.lower()]
    if not near and len(symbol) == 1:
        near = [s for s in _SYMBOLS if s[0] == symbol][:4]  # AG2 reads as A and G2
    near = near or difflib.get_close_matches(symbol, _SYMBOLS, n=3, cutoff=0.5)
    near = near or [s for s in _SYMBOLS if s[0] == symbol[:1].upper()][:3]
    hint = f": did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"unknown element {symbol!r}{hint}")


def parse_formula(text: str) -> IntArray:
    """Atomic numbers (n,) of the atoms of a formula, grouped by element in the order of writing.

    Raises
    ------
    ValueError
        If the formula cannot be read, is empty, names an unknown element, or holds over 1000 atoms.
    """
    example = "write element symbols, capital letter first, and numbers, e.g. Ag8S4"
    compact = text.replace(" ", "")
    if not compact:
        raise ValueError(f"the formula is empty: {example}")
    if not re.fullmatch(r"[A-Za-z0-9()]+", compact):
        raise ValueError(f"cannot read the formula {text!r}: {example}")
    if re.search(r"\d{5,}", compact):
        raise ValueError(f"the formula {text!r} holds too many atoms: at most {MAX_ATOMS}")
    try:
        count = Formula(compact).count()
    except ValueError as error:
        raise ValueError(f"cannot read the formula {text!r}: {example}") from error
    try:
        numbers = [check_element(symbol) for symbol in count]
    except ValueError as error:
        raise ValueError(f"{error} (in the formula {text!r})") from error
    total = sum(count.values())
    if not 1 <= total <= MAX_ATOMS:
        raise ValueError(f"the formula {text!r} holds {total} atoms: it needs 1 to {MAX_ATOMS}")
    return np.repeat(np.asarray(numbers, dtype=np.int64), list(count.values()))
