"""A small classifier of a data set's own labels, by which generated images are scored.

Trained once on the clean training images and stored in the cache, in a file named by the data's
fingerprint and the settings below, with a checksum. Its accuracy on real test images is stored
with it: without that, what it says of generated images means nothing.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import UserError
from ae_lab.core.files import replace_atomically, write_text
from ae_lab.data import Batch, Corruption, ImageData, ImageSet
from ae_lab.data.images import to_pixels
from ae_lab.inference.loaded_run import NotApplicable
from ae_lab.tracking.identity import digest
from ae_lab.training.optimizers import adamw, warmup_cosine
from ae_lab.training.trainer import quiet_libraries

SETTINGS = {"version": 1, "width": 32, "features": 128, "epochs": 6, "batch_size": 128, "lr": 2e-3}


class Classifier(pl.LightningModule):
    """Three strided 3×3 convolutions, a layer of features, one logit for each class."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        width, features = SETTINGS["width"], SETTINGS["features"]
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
        optimizer = adamw(
            self.parameters(), lr=SETTINGS["lr"], weight_decay=0.05, betas=(0.9, 0.999)
        )
        total = int(self.trainer.estimated_stepping_batches)
        return [optimizer], [
            {"scheduler": warmup_cosine(optimizer, total, warmup=0.1), "interval": "step"}
        ]


@dataclass
class FeatureClassifier:
    """A trained classifier in evaluation mode, and its accuracy on the real test images."""

    net: Classifier
    accuracy: float

    @torch.no_grad()
    def classify(self, images: Tensor, chunk: int = 500) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) → features (N, 128) and probabilities of the classes (N, K)."""
        parts = [self.net(part) for part in images.split(chunk)]
        features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
        return features, logits.softmax(1)


def load_or_train_classifier(images: ImageSet, cache: Path) -> FeatureClassifier:
    """The classifier of a data set, from the cache or trained now.

    Raises:
        NotApplicable: the images have several labels each, or none.
        UserError: the cache cannot be written.
    """
    if not images.train.has_single_labels:
        raise NotApplicable(
            f"sample metrics need exactly one label per image, which {images.title} does not have"
        )
    file = cache / f"classifier-{digest([images.fingerprint, SETTINGS])}.pt"
    state = read_checked(file)
    if state is None:
        print(f"training a classifier of {images.title}, once", flush=True)
        net = train_classifier(images)
        state = {"net": net.state_dict(), "accuracy": measure_accuracy(net, images)}
        write_checked(file, state)
    net = Classifier(images.train.images.shape[1], images.train.labels.shape[1])
    net.load_state_dict(state["net"])
    return FeatureClassifier(net.eval(), state["accuracy"])


def train_classifier(images: ImageSet) -> Classifier:
    """A new classifier, trained in full precision from a seed of its own."""
    quiet_libraries()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape, classes = images.train.images.shape[1:], images.train.labels.shape[1]
        net = Classifier(shape[0], classes)
        batch_size = SETTINGS["batch_size"]
        data = ImageData(images, Corruption(), shape, classes, batch_size, random_shift=1)
        trainer = pl.Trainer(
            max_epochs=SETTINGS["epochs"],
            devices=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(net, data)
    return net.cpu().eval()


def measure_accuracy(net: Classifier, images: ImageSet) -> float:
    """The share of the test images whose label is the most probable one."""
    probability = FeatureClassifier(net, 0.0).classify(to_pixels(images.test.images))[1]
    return float((probability.argmax(1) == images.test.labels.argmax(1)).float().mean())


def write_checked(file: Path, state: dict) -> None:
    """Write a file and its checksum beside it, each complete or not at all."""
    try:
        with replace_atomically(file) as beside:
            torch.save(state, beside)
            write_text(file.with_suffix(".sha256"), checksum(beside))
    except OSError as error:
        raise UserError(
            f"cannot store the classifier in {file.parent} ({error}): set AE_LAB_CACHE"
        ) from error


def read_checked(file: Path) -> dict | None:
    """The content of a file of `write_checked`; None if it is missing or damaged."""
    expected = file.with_suffix(".sha256")
    if not file.is_file() or not expected.is_file() or expected.read_text() != checksum(file):
        return None
    return torch.load(file, weights_only=True)


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
