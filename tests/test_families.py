"""Each family of `conf/model`: killed and resumed; by two processes; at each precision."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import two_processes
from tests.building import FAMILIES, compose, small_family
from tests.conftest import REPOSITORY
from tests.steps import check_family

# Entries of a codebook that nobody chooses become tokens that are drawn at random.
NO_DEAD_ENTRIES = "model.bottleneck.quantizer.threshold_ema_dead_code=0"
WORDS = ["data=mnist5k", "data.limit=48", "batch_size=16", "epochs=2", "hidden=[16]", "latent=3"]
WORDS += ["lr=0.01", "trainer.precision=32-true", "trainer.accelerator=cpu", "logger=none"]
WORDS += ["trainer.enable_progress_bar=false"]
# Two halves of a batch make what the whole makes, but where a process draws at random, on its own,
# or looks at all images of the batch, of which it has half.
DRAWS = {"aae", "beta_tcvae", "cvae", "factorvae", "infovae", "iwae", "ladder_vae", "vae", "vaegan"}
DRAWS |= {"flowvae", "hvae", "vampvae", "stacked_denoising", "wae", "vqvae, with dead entries"}
BATCH_STATISTICS = {"sparse", "mlp, normalised"}
OTHERS = {
    "vqvae, with dead entries": ["model=vqvae", "model.bottleneck.quantizer.codebook_size=64"],
    "mlp, normalised": ["model=mlp", "norm=batch"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_is_killed_within_an_epoch_ends_the_same(family, tmp_path):
    assert list(check_family(family, tmp_path, ["training"])) == ["training"]


def words_of(name: str) -> list[str]:
    """Settings of a family, or of one of OTHERS."""
    if name in OTHERS:
        return [*WORDS, *OTHERS[name]]
    keep_entries = [NO_DEAD_ENTRIES] if name in ("vqvae", "rvq") else []
    return [*WORDS, *small_family(name), "norm=none", *keep_entries]


def train_in_two_processes(folder: Path) -> None:
    """Both write what they make of each family to the folder; they are started once for all."""
    configs = {name: compose(*words_of(name)).copy() for name in (*FAMILIES, *OTHERS)}
    for config in configs.values():
        config.trainer.devices = 2
    (folder / "configs.pkl").write_bytes(pickle.dumps(configs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "tests.two_processes", str(folder)]
    started = [
        subprocess.Popen(
            command, env=shared | {"LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in "01"
    ]
    errors = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "".join(errors)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_takes_the_trainers_precision(family, run):
    """Pictures of reconstructions and of random codes are drawn on the way."""
    words = [*small_family(family), "data.limit=32", "batch_size=16", "hidden=[8,6]", "latent=4"]
    expected = run(*words, "trainer.precision=32-true").metrics["test/mse"]
    for precision, tolerance in {"64-true": 0.01, "bf16-true": 0.05}.items():
        actual = run(*words, f"trainer.precision={precision}").metrics["test/mse"]
        assert actual == pytest.approx(expected, rel=tolerance), precision


def test_two_processes_hold_the_same_and_train_as_one(tmp_path):
    train_in_two_processes(tmp_path)
    for name in (*FAMILIES, *OTHERS):
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1))
        assert first["means"] == second["means"], name
        for key, values in first["state"].items():
            assert torch.equal(values, second["state"][key]), f"{key} of {name}"
        if name in DRAWS | BATCH_STATISTICS:
            continue
        alone = two_processes.train(compose(*words_of(name)).copy(), tmp_path / "alone" / name)
        assert first["means"] == pytest.approx(alone["means"], rel=1e-3), name
        for key, values in alone["state"].items():
            close = torch.allclose(first["state"][key], values, rtol=1e-3, atol=1e-4)
            assert close, f"{key} of {name}"
