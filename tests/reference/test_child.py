import json
import subprocess
import sys

import numpy as np
import pytest

from godelta.reference.child import task_digest, write_json
from godelta.reference.engine import EngineError, Task, message_of


def test_xtb_child_imports_nothing_heavy(require):
    require("tblite")
    code = (
        "import sys, godelta.reference.guard, godelta.reference.child, godelta.reference.xtb\n"
        "import tblite.interface\n"
        "print(sorted({'ase', 'pydantic', 'scipy', 'psutil', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_task_keeps_every_bit_on_its_way_through_json():
    rng = np.random.default_rng(3)
    task = Task(
        np.array([47, 16]), rng.random((2, 3)) / 3, rng.random((3, 3)) * 1e-9, np.zeros(3, bool), {"a": 0.1}
    )
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    np.testing.assert_array_equal(again.positions, task.positions)
    np.testing.assert_array_equal(again.cell, task.cell)
    assert task_digest(again.to_json()) == task_digest(task.to_json())


def test_digest_changes_with_the_last_bit_and_with_the_settings():
    task = {"positions": [[0.1, 0.2, 0.3]], "settings": {"engine": "emt"}}
    moved = {**task, "positions": [[np.nextafter(0.1, 1.0), 0.2, 0.3]]}
    other = {**task, "settings": {"engine": "xtb"}}
    assert len({task_digest(each) for each in (task, moved, other)}) == 3


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_error_without_a_text_is_told_by_its_type():
    assert message_of(ZeroDivisionError()) == "ZeroDivisionError"
    assert message_of(ValueError("no")) == "ValueError: no"
    assert EngineError("engine_error", "x").tried == ()
