"""Training speed against other ways to train the same network.

    python -m tests.benchmarks.training_speed

The network is the MLP [500, 250, 100]-32 with ReLU, the data MNIST in full if it is there, else
its embedded subset. Contenders, all at the precision that `auto` stands for:

a  this framework through Lightning: one optimiser step a batch, logging, checkpoints, progress bar
b  a hand-written loop: data in memory as uint8, fused AdamW, the same schedule, nothing else
c  the usual script: torchvision's ToTensor per image, a DataLoader, a LightningModule; c2 with
   two worker processes
d  pythae's trainer, with --pythae naming the Python of an environment that holds it

They take turns in one process (d in one of its own), round after round, a and b epoch by epoch;
a ratio is that of two epochs at the same place of the order. Only the time of training epochs
counts, without validation, and without the first epoch of each turn, which warms up.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ae_lab.core import configuration, hardware
from ae_lab.data import ImageSet
from ae_lab.data.module import load_data
from ae_lab.tracking.run import Run
from ae_lab.training.trainer import build_trainer, quiet_libraries

SIGMA = 0.2
PRECISION = hardware.resolve_precision("auto", "auto", pixels=128 * 784)
CONTENDERS = ("b", "c", "c2")
HIDDEN = (500, 250, 100)
LATENT = 32
Rates = dict[str, list[float]]  # samples per second of each contender, epoch by epoch


def build_network() -> nn.Sequential:
    """The same layers as model=mlp depth=3 latent=32, written out."""
    sizes = [784, *HIDDEN, LATENT, *reversed(HIDDEN), 784]
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if number not in (len(HIDDEN), len(sizes) - 2):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Sigmoid())


class Clock(pl.Callback):
    """Seconds of each training epoch, with checkpoints and logging, without validation.

    `between` is called before each epoch, and not counted.
    """

    def __init__(self, between: Callable[[], object] = lambda: None) -> None:
        self.seconds: list[float] = []
        self.between = between

    def stop(self) -> None:
        if self.seconds:  # else it is the validation before all training
            self.seconds[-1] += time.perf_counter() - self.started

    def on_train_epoch_start(self, trainer, module) -> None:
        self.stop()
        self.between()
        self.seconds.append(0.0)
        self.started = time.perf_counter()

    def on_validation_start(self, trainer, module) -> None:
        self.stop()

    def on_validation_end(self, trainer, module) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, trainer, module) -> None:
        self.stop()


def rates_of(seconds: Sequence[float], images: ImageSet) -> list[float]:
    """Images per second in each epoch but the first."""
    return [len(images.train) / each for each in seconds[1:]]


def measure_framework(
    images: ImageSet, batch: int, noise: bool, epochs: int, with_loop: bool
) -> Rates:
    """(a), as a person runs it; the clock is one more callback.

    `with_loop` measures (b) too, an epoch of each in turn: a host's speed drifts by more than they
    differ.
    """
    loop = train_by_hand(images, batch, noise, epochs)
    loop_seconds: list[float] = []
    clock = Clock(between=lambda: loop_seconds.append(next(loop)) if with_loop else None)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"data={images.name}", f"batch_size={batch}", "depth=3", f"latent={LATENT}"]
        overrides += [f"noise={'gaussian' if noise else 'none'}", f"epochs={epochs}"]
        config = configuration.compose([*overrides, f"paths.outputs={folder}"])
        data, model = load_data(config), instantiate(config.model)
        trainer = build_trainer(config, Run(Path(folder) / "runs" / "speed"), 0, model)
        trainer.callbacks.append(clock)
        trainer.fit(model, data)
    rates = {"a": rates_of(clock.seconds, images)}
    return rates | {"b": rates_of(loop_seconds, images)} if with_loop else rates


def train_by_hand(images: ImageSet, batch: int, noise: bool, epochs: int) -> Iterator[float]:
    """(b), the seconds of each epoch."""
    device = torch.device(hardware.resolve_accelerator("auto"))
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(PRECISION)
    data = images.train.images.flatten(1).to(device)
    network = build_network().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    total = epochs * -(-len(data) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    for _ in range(epochs):
        synchronise(device)
        start = time.perf_counter()
        order = torch.randperm(len(data)).to(device)
        for index in order.split(batch):
            clean = data[index].float().div_(255)
            corrupted = (clean + SIGMA * torch.randn_like(clean)).clamp_(0, 1) if noise else clean
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                output = network(corrupted)
            loss = nn.functional.mse_loss(output.float(), clean, reduction="sum") / len(clean)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
        synchronise(device)
        yield time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Digits(Dataset):
    """What torchvision's MNIST does for an item: an array to a PIL image to a tensor."""

    def __init__(self, images: ImageSet, noise: bool):
        from torchvision.transforms import ToTensor

        self.images, self.noise, self.transform = images.train.images[:, 0], noise, ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        from PIL import Image

        clean = self.transform(Image.fromarray(self.images[item].numpy()))
        if not self.noise:
            return clean, clean
        return clean, (clean + SIGMA * torch.randn_like(clean)).clamp(0, 1)


