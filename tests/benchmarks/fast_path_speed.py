"""What `ae_lab/training/fast_path.py` gains.

    python -m tests.benchmarks.fast_path_speed

One run trains on, and from one epoch to the next it is taken out and put back. The network is so
small that a step is little more than what Lightning and torch do around it. What is gained is the
time of a step without it, less that of a step with it in a neighbouring epoch; of a step, the
median over the epoch. The share is of a step of MLP [500, 250, 100]-32 at batch 128, timed first,
with as many threads as there are cores.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate

from ae_lab.core import configuration
from ae_lab.data.module import load_data
from ae_lab.models import Autoencoder
from ae_lab.tracking.run import Run
from ae_lab.training.trainer import build_trainer, quiet_libraries

SMALL = ("hidden=[8]", "latent=2", "batch_size=8", "trainer.precision=32-true", "data.limit=4000")
USUAL = ("depth=3", "latent=32", "batch_size=128", "data.limit=4000")


@contextmanager
def plain_adamw(trainer: pl.Trainer, model: Autoencoder):
    """torch's own AdamW, fused too, takes over parameters, moments and learning rate."""
    (fast,) = trainer.optimizers
    plain = torch.optim.AdamW(model.parameters(), fused=True)
    plain.param_groups, plain.state = fast.param_groups, fast.state
    trainer.strategy.optimizers = [plain]
    yield
    trainer.strategy.optimizers = [fast]


class StepClock(pl.Callback):
    """The median time of a step in each epoch, in microseconds."""

    def __init__(self, between: Callable[[], object]):
        self.steps: list[float] = []
        self.between = between

    def on_train_epoch_start(self, trainer, module) -> None:
        self.between()
        self.moments: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.moments.append(time.perf_counter())
        if batch_idx + 1 == trainer.num_training_batches:
            self.steps.append(float(np.median(np.diff(self.moments))) * 1e6)


def time_steps(*setting: str, pairs: int) -> np.ndarray:
    """Microseconds of a step, (pairs, 2): with the fast path, without it."""
    taken_out = ExitStack()
    epochs = iter(range(2 * pairs + 1))

    def switch() -> None:
        """Epoch 0 warms up; after it 1 and 2, 3 and 4, … are pairs, each in its own order."""
        taken_out.close()
        if next(epochs) % 4 in (2, 3):
            taken_out.enter_context(plain_adamw(trainer, model))

    with tempfile.TemporaryDirectory() as folder:
        overrides = ["data=mnist5k", *setting, f"epochs={2 * pairs + 1}", f"paths.outputs={folder}"]
        overrides += ["trainer.enable_progress_bar=false", "checkpoint_seconds=1e6", "logger=none"]
        config = configuration.compose(overrides)
        data, model = load_data(config), instantiate(config.model)
        trainer = build_trainer(config, Run(Path(folder) / "runs" / "speed"), 0, model)
        clock = StepClock(between=switch)
        trainer.callbacks.append(clock)
        trainer.fit(model, data)
    steps = np.reshape(clock.steps[1:], (pairs, 2))
    steps[1::2] = steps[1::2, ::-1].copy()
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fast_path_speed")
    parser.add_argument("--pairs", type=int, default=20, help="of epochs")
    arguments = parser.parse_args()
    quiet_libraries()
    threads = torch.get_num_threads()
    usual = np.median(time_steps(*USUAL, pairs=arguments.pairs))
    print(f"a step of MLP [500, 250, 100]-32 at batch 128, {threads} threads: {usual:,.0f} µs")
    torch.set_num_threads(1)  # the small network has nothing to share
    steps = time_steps(*SMALL, pairs=arguments.pairs)
    low, gain, high = np.quantile(steps[:, 1] - steps[:, 0], [0.25, 0.5, 0.75])
    print(f"FastAdamW saves {gain:.0f} µs [{low:.0f}, {high:.0f}]: {gain / usual:.1%}")


if __name__ == "__main__":
    main()
