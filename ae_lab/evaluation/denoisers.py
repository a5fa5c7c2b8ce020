"""Classical denoisers on the same images and the same noise as a run."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.data import Batch
from ae_lab.data.corruptions.corruption import is_map
from ae_lab.evaluation.classical import METHODS, Method
from ae_lab.evaluation.evaluator import Evaluation, summarize
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.training.metrics import decibels, image_metrics, psnr

DEFAULT_METHODS = (
    "median",
    "switching_median",
    "non_local_means",
    "total_variation",
    "wavelet",
    "bm3d",
)
MISSING = 0.5  # a map above which a pixel is missing; below are levels of noise
Scores = dict[str, Tensor]  # of each image, (N,), by the metric's name
GAINS = {"run_gain": "psnr", "run_gain_missing": "psnr_missing"}


class DenoiserEvaluator:
    """MSE, PSNR and SSIM of a split as corrupted, restored by each method and by the run, on all
    or the first `n` images. Where parts of images are missing, PSNR of these parts too.

    Each method has the strength of highest mean PSNR on `num_tuning_images` validation images, or
    that of `strengths`, which is by name of the method. Images of different sizes have no
    validation images: a method is tuned on the first of those tested, in its favour. `run_gain` is
    the PSNR of the run minus that of the row, paired by image, and `run_gain_missing` the same of
    what was missing, of the images that miss something. With `self_ensemble` the run's last row is
    the mean of eight passes, its gains too, and a row before it is one pass.

    Raises:
        UserError: an unknown method, a package that is missing, or a number that is not >= 1.
    """

    def __init__(
        self,
        methods: tuple[str, ...] | list[str] = DEFAULT_METHODS,
        num_tuning_images: int = 16,
        n: int | None = None,
        split: str = "test",
        strengths: dict[str, float | int] | None = None,
        self_ensemble: bool = False,
    ):
        self.methods, self.strengths = find_methods(methods), dict(strengths or {})
        for name in self.strengths:
            check_choice("evaluator.denoisers.strengths", name, self.methods)
        self.num_tuning_images = check_int(
            "evaluator.denoisers.num_tuning_images", num_tuning_images
        )
        self.n = n if n is None else check_int("evaluator.denoisers.n", n)
        self.split, self.self_ensemble = split, self_ensemble

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        batches = loaded.data.eval_batches(self.split, self.n)
        corrupted = score_batches(batches, lambda batch: (batch.corrupted, 0.0))
        corrupted.pop("seconds_per_image")
        methods, passes = self.score_methods(loaded, batches), self.score_run(loaded, batches)
        scores = {"corrupted": corrupted, **methods, **passes}
        *others, own = scores.values()
        for values in others:
            values |= {gain: own[key] - values[key] for gain, key in GAINS.items() if key in own}
        columns = {f"{name}/{key}": v for name in scores for key, v in scores[name].items()}
        count = len(own["psnr"])
        title = f"{loaded.run.name} and classical denoisers: {count} images of the "
        return Evaluation(
            f"{title}{self.split} split of {loaded.data.images.title}",
            {name: summarize_scores(values) for name, values in scores.items()},
            note="run's gain: PSNR of the run minus that of the row, paired by image",
            per_image=columns,
        )

    def score_methods(self, loaded: LoadedRun, batches: Iterable[Batch]) -> dict[str, Scores]:
        """The scores of each method at its strength, the lowest PSNR first."""
        scores = {}
        for name, method in self.methods.items():
            strength = self.strengths.get(name) or self.tune(loaded, name, method)
            label = name if strength is None else f"{name} ({strength})"
            restore = partial(denoise_batch, label, method, strength=strength)
            scores[label] = score_batches(batches, restore)
        return dict(sorted(scores.items(), key=lambda item: float(item[1]["psnr"].mean())))

    def score_run(self, loaded: LoadedRun, batches: Iterable[Batch]) -> dict[str, Scores]:
        """The scores of the run by one pass and, if asked for, by eight."""
        scores = {loaded.run.name: score_batches(batches, partial(reconstruct, loaded))}
        if self.self_ensemble:
            ensemble = replace(loaded, self_ensemble=True)
            label = f"{loaded.run.name}, self-ensemble"
            scores[label] = score_batches(batches, partial(reconstruct, ensemble))
        return scores

    def tune(self, loaded: LoadedRun, name: str, method: Method) -> object:
        """The strength that is best on validation images."""
        return tune_strength(name, method, loaded.data.eval_batches("val", self.num_tuning_images))


def find_methods(names: tuple[str, ...] | list[str]) -> dict[str, Method]:
    """Methods by name.

    Raises:
        UserError: an unknown one, or one whose package is missing.
    """
    methods = {name: check_choice("evaluator.denoisers.methods", name, METHODS) for name in names}
    for package in {method.package for method in methods.values()} - {None}:
        if find_spec(package) is None:
            raise UserError(
                f"{package} is not installed: pip install 'ae_lab[bench]', or give "
                "evaluator.denoisers.methods=[...] without it"
            )
    return methods


def denoise(
    label: str,
    method: Method,
    corrupted: Tensor,
    strength: object,
    quiet: bool = False,
    missing: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Restored images (B, C, H, W), and the seconds that each took; `missing` is (B, 1, H, W)."""
    restored, start = [], time.perf_counter()
    arrays = corrupted.permute(0, 2, 3, 1).double().numpy()
    strengths = [strength] * len(arrays)
    if method.takes_mask:
        strengths = list(find_missing(label, missing)[:, 0].numpy())
    pairs = list(zip(arrays, strengths, strict=True))
    for image, one in track(pairs, label, transient=True, disable=quiet):
        restored.append(np.clip(method.denoise(image, one), 0, 1))
    seconds = (time.perf_counter() - start) / len(restored)
    return torch.from_numpy(np.stack(restored)).permute(0, 3, 1, 2).float(), seconds


