"""Contender (d) of `tests.benchmarks.training_speed`: pythae's trainer.

    python pythae_trainer.py IMAGES.pt BATCH NOISE EPOCHS AMP      prints SECONDS <of each epoch>

The script runs in an environment of its own: pythae pins other versions of what this package
needs. It imports nothing of this package.
"""

import sys
import tempfile
import time
from itertools import pairwise

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import AE, AEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn

SIGMA = 0.2


def stack(*sizes):
    pairs = pairwise(sizes)
    return [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU())]


class Encoder(BaseEncoder):
    def __init__(self, noise: bool):
        super().__init__()
        self.noise = noise
        self.net = nn.Sequential(*stack(784, 500, 250, 100), nn.Linear(100, 32))

    def forward(self, x):
        if self.noise:
            x = (x + SIGMA * torch.randn_like(x)).clamp(0, 1)
        return ModelOutput(embedding=self.net(x.flatten(1)))


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(*stack(32, 100, 250, 500), nn.Linear(500, 784), nn.Sigmoid())

    def forward(self, z):
        return ModelOutput(reconstruction=self.net(z).reshape(-1, 1, 28, 28))


class TimedTrainer(BaseTrainer):
    seconds = ()

    def train_step(self, epoch):
        start = time.perf_counter()
        loss = super().train_step(epoch)
        self.seconds = (*self.seconds, time.perf_counter() - start)
        return loss


def main() -> None:
    file, batch, noise, epochs, amp = sys.argv[1], *map(int, sys.argv[2:6])
    images = torch.load(file).float().div(255)
    model = AE(AEConfig(input_dim=(1, 28, 28), latent_dim=32), Encoder(bool(noise)), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=1e-3,
            per_device_train_batch_size=batch,
            per_device_eval_batch_size=batch,
            optimizer_cls="AdamW",
            amp=bool(amp),
        )
        data = BaseDataset(images, torch.zeros(len(images)))
        trainer = TimedTrainer(model, data, training_config=settings)
        trainer.train()
    print("SECONDS", *trainer.seconds)


if __name__ == "__main__":
    main()
