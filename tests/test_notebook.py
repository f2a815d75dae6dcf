"""The tutorial's notebook runs, and is kept without its outputs."""

import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


@pytest.fixture
def notebook(require):
    require("notebook")
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_holds_no_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 8
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_it_runs_from_end_to_end(notebook, require, tmp_path, monkeypatch):
    for name in ("mongod", "chgnet", "tblite"):
        require(name)
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class Here(AsyncKernelManager):
        """This very Python, whatever kernels are registered on the machine."""

        @property
        def kernel_spec(self):
            line = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=line, display_name="here", language="python")

    (tmp_path / "work").mkdir()
    monkeypatch.setenv("GODELTA_NOTEBOOK_FOLDER", str(tmp_path / "work"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    client = NotebookClient(
        notebook, timeout=600, kernel_manager_class=Here, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-2]
    difference = float(last.outputs[0]["data"]["text/plain"].removeprefix("np.float64(").rstrip(")"))
    assert abs(difference) < 0.5  # eV; the model has seen this structure
    assert (tmp_path / "work" / "best.extxyz").is_file()
