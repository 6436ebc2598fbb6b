"""The notebook runs from top to bottom, and does what it says."""

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_look.ipynb"


def outputs(cell):
    return "".join(out.get("text", "") for out in cell.get("outputs", []))


@pytest.mark.slow
def test_the_notebook_runs_and_the_agent_gets_better(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert "stuck" in outputs(code[1])
    assert "'r2'" in outputs(code[5])
    assert "'r1'" not in outputs(code[5])
    last = re.match(r"return (-\d+)", outputs(code[-1]))
    assert float(last[1]) > -150  # it returned -200
    assert (tmp_path / "runs" / "first-look" / "review.html").stat().st_size > 50_000


def test_the_notebook_that_is_shown_was_run_and_names_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(c.get("outputs") is not None for c in notebook.cells if c.cell_type == "code")
    assert "return -" in outputs(notebook.cells[-1])
    assert str(Path.home()) not in text
    assert "/tmp" not in text
