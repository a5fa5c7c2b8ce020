"""Training speed against other ways to train the same network: `python -m ae_lab.bench`.

The network is the MLP [500, 250, 100]-32 with ReLU, the data MNIST in full if it is there, else
its embedded subset. Contenders, all at the precision that `auto` stands for:

a  this framework through Lightning: one optimiser step a batch, logging, checkpoints, progress bar
b  a hand-written loop: data in memory as uint8, fused AdamW, the same schedule, nothing else
c  the usual script: torchvision's ToTensor per image, a DataLoader, a LightningModule; c2 with
   two worker processes
d  pythae's trainer, with --pythae naming the Python of an environment that holds it

They take turns in one process (d in one of its own), round after round, a and b epoch by epoch;
ratios are those of one round. Counted is the time of training epochs, validation left out, after
one to warm up.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from ae_lab import config, hardware, train
from ae_lab.data.images import ImageSet

SIGMA = 0.2
PRECISION = hardware.precision("auto", "auto", pixels=128 * 784)
HIDDEN = (500, 250, 100)
LATENT = 32


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
    """Seconds of training epochs after the first, checkpoints and logging in, validation out.

    `between` is called before each epoch, and not counted.
    """

    def __init__(self, between: Callable[[], object] = lambda: None) -> None:
        self.seconds, self.counting, self.between = 0.0, False, between

    def tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self.since if self.counting else 0.0
        self.since = now

    def on_train_epoch_start(self, trainer, module) -> None:
        if self.counting:
            self.tick()
        self.between()
        self.since, self.counting = time.perf_counter(), trainer.current_epoch > 0

    def on_validation_start(self, trainer, module) -> None:
        self.tick()

    def on_validation_end(self, trainer, module) -> None:
        self.since = time.perf_counter()

    def on_train_end(self, trainer, module) -> None:
        self.tick()

    def rate(self, images: int) -> float:
        """Images per second, of so many counted."""
        return images / self.seconds


def ours(
    images: ImageSet,
    batch: int,
    noise: bool,
    epochs: int,
    between: Callable[[], object] = lambda: None,
) -> float:
    """(a), as a person runs it; the clock is one more callback."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [f"data={images.name}", f"batch_size={batch}", "depth=3", f"latent={LATENT}"]
        asked += [f"noise={'gaussian' if noise else 'none'}", f"epochs={epochs}"]
        settings = config.composed([*asked, f"paths.outputs={folder}"])
        data, model = instantiate(settings.data), instantiate(settings.model)
        run, _ = train.claim(settings, data.images)
        trainer = train.build_trainer(settings, run, step=0)
        clock = Clock(between)
        trainer.callbacks.append(clock)
        train.skip_idle_hooks(model, *trainer.callbacks)  # as in a run
        trainer.fit(model, data)
        return clock.rate((epochs - 1) * len(images.train))


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


def by_hand(images: ImageSet, epochs: int, **setting) -> float:
    """(b)"""
    _, *seconds = epochs_by_hand(images, epochs=epochs, **setting)
    return len(seconds) * len(images.train) / sum(seconds)


def in_turns(images: ImageSet, epochs: int, **setting) -> tuple[float, float]:
    """(a) and (b), an epoch of each in turn: a host's speed drifts by more than they differ."""
    loop, seconds = epochs_by_hand(images, epochs=epochs, **setting), []
    rate = ours(images, epochs=epochs, between=lambda: seconds.append(next(loop)), **setting)
    return rate, (epochs - 1) * len(images.train) / sum(seconds[1:])


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


def usual(images: ImageSet, batch: int, noise: bool, epochs: int, workers: int) -> float:
    """(c)"""
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
    return clock.rate((epochs - 1) * len(images.train))


def pythae(images: ImageSet, batch: int, noise: bool, epochs: int, python: str) -> float:
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
    rates = [line for line in done.stdout.splitlines() if line.startswith("RATE")]
    if not rates:
        sys.exit(f"error: pythae could not run: {done.stderr.strip().splitlines()[-1:]}")
    return float(rates[0].split()[1])


def measure(contenders: dict[str, Callable], rounds: int, **setting) -> dict[str, list[float]]:
    """Samples per second of each contender in each round; the order turns with the rounds."""
    rates: dict[str, list[float]] = {name: [] for names in contenders for name in names.split()}
    turns = list(contenders)
    for number in range(rounds):
        turn = number % len(turns)
        for names in turns[turn:] + turns[:turn]:
            found = contenders[names](**setting)
            for name, rate in zip(names.split(), np.atleast_1d(found), strict=True):
                rates[name].append(float(rate))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ae_lab.bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of each turn, the first not counted")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--pythae", metavar="PYTHON", help="of an environment that holds pythae")
    parser.add_argument("--json", metavar="FILE", help="write every single rate")
    parser.add_argument("--contenders", nargs="+", default=["a", "b", "c", "c2", "d"])
    asked = parser.parse_args()
    train.quiet()
    images = instantiate(config.composed().data.source)
    contenders: dict[str, Callable] = {
        "a": ours,
        "b": by_hand,
        "c": lambda **setting: usual(**setting, workers=0),
        "c2": lambda **setting: usual(**setting, workers=2),
    }
    if asked.pythae:
        contenders["d"] = lambda **setting: pythae(**setting, python=asked.pythae)
    contenders = {name: run for name, run in contenders.items() if name in asked.contenders}
    if {"a", "b"} <= contenders.keys():
        both: dict[str, Callable] = {"a b": in_turns}
        contenders = both | {k: run for k, run in contenders.items() if k not in ("a", "b")}
    results = []
    for batch in asked.batches:
        for noise in (False, True):
            rates = measure(
                contenders,
                asked.rounds,
                images=images,
                batch=batch,
                noise=noise,
                epochs=asked.epochs,
            )
            results.append({"batch": batch, "noise": noise, "rates": rates})
    report(results, images)
    if asked.json:
        Path(asked.json).write_text(json.dumps(results, indent=1))


def report(results: list[dict], images: ImageSet) -> None:
    print(
        f"\nMLP [500, 250, 100]-32, {images.title}, {PRECISION} on "
        f"{hardware.accelerator('auto')}, {torch.get_num_threads()} threads. "
        "Training samples/s: median; a/x: median of the rounds' ratios [lowest, highest]."
    )
    for result in results:
        rates = result["rates"]
        print(f"batch {result['batch']}, {'Gaussian noise' if result['noise'] else 'no noise'}")
        for name, values in rates.items():
            ratios = sorted(a / x for a, x in zip(rates["a"], values, strict=True))
            middle = statistics.median(ratios)
            shown = f"a/{name} {middle:5.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
            print(f"  {name:3s}{statistics.median(values):12,.0f}   {shown if name != 'a' else ''}")


if __name__ == "__main__":
    main()