def denoise_batch(
    label: str, method: Method, batch: Batch, strength: object
) -> tuple[Tensor, float]:
    """The same of a batch, which says what is missing."""
    quiet = len(batch.index) == 1
    return denoise(label, method, batch.corrupted, strength, quiet, batch.side)


def find_missing(label: str, side: Tensor | None) -> Tensor:
    """Which pixels are missing, bool (B, 1, H, W).

    Raises:
        UserError: the corruption is no mask.
    """
    if not is_map(side):
        raise UserError(f"{label} restores what is missing of an image: take noise=mask")
    return side > MISSING


def tune_strength(name: str, method: Method, batches: Iterable[Batch]) -> object:
    """The strength of highest mean PSNR on some batches, which one strength alone does not take."""
    if len(method.strengths) == 1:
        return method.strengths[0]
    batches, means = list(batches), {}
    for s in track(method.strengths, f"tuning {name}", transient=True):
        restored = [denoise(name, method, b.corrupted, s, quiet=True)[0] for b in batches]
        pairs = zip(restored, batches, strict=True)
        means[s] = float(torch.cat([psnr(images, b.clean) for images, b in pairs]).mean())
    return max(means, key=means.get)


def reconstruct(loaded: LoadedRun, batch: Batch) -> tuple[Tensor, float]:
    """The run's images (B, C, H, W), and the seconds that each took."""
    start = time.perf_counter()
    images = loaded.reconstruct(batch)
    return images, (time.perf_counter() - start) / len(images)


def score_batches(
    batches: Iterable[Batch], restore: Callable[[Batch], tuple[Tensor, float]]
) -> Scores:
    """The metrics of each image, (N,), and the seconds that it took."""
    parts = []
    for batch in batches:
        images, seconds = restore(batch)
        values = image_metrics(images, batch.clean)
        if is_map(batch.side):
            values["psnr_missing"] = psnr_within(images, batch.clean, batch.side > MISSING)
        parts.append(values | {"seconds_per_image": torch.full((len(images),), seconds)})
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: column for name, column in columns.items() if not column.isnan().all()}


def psnr_within(images: Tensor, clean: Tensor, missing: Tensor) -> Tensor:
    """PSNR in dB of the pixels that are missing, bool (B, 1, H, W), of each image, (B,); NaN where
    none is."""
    error = ((images - clean).square() * missing).flatten(1).sum(1)
    count = missing.flatten(1).sum(1) * images.shape[1]
    return torch.where(count > 0, decibels(error / count.clamp_min(1)), torch.nan)


def summarize_scores(values: dict[str, Tensor]) -> dict[str, float]:
    """Means of the numbers that there are; standard errors of gains alone, which are the ones
    between paired images."""
    numbers = summarize({name: column[~column.isnan()] for name, column in values.items()})
    return {k: v for k, v in numbers.items() if not k.endswith("_se") or k[:-3] in GAINS}
