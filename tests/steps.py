"""Counters under settings of the trainer: `python -m tests.steps`, part of `make kills`.

Each setting trains a small variational autoencoder with KL warm-up, a schedule and dropout, and

- is compared with a loop written out by hand: history, counters, checkpoints, best epoch;
- is killed with SIGKILL in each phase and resumed, which has to end to the bit the same.

`test_steps.py` does this for a few settings in which each pair of choices occurs.
"""

import logging
import math
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ae_lab.core import configuration
from ae_lab.core.randomness import reseed
from ae_lab.data.loaders import EvalLoader, TrainLoader
from ae_lab.data.module import load_data
from ae_lab.tracking.run import Run
from ae_lab.training.job import train
from ae_lab.training.trainer import quiet_libraries
from tests.building import compose, small_family

PHASES = ("training", "accumulation", "validation", "between fit and test", "test")
NUM_BATCHES, BATCH, EPOCHS, LR, PATIENCE, KL_WARMUP, LR_WARMUP = 9, 8, 4, 0.02, 1, 0.6, 0.2
SMALL = [
    *("data=mnist5k", "noise=gaussian", "hidden=[16]", "latent=2", "dropout=0.1"),
    *(f"data.limit={NUM_BATCHES * BATCH}", f"batch_size={BATCH}", f"epochs={EPOCHS}", f"lr={LR}"),
    *(f"scheduler.warmup={LR_WARMUP}", "checkpoint_seconds=0", "trainer.log_every_n_steps=5"),
    *("trainer.precision=32-true", "trainer.enable_progress_bar=false", "compile=false"),
    "+callbacks.kill._target_=tests.steps.Kill",
]
SETTING = [*SMALL, "model=vae", f"objective.kl.warmup={KL_WARMUP}"]
Choices = tuple[int, str, bool, bool]  # accumulation, validation, early stopping, max_steps
VALIDATIONS = ("each epoch", "each second epoch", "twice an epoch")
ALL = list(product((1, 4), VALIDATIONS, (False, True), (False, True)))


class Kill(pl.Callback):
    """Ends its process with SIGKILL in a phase, if there is one."""

    phase: str | None = None

    def at(self, phase: str, condition: bool = True) -> None:
        if condition and phase == self.phase:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.at("training", module.steps == NUM_BATCHES + 6)

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.at("accumulation", module.steps == NUM_BATCHES + 7)

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, loader=0) -> None:
        self.at("validation", module.steps > NUM_BATCHES)

    def on_fit_end(self, trainer, module) -> None:
        self.at("between fit and test")

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, loader=0) -> None:
        self.at("test")


def max_steps(accumulation: int) -> int:
    """Two epochs, and one step or four of the third."""
    return 2 * math.ceil(NUM_BATCHES / accumulation) + 4 // accumulation


def overrides(choices: Choices) -> list[str]:
    accumulation, validation, stops_early, has_max_steps = choices
    words = [*SETTING, f"+trainer.accumulate_grad_batches={accumulation}"]
    if validation == "each second epoch":
        words.append("+trainer.check_val_every_n_epoch=2")
    if validation == "twice an epoch":
        words.append("+trainer.val_check_interval=0.5")
    if stops_early:
        words.append(f"early_stopping={PATIENCE}")
    if has_max_steps:
        words.append(f"+trainer.max_steps={max_steps(accumulation)}")
    return words


