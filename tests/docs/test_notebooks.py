"""The notebooks run from the first cell to the last: in this process, and in a kernel."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.support.training.curves import undrawn

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: the extra docs")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: the extra docs")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: the extra docs")
pytest.importorskip("torch", reason="PyTorch is not installed: the extra train")
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_run_one_after_another(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    with warnings.catch_warnings():  # a cell filters them
        for number, cell in enumerate(cells):
            exec(compile(cell.source, f"{path.name}, cell {number}", "exec"), names)


@pytest.mark.long(caught="test_the_cells_run_one_after_another, in this process")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel of this environment, whatever others the machine has.
    monkeypatch.setenv("JUPYTER_PATH", f"{sys.prefix}/share/jupyter")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    notebook = nbformat.read(path, 4)
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is None] == []


def test_there_are_two_and_their_outputs_are_kept() -> None:
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert sum(bool(cell.outputs) for cell in cells) >= 3
        assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
