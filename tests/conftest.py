"""Fixtures: a folder to work in, the main job as a function and as a command, real data."""

import gc
import os

# Before torch and numpy are imported, and for commands too: tests run side by side, and processes
# with more threads than cores wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import ae_lab
from ae_lab.core import configuration, trust
from ae_lab.tracking.run import Run
from ae_lab.training.job import train
from ae_lab.training.trainer import quiet_libraries
from tests.building import TINY

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = ["data=mnist5k", "epochs=1", "data.limit=256", "trainer.enable_progress_bar=false"]
SMALL += ["checkpoint_seconds=0"]  # after each step
quiet_libraries()


def pytest_collection_finish():
    """Leave what is imported out of garbage collections: they take a fifth of a composition."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_choice_of_data_is_left_over(monkeypatch):
    monkeypatch.delenv("AE_LAB_AUTO_DATA", raising=False)
    monkeypatch.delenv("AE_LAB_AUTO_PHOTOGRAPHS", raising=False)


@pytest.fixture(autouse=True)
def _nothing_is_trusted_yet(monkeypatch):
    """What one test typed at a command line is not trusted in the next."""
    monkeypatch.setattr(trust, "_trusted", set())


@pytest.fixture
def run(tmp_path):
    """Compose a configuration and train it: `run("latent=3")` → Run."""

    def _run(*overrides: str) -> Run:
        with initialize_config_dir(str(configuration.CONF), version_base="1.3"):
            outputs = f"paths.outputs={tmp_path / 'outputs'}"
            return train(compose("config", overrides=[outputs, *SMALL, *overrides]))

    return _run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def model(outputs):
    """A tiny variational run on digits, loaded."""
    return ae_lab.train(model="vae", **TINY, **{"paths.outputs": outputs})


@pytest.fixture
def main(tmp_path, monkeypatch):
    """A command in this process, in an empty folder: `main("-m", "latent=2,5")` → exit code."""

    def _main(*words: str, module: str = "train") -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does with the folder it starts in
        monkeypatch.setattr(sys, "argv", [f"ae_lab.{module}", *words])
        try:
            importlib.import_module(f"ae_lab.{module}").main()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None
        return 0

    return _main


@pytest.fixture
def command(main, monkeypatch, capfd):
    """The same with what it prints: `command("train", "latent=3").stdout`."""

    def _command(module: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
        for name, value in {"COLUMNS": "200", **environment}.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        code = main(*words, module=module)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return _command


@pytest.fixture
def process(processes):
    """The same in a process of its own, which takes some ten seconds to start."""

    def _process(module: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
        [done] = processes(module, (words, environment))
        return done

    return _process


@pytest.fixture
def processes(tmp_path):
    """Several of them at once: `processes("train", (words, environment), ...)`."""

    def _processes(
        module: str, *starts: tuple[Sequence[str], dict[str, str]]
    ) -> list[subprocess.CompletedProcess]:
        def run_one(start) -> subprocess.CompletedProcess:
            words, environment = start
            return subprocess.run(
                [sys.executable, "-m", f"ae_lab.{module}", *words],
                cwd=tmp_path,
                env=os.environ
                | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
                | environment,
                capture_output=True,
                text=True,
                check=False,
            )

        with ThreadPoolExecutor() as pool:
            return list(pool.map(run_one, starts))

    return _processes


@pytest.fixture
def python(tmp_path):
    """Code in a process of its own: `python(code, *words, **environment)`."""

    def _python(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return _python


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the full MNIST: AE_LAB_DATA, or shared/data beside the checkout.

    Skips where there is none; what is there but unusable fails the tests that read it.
    """
    named = os.environ.get("AE_LAB_DATA")
    for folder in (named, REPOSITORY.parent / "shared" / "data"):
        if folder and (Path(folder) / "MNIST" / "raw").is_dir():
            return Path(folder)
    pytest.skip("full MNIST is not there: set AE_LAB_DATA to a folder that has MNIST/raw")


@pytest.fixture(scope="session")
def real_coco() -> Path:
    """The folder that has coco/ in the official layout, whole or a subset, found like `real_data`.

    Skips where there is none; what is there but unusable fails the tests that read it.
    """
    named = os.environ.get("AE_LAB_DATA")
    for folder in (named, REPOSITORY.parent / "shared" / "data"):
        if folder and (Path(folder) / "coco").is_dir():
            return Path(folder)
    pytest.skip("COCO is not there: set AE_LAB_DATA to a folder that has coco/")