class Reference:
    """Training written out."""

    def __init__(self, choices: Choices):
        self.accumulation, self.validation, self.stops_early, has_max_steps = choices
        config = configuration.compose(SETTING)
        self.data, self.model = load_data(config), instantiate(config.model)
        updates = EPOCHS * math.ceil(NUM_BATCHES / self.accumulation)
        self.total = min(updates, max_steps(self.accumulation)) if has_max_steps else updates
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LR, weight_decay=config.weight_decay
        )
        self.updates = self.batches = self.waited = 0
        self.history: list[dict[str, float]] = []
        self.best, self.best_epoch, self.best_weights = math.inf, 0, {}

    def learning_rate(self) -> float:
        rise = LR_WARMUP * self.total
        if self.updates < rise:
            return LR * (self.updates + 1) / (rise + 1)
        return LR * (1 + math.cos(math.pi * (self.updates - rise) / (self.total - rise))) / 2

    def loss(self, batch) -> torch.Tensor:
        """Bernoulli's negative log-likelihood, and the KL divergence with its weight by hand."""
        share = (self.updates + 1) / self.total
        weight = min(1.0, share / KL_WARMUP) if self.model.training else 1.0
        output = self.model(batch, draw=True)
        p = output.reconstruction.flatten(1)
        likelihood = torch.nn.functional.binary_cross_entropy(
            p, batch.clean.flatten(1), reduction="none"
        ).sum(1)
        return (likelihood + weight * output.bottleneck["kl"].sum(1)).mean()

    @torch.no_grad()
    def validate(self, epoch: int, row: dict[str, float]) -> bool:
        """Whether to stop early."""
        self.model.eval()
        split = self.data.split("val")
        [batch] = EvalLoader(split, self.data.noise, "val", len(split))
        squares = (self.model(batch, draw=False).reconstruction - batch.clean).square()
        reseed(torch.device("cpu"), "evaluate", 0, 0)
        row["val/mse"], row["val/loss"] = float(squares.mean()), float(self.loss(batch))
        self.model.train()
        if row["val/loss"] < self.best:
            self.best, self.best_epoch, self.waited = row["val/loss"], epoch, 0
            self.best_weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        else:
            self.waited += 1
        return self.stops_early and self.waited >= PATIENCE

    def train_epoch(self, epoch: int) -> bool:
        """Whether training has ended."""
        loader = TrainLoader(
            self.data.split("train"), self.data.noise, BATCH, 0, position=lambda: (epoch, 0)
        )
        row: dict[str, float] = {}
        losses, stops = [], False
        for number, batch in enumerate(loader, start=1):
            reseed(torch.device("cpu"), 0, "step", self.batches, 0)
            loss = self.loss(batch)
            (loss / self.accumulation).backward()
            losses.append(loss.item())
            self.batches += 1
            if number % self.accumulation == 0 or number == NUM_BATCHES:
                self.optimizer.param_groups[0]["lr"] = self.learning_rate()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.updates += 1
            ends = number == NUM_BATCHES or self.updates == self.total
            due = {
                "each epoch": ends,
                "each second epoch": ends and epoch % 2 == 1,
                "twice an epoch": number % (NUM_BATCHES // 2) == 0,
            }
            if due[self.validation]:
                stops = self.validate(epoch, row)
            if stops or self.updates == self.total:
                break
        row |= {"epoch": epoch, "step": self.updates, "lr": self.learning_rate()}
        self.history.append(row | {"train/loss": sum(losses) / len(losses)})
        return stops or self.updates == self.total

    def train(self) -> "Reference":
        self.model.train()
        for epoch in range(EPOCHS):
            if self.train_epoch(epoch):
                break
        if not self.best_weights:
            self.best_weights = self.model.state_dict()
        return self


def train_in_child(words: list[str], outputs: Path, phase: str | None) -> tuple[int, Run]:
    """Train in a forked process, which dies in a phase; its exit code, and the newest run."""
    config = compose(*words).copy()
    config.paths.outputs = str(outputs)

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        Kill.phase = phase
        train(config)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    newest = max(outputs.glob("runs/*"), key=lambda path: path.stat().st_ctime)
    return child.exitcode, Run(newest)


def load_tensors(run: Run) -> dict[str, torch.Tensor]:
    """All tensors of both checkpoints, last and best, those of the optimiser too, by their path."""
    tensors = {}

    def collect(node: object, path: str) -> None:
        if isinstance(node, torch.Tensor):
            tensors[path] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                collect(value, f"{path}/{key}")
        elif isinstance(node, list | tuple):
            for index, value in enumerate(node):
                collect(value, f"{path}/{index}")

    for file in (run.last, run.best):
        collect(torch.load(file, weights_only=True), file.name)
    return tensors


def results(run: Run) -> dict[str, object]:
    """All that a run leaves, without times: tensors, history, metrics, TensorBoard's scalars."""
    events = EventAccumulator(str(run.path)).Reload()
    without = ("seconds",)
    return {
        "history": [{k: v for k, v in row.items() if k not in without} for row in run.history],
        "metrics": {k: v for k, v in run.metrics.items() if k not in without},
        "scalars": {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        },
        "tensors": {k: v.tolist() for k, v in load_tensors(run).items()},
    }


def compare_with_reference(choices: Choices, run: Run) -> None:
    expected = Reference(choices).train()
    assert len(run.history) == len(expected.history)
    for actual, row in zip(run.history, expected.history, strict=True):
        assert {k for k in actual if k.startswith("val/")} >= {k for k in row if "val/" in k}
        assert ("val/mse" in actual) == ("val/mse" in row)
        assert {k: actual[k] for k in row} == pytest.approx(row, rel=2e-4, abs=1e-7)
    last, best = (torch.load(path, weights_only=True) for path in (run.last, run.best))
    assert (last["global_step"], last["progress"]["steps"]) == (expected.updates, expected.batches)
    assert best["epoch"] == (expected.best_epoch if expected.best < math.inf else last["epoch"])
    for actual, weights in ((last, expected.model.state_dict()), (best, expected.best_weights)):
        for name, value in weights.items():
            torch.testing.assert_close(actual["state_dict"][name], value, rtol=1e-3, atol=1e-5)
    if expected.best < math.inf:
        assert run.metrics["best/val_loss"] == pytest.approx(expected.best, rel=2e-4)


def check(choices: Choices, folder: Path, phases: Sequence[str] = PHASES) -> Iterator[str]:
    """Check one setting; names each phase in which a kill did come."""
    code, undisturbed = train_in_child(overrides(choices), folder / "undisturbed", None)
    assert code == 0
    compare_with_reference(choices, undisturbed)
    yield from check_kills(overrides(choices), undisturbed, folder, phases)


def check_kills(
    words: list[str], undisturbed: Run, folder: Path, phases: Sequence[str]
) -> Iterator[str]:
    """Check that a run that is killed and resumed leaves what an undisturbed one does."""
    expected = results(undisturbed)
    for phase in phases:
        outputs = folder / phase.replace(" ", "_")
        code, run = train_in_child(words, outputs, phase)
        if code == 0:  # it has no such phase
            continue
        assert code == -signal.SIGKILL
        code, run = train_in_child(words, outputs, None)
        assert code == 0
        actual = results(run)
        for name, value in expected.items():
            assert actual[name] == value, f"{name} after a kill in {phase}"
        yield phase


def check_family(family: str, folder: Path, phases: Sequence[str]) -> Iterator[str]:
    """Check that a tiny run of a family survives kills; names the phases in which they came."""
    words = [*SMALL, *small_family(family), "epochs=2"]
    code, undisturbed = train_in_child(words, folder / "undisturbed", None)
    assert code == 0
    yield from check_kills(words, undisturbed, folder, phases)


def main() -> None:
    torch.set_num_threads(1)
    quiet_libraries()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    failed = 0
    for choices in ALL:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = ", ".join(check(choices, Path(folder)))
            except AssertionError as error:
                failed += 1
                outcome = f"DIFFERENT {error}"
        print(*choices, "·", outcome, flush=True)
    print(f"{len(ALL)} settings, {failed} different")
    sys.exit(failed > 0)


if __name__ == "__main__":
    from tests import steps  # whose Kill the configuration names

    steps.main()
