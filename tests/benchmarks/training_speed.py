"""Training speed against other ways to train the same network: `python -m tests.benchmarks.training_speed`.

The network is the MLP [500, 250, 100]-32 with ReLU, the data MNIST in full if it is there, else
its embedded subset. Contenders, all at the precision that `auto` stands for:

a  this framework through Lightning: one optimiser step a batch, logging, checkpoints, progress bar
b  a hand-written loop: data in memory as uint8, fused AdamW, the same schedule, nothing else
c  the usual script: torchvision's ToTensor per image, a DataLoader, a LightningModule; c2 with
   two worker processes
d  pythae's trainer, with --pythae naming the Python of an environment that holds it

They take turns in one process (d in one of its own), round after round, a and b epoch by epoch;
a ratio is that of two epochs at the same place of the order. Counted is the time of training
epochs, validation left out, after one of each turn to warm up.
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
from torchvision.transforms import ToTensor

from ae_lab import train
from ae_lab.core import configuration, hardware
from ae_lab.data.images import ImageSet

SIGMA = 0.2
PRECISION = hardware.precision("auto", "auto", pixels=128 * 784)
AGAINST = ("b", "c", "c2")
HIDDEN = (500, 250, 100)
LATENT = 32
Rates = dict[str, list[float]]  # samples per second of each contender, epoch by epoch


def network() -> nn.Sequential:
    """The same layers as model=mlp depth=3 latent=32, written out."""
    sizes = [784, *HIDDEN, LATENT, *reversed(HIDDEN), 784]
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if number not in (len(HIDDEN), len(sizes) - 2):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Sigmoid())


class Clock(pl.Callback):
    """Seconds of each training epoch, checkpoints and logging in, validation out.

    `between` is called before each epoch, and not counted.
    """

    def __init__(self, between: Callable[[], object] = lambda: None) -> None:
        self.seconds: list[float] = []
        self.between = between

    def tick(self) -> None:
        if self.seconds:  # else it is the validation before all training
            self.seconds[-1] += time.perf_counter() - self.since

    def on_train_epoch_start(self, trainer, module) -> None:
        self.tick()
        self.between()
        self.seconds.append(0.0)
        self.since = time.perf_counter()

    def on_validation_start(self, trainer, module) -> None:
        self.tick()

    def on_validation_end(self, trainer, module) -> None:
        self.since = time.perf_counter()

    def on_train_end(self, trainer, module) -> None:
        self.tick()


def rates(seconds: Sequence[float], images: ImageSet) -> list[float]:
    """Images per second in each epoch but the first."""
    return [len(images.train) / each for each in seconds[1:]]


def ours(images: ImageSet, batch: int, noise: bool, epochs: int, by_hand: bool) -> Rates:
    """(a), as a person runs it; the clock is one more callback.

    With `by_hand` (b) too, an epoch of each in turn: a host's speed drifts by more than they
    differ.
    """
    loop, seconds = epochs_by_hand(images, batch, noise, epochs), []
    clock = Clock(between=lambda: seconds.append(next(loop)) if by_hand else None)
    with tempfile.TemporaryDirectory() as folder:
        asked = [f"data={images.name}", f"batch_size={batch}", "depth=3", f"latent={LATENT}"]
        asked += [f"noise={'gaussian' if noise else 'none'}", f"epochs={epochs}"]
        settings = configuration.compose([*asked, f"paths.outputs={folder}"])
        data, model = instantiate(settings.data), instantiate(settings.model)
        run, _ = train.claim(settings, data.images)
        trainer = train.build_trainer(settings, run, step=0)
        trainer.callbacks.append(clock)
        train.skip_idle_hooks(model, *trainer.callbacks)  # as in a run
        trainer.fit(model, data)
    found = {"a": rates(clock.seconds, images)}
    return found | {"b": rates(seconds, images)} if by_hand else found


def epochs_by_hand(images: ImageSet, batch: int, noise: bool, epochs: int) -> Iterator[float]:
    """(b), the seconds of each epoch."""
    device = torch.device(hardware.accelerator("auto"))
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(PRECISION)
    data = images.train.images.flatten(1).to(device)
    net = network().to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    total = epochs * -(-len(data) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    for _ in range(epochs):
        synchronise(device)
        start = time.perf_counter()
        order = torch.randperm(len(data)).to(device)
        for index in order.split(batch):
            clean = data[index].float().div_(255)
            seen = (clean + SIGMA * torch.randn_like(clean)).clamp_(0, 1) if noise else clean
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                restored = net(seen)
            loss = nn.functional.mse_loss(restored.float(), clean, reduction="sum") / len(clean)
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
        self.net, self.total = network(), total

    def training_step(self, batch, batch_idx):
        clean, seen = batch
        restored = self.net(seen.flatten(1))
        loss = nn.functional.mse_loss(restored, clean.flatten(1))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.total)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def usual(images: ImageSet, batch: int, noise: bool, epochs: int, workers: int) -> Rates:
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
    return {"c2" if workers else "c": rates(clock.seconds, images)}


def pythae(images: ImageSet, batch: int, noise: bool, epochs: int, python: str) -> Rates:
    """(d), in its own process, since its pins are old."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(images.train.images, Path(folder) / "images.pt")
        amp = PRECISION != "32-true" and torch.cuda.is_available()
        words = [f"{folder}/images.pt", batch, int(noise), epochs, int(amp)]
        done = subprocess.run(
            [python, str(Path(__file__).with_name("bench_pythae.py")), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
    seconds = [line for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not seconds:
        sys.exit(f"error: pythae could not run: {done.stderr.strip().splitlines()[-1:]}")
    return {"d": rates([float(each) for each in seconds[0].split()[1:]], images)}


def measure(contenders: Sequence[Callable[..., Rates]], rounds: int, **setting) -> Rates:
    """What each contender did, over all rounds; with each round another one begins."""
    found: Rates = {}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            for name, values in contender(**setting).items():
                found.setdefault(name, []).extend(values)
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training_speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of each turn, the first not counted")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--against", nargs="*", default=list(AGAINST), choices=AGAINST)
    parser.add_argument(
        "--pythae", metavar="PYTHON", help="and against d: of an environment that holds pythae"
    )
    parser.add_argument("--json", metavar="FILE", help="write every single rate")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.epochs < 2:
        parser.error("give at least 1 round and 2 epochs: the first epoch is not counted")
    train.quiet()
    hardware.huge_pages()  # as `train` does, and for (b) and (c) too: they share the process
    images = instantiate(configuration.compose().data.source)
    contenders = [partial(ours, by_hand="b" in asked.against)]
    contenders += [
        partial(usual, workers=n) for name, n in (("c", 0), ("c2", 2)) if name in asked.against
    ]
    if asked.pythae:
        contenders.append(partial(pythae, python=asked.pythae))
    results = []
    for batch, noise in product(asked.batches, (False, True)):
        setting = {"batch": batch, "noise": noise}
        found = measure(contenders, asked.rounds, images=images, epochs=asked.epochs, **setting)
        results.append(setting | {"rates": found})
    report(results, images)
    if asked.json:
        Path(asked.json).write_text(json.dumps(results, indent=1))


def report(results: list[dict], images: ImageSet) -> None:
    print(
        f"\nMLP [500, 250, 100]-32, {images.title}, {PRECISION} on "
        f"{hardware.accelerator('auto')}, {torch.get_num_threads()} threads. "
        "Training samples/s: median over epochs; a/x: median over pairs of epochs [quartiles]."
    )
    for result in results:
        found = result["rates"]
        print(f"batch {result['batch']}, {'Gaussian noise' if result['noise'] else 'no noise'}")
        for name, values in found.items():
            ratios = [a / x for a, x in zip(found["a"], values, strict=True)]
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            shown = f"a/{name} {middle:5.2f} [{low:.2f}, {high:.2f}]"
            print(f"  {name:3s}{statistics.median(values):12,.0f}   {shown if name != 'a' else ''}")


if __name__ == "__main__":
    main()
