"""Tests of foundations run in both environments."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `probes`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as tests of the second environment too: `make test-sevennet`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.sevennet)
