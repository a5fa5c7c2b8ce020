"""Commands that read numbers alone start without the libraries that train and draw."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import REPOSITORY

SLOW = ("torch", "matplotlib", "sklearn", "pytorch_lightning", "scipy", "skimage")


def run_and_list_modules(folder, module: str, *words: str) -> tuple[str, set[str]]:
    """What a command prints in a folder, and which of the slow libraries it imported."""
    code = (
        "import runpy, sys, json\n"
        f"sys.argv = ['ae_lab.{module}', *{list(words)!r}]\n"
        "try:\n"
        f"    runpy.run_module('ae_lab.{module}', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, _, modules = done.stdout.strip().rpartition("\n")
    return printed, {name for name in json.loads(modules) if name in SLOW}


@pytest.fixture
def folder_with_run(tmp_path):
    """A folder with the record of one finished run."""
    run = tmp_path / "outputs" / "runs" / "mnist-mlp-1234"
    run.mkdir(parents=True)
    record = {
        "format": 2,
        "data": {"name": "mnist", "title": "MNIST", "fingerprint": "f"},
        "metrics": {"mse": False},
        "choices": {"model": "mlp"},
        "configuration": {"latent": 2, "seed": 0},
        "identity": {"model.seed": 0},
    }
    numbers = {"test/mse": 0.0426, "parameters": 886386, "seconds": 39.1}
    for file, content in (
        ("run.json", record),
        ("metrics.json", numbers),
        ("status.json", {"state": "done"}),
    ):
        (run / file).write_text(json.dumps(content))
    (run / "history.csv").write_text("epoch,val/mse\n0,0.05\n")
    part = {"_target_": "ae_lab.Part"}
    config = {"model": part, "noise": part, "data": part | {"source": part}}
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text(
        json.dumps(config | {"trainer": {}, "paths": {}}) + "\n"
    )
    (run / "checkpoints").mkdir()
    with zipfile.ZipFile(run / "checkpoints" / "best.ckpt", "w") as archive:
        archive.writestr("data", "weights")
    return tmp_path


@pytest.mark.parametrize("words", [[], ["latent=2", "--csv"], ["--average-over", "seed"]])
def test_runs_prints_its_table_without_a_slow_import(folder_with_run, words):
    printed, slow = run_and_list_modules(folder_with_run, "runs", *words)
    assert "0.0426" in printed
    assert slow == set()


@pytest.mark.parametrize("module", ["runs", "report", "claims"])
def test_help_takes_no_slow_import(tmp_path, module):
    printed, slow = run_and_list_modules(tmp_path, module, "--help")
    assert f"python -m ae_lab.{module}" in printed
    assert slow == set()


def test_claims_are_decided_without_torch(tmp_path):
    printed, slow = run_and_list_modules(tmp_path, "claims", "--markdown")
    assert printed.count("| holds |") > 5
    assert not slow & {"torch", "sklearn", "pytorch_lightning"}


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0", "hydra/launcher=local"]])
def test_a_finished_run_is_found_without_a_slow_import(sweep, command, tmp_path):
    words = ["data=mnist5k", "data.limit=64", "epochs=1", "hidden=[16]", "logger=none"]
    words += ["trainer.enable_progress_bar=false", "hydra.callbacks.sweep.columns=[]"]
    assert command("train", *sweep[:2], *words).returncode == 0
    printed, slow = run_and_list_modules(tmp_path, "train", *sweep, *words)
    assert "done already" in printed
    assert slow == set()
