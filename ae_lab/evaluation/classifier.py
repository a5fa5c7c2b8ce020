"""A small classifier of a data set's own labels: the judge of generated images.

Trained once on the clean training images and kept in the cache, named by the data's fingerprint
and by what made it, with a checksum. Its accuracy on real test images is kept with it: what it says
of generated images means nothing without.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import UserError
from ae_lab.data.corruptions import Noise
from ae_lab.data.images import Batch, ImageSet, pixels
from ae_lab.data.module import ImageData
from ae_lab.tracking.identity import digest
from ae_lab.training.optimizers import adamw, warmup_cosine

RECIPE = {"version": 1, "width": 32, "features": 128, "epochs": 6, "batch_size": 128, "lr": 2e-3}


class Classifier(pl.LightningModule):
    """Three strided 3×3 convolutions, a layer of features, one logit for each class."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        width, features = RECIPE["width"], RECIPE["features"]
        layers: list[nn.Module] = []
        for inputs, outputs in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(4 * width * 16, features)]
        self.body = nn.Sequential(*layers, nn.ReLU())
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) → features (B, 128) and logits (B, K)."""
        features = self.body(images)
        return features, self.head(features)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch.clean)[1], batch.label)

    def configure_optimizers(self):
        optimizer = adamw(self.parameters(), lr=RECIPE["lr"], weight_decay=0.05, betas=(0.9, 0.999))
        total = int(self.trainer.estimated_stepping_batches)
        return [optimizer], [
            {"scheduler": warmup_cosine(optimizer, total, warmup=0.1), "interval": "step"}
        ]


@dataclass
class Judge:
    """A trained classifier in evaluation mode, and its accuracy on the real test images."""

    net: Classifier
    accuracy: float

    @torch.no_grad()
    def look(self, images: Tensor, chunk: int = 500) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) → features (N, 128) and probabilities of the classes (N, K)."""
        parts = [self.net(images[start : start + chunk]) for start in range(0, len(images), chunk)]
        features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
        return features, logits.softmax(1)


def judge(images: ImageSet, cache: Path) -> Judge:
    """The classifier of a data set, from the cache or trained now.

    Raises:
        UserError: the images have several labels each, or none; or the cache cannot be written.
    """
    if not images.train.single:
        raise UserError(f"{images.title} has no single label an image: there is no one to judge")
    file = cache / f"classifier-{digest([images.fingerprint, RECIPE])}.pt"
    state = load(file)
    if state is None:
        print(f"training the classifier that judges {images.title}, once", flush=True)
        net = trained(images)
        state = {"net": net.state_dict(), "accuracy": accuracy_of(Judge(net, 0.0), images)}
        store(file, state)
    net = Classifier(images.train.images.shape[1], images.train.labels.shape[1])
    net.load_state_dict(state["net"])
    return Judge(net.eval(), state["accuracy"])


def trained(images: ImageSet) -> Classifier:
    """A new classifier, trained in full precision from a seed of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape, classes = images.train.images.shape[1:], images.train.labels.shape[1]
        net = Classifier(shape[0], classes)
        data = ImageData(images, Noise(), shape, classes, RECIPE["batch_size"], shift=1)
        trainer = pl.Trainer(
            max_epochs=RECIPE["epochs"],
            devices=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(net, data)
    return net.cpu().eval()


def accuracy_of(judge: Judge, images: ImageSet) -> float:
    guessed = judge.look(pixels(images.test.images))[1].argmax(1)
    return float((guessed == images.test.labels.argmax(1)).float().mean())


def store(file: Path, state: dict) -> None:
    """Write a file and its checksum beside it, each complete or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".part")
        torch.save(state, beside)
        file.with_suffix(".sha256").write_text(checksum(beside))
        beside.replace(file)
    except OSError as error:
        raise UserError(
            f"cannot keep the classifier in {file.parent} ({error}): set AE_LAB_CACHE"
        ) from error


def load(file: Path) -> dict | None:
    """What `store` has written; None if there is nothing, or something that is damaged."""
    mark = file.with_suffix(".sha256")
    if not file.is_file() or not mark.is_file() or mark.read_text() != checksum(file):
        return None
    return torch.load(file, weights_only=True)


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