class Script(pl.LightningModule):
    """The LightningModule that tutorials write."""

    def __init__(self, total: int):
        super().__init__()
        self.network, self.total = build_network(), total

    def training_step(self, batch, batch_idx):
        clean, corrupted = batch
        output = self.network(corrupted.flatten(1))
        loss = nn.functional.mse_loss(output, clean.flatten(1))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.total)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def measure_script(images: ImageSet, batch: int, noise: bool, epochs: int, workers: int) -> Rates:
    """(c), or with workers (c2)."""
    loader = DataLoader(
        Digits(images, noise),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=epochs,
            precision=PRECISION,
            devices=1,
            callbacks=[clock],
            default_root_dir=folder,
            enable_model_summary=False,
        )
        trainer.fit(Script(epochs * len(loader)), loader)
    return {"c2" if workers else "c": rates_of(clock.seconds, images)}


def measure_pythae(images: ImageSet, batch: int, noise: bool, epochs: int, python: str) -> Rates:
    """(d), in its own process, since its pins are old."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(images.train.images, Path(folder) / "images.pt")
        amp = PRECISION != "32-true" and torch.cuda.is_available()
        words = [f"{folder}/images.pt", batch, int(noise), epochs, int(amp)]
        result = subprocess.run(
            [python, str(Path(__file__).with_name("pythae_trainer.py")), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
    lines = [line for line in result.stdout.splitlines() if line.startswith("SECONDS")]
    if not lines:
        sys.exit(f"error: pythae could not run: {result.stderr.strip().splitlines()[-1:]}")
    return {"d": rates_of([float(word) for word in lines[0].split()[1:]], images)}


def measure(contenders: Sequence[Callable[..., Rates]], rounds: int, **setting) -> Rates:
    """The rates of each contender over all rounds; each round begins with another contender."""
    rates: Rates = {}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            for name, values in contender(**setting).items():
                rates.setdefault(name, []).extend(values)
    return dict(sorted(rates.items()))


def print_results(results: list[dict], images: ImageSet) -> None:
    print(
        f"\nMLP [500, 250, 100]-32, {images.title}, {PRECISION} on "
        f"{hardware.resolve_accelerator('auto')}, {torch.get_num_threads()} threads. "
        "Training samples/s: median over epochs; a/x: median over pairs of epochs [quartiles]."
    )
    for result in results:
        rates = result["rates"]
        print(f"batch {result['batch']}, {'Gaussian noise' if result['noise'] else 'no noise'}")
        for name, values in rates.items():
            ratios = [a / x for a, x in zip(rates["a"], values, strict=True)]
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            ratio = f"a/{name} {middle:5.2f} [{low:.2f}, {high:.2f}]" if name != "a" else ""
            print(f"  {name:3s}{statistics.median(values):12,.0f}   {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training_speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of each turn, the first not counted")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--against", nargs="*", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument(
        "--pythae", metavar="PYTHON", help="and against d: of an environment that holds pythae"
    )
    parser.add_argument("--json", metavar="FILE", help="write every single rate")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.epochs < 2:
        parser.error("give at least 1 round and 2 epochs: the first epoch is not counted")
    quiet_libraries()
    images = instantiate(configuration.compose().data.source)
    contenders = [partial(measure_framework, with_loop="b" in arguments.against)]
    for name, workers in (("c", 0), ("c2", 2)):
        if name in arguments.against:
            contenders.append(partial(measure_script, workers=workers))
    if arguments.pythae:
        contenders.append(partial(measure_pythae, python=arguments.pythae))
    results = []
    for batch, noise in product(arguments.batches, (False, True)):
        setting = {"batch": batch, "noise": noise}
        run_all = partial(measure, contenders, arguments.rounds, epochs=arguments.epochs)
        results.append(setting | {"rates": run_all(images=images, **setting)})
    print_results(results, images)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
