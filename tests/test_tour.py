"""The notebook runs from its first cell to its last, as a reader runs it."""

import os

import pytest

from tests.conftest import REPOSITORY


def test_the_tour_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(REPOSITORY / "experiments" / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # they are drawn where it runs
    for cell in notebook.cells:  # fewer epochs: that it runs, not what it finds
        cell.source = cell.source.replace('"epochs": 20', '"epochs": 1')
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    environment.pop("MPLBACKEND", None)  # the notebook draws into itself
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 9
    assert len(list(tmp_path.glob("outputs/runs/*"))) == 4
