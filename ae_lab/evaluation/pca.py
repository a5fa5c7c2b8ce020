"""Principal component analysis: the best linear autoencoder, the yardstick of every table."""

from functools import cache
from math import prod

import torch

from ae_lab.data.images import pixels
from ae_lab.data.module import ImageData
from ae_lab.inference.loaded_run import cached_for_data
from ae_lab.tracking.run import Run

SMALL = 2000  # pixels, all channels, of an image whose every component is found
MOST = 256  # components found of a larger one
MOST_IMAGES = 10_000  # that it is then fitted on


class PCA:
    """Fitted on clean training images, judged on test images as a model sees them."""

    def __init__(self, data: ImageData):
        from sklearn.decomposition import PCA as Decomposition

        train, batch = data.split("train"), data.evaluated("test")
        self.clean, self.seen = batch.clean.flatten(1), batch.seen.flatten(1)
        small = batch.clean[0].numel() <= SMALL
        images = train.images if small else train.images[:MOST_IMAGES]
        values = pixels(images).flatten(1).numpy()
        # All components of a small image, the leading ones of a large one: its covariance matrix
        # would have more entries than memory.
        fitted = (
            Decomposition(svd_solver="covariance_eigh")
            if small
            else Decomposition(min(MOST, *values.shape), svd_solver="randomized", random_state=0)
        )
        fitted.fit(values)
        self.mean = torch.from_numpy(fitted.mean_).float()
        self.components = torch.from_numpy(fitted.components_).float()

    @cache  # noqa: B019 — one per data set and noise, kept for the life of the process
    def mse(self, latent: int) -> float | None:
        """Test MSE per pixel of the first `latent` components; None past their number."""
        if latent > len(self.components):
            return None
        basis = self.components[:latent]
        loaded = self.mean + (self.seen - self.mean) @ basis.T @ basis
        return float((loaded - self.clean).square().mean())


def pca_mse(run: Run) -> float | None:
    """The test MSE of PCA with as many components as values reach the run's decoder.

    None where these are too many.

    Raises:
        UserError: the data that the run was made from is gone.
    """
    passed = int(run.metrics.get("passed", run.settings["latent"]))
    if passed > (MOST if (size := prod(run.config.data.shape)) > SMALL else size):
        return None
    return cached_for_data(run, PCA, "pca").mse(passed)
