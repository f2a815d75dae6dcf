"""A reference that fails while a file is there, named by $GODELTA_TEST_BROKEN."""

import os
from pathlib import Path

from ase.calculators.emt import EMT


class Flaky(EMT):
    def calculate(self, *args, **kwargs):
        if Path(os.environ["GODELTA_TEST_BROKEN"]).exists():
            raise RuntimeError("the licence server does not answer")
        super().calculate(*args, **kwargs)
