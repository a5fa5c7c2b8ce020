"""Classical denoisers on the same images and the same noise as a run."""

import time
from importlib.util import find_spec

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.data import Batch
from ae_lab.evaluation.classical import METHODS, Method
from ae_lab.evaluation.evaluator import Evaluation, summarize
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.training.metrics import image_metrics, psnr

DEFAULT_METHODS = (
    "median",
    "switching_median",
    "non_local_means",
    "total_variation",
    "wavelet",
    "bm3d",
)


class DenoiserEvaluator:
    """MSE, PSNR and SSIM of a split as corrupted, restored by each method and by the run, on all
    or the first `n` images.

    Each method has the strength of highest mean PSNR on `num_tuning_images` validation images.
    `run_gain` is the PSNR of the run minus that of the row, paired by image.

    Raises:
        UserError: an unknown method, a package that is missing, or a number that is not >= 1.
    """

    def __init__(
        self,
        methods: tuple[str, ...] | list[str] = DEFAULT_METHODS,
        num_tuning_images: int = 16,
        n: int | None = None,
        split: str = "test",
    ):
        self.methods = find_methods(methods)
        self.num_tuning_images = check_int(
            "evaluator.denoisers.num_tuning_images", num_tuning_images
        )
        self.n = n if n is None else check_int("evaluator.denoisers.n", n)
        self.split = split

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        batch = loaded.data.eval_batch(self.split, self.n)
        tuning = loaded.data.eval_batch("val", self.num_tuning_images)
        scores = {}
        for name, method in self.methods.items():
            strength = tune_strength(name, method, tuning)
            label = name if strength is None else f"{name} ({strength})"
            scores[label] = score_restored(
                batch, *denoise(label, method, batch.corrupted, strength)
            )
        scores = dict(sorted(scores.items(), key=lambda item: float(item[1]["psnr"].mean())))
        start = time.perf_counter()
        reconstruction = loaded.reconstruct(batch)
        seconds = (time.perf_counter() - start) / len(reconstruction)
        own = score_restored(batch, reconstruction, seconds)
        scores = {"corrupted": image_metrics(batch.corrupted, batch.clean)} | scores
        for values in scores.values():
            values["run_gain"] = own["psnr"] - values["psnr"]
        scores[loaded.run.name] = own
        columns = {f"{name}/{key}": v for name in scores for key, v in scores[name].items()}
        title = f"{loaded.run.name} and classical denoisers: {len(batch.index)} images of the "
        return Evaluation(
            f"{title}{self.split} split of {loaded.data.images.title}",
            {name: summarize_scores(values) for name, values in scores.items()},
            note="run's gain: PSNR of the run minus that of the row, paired by image",
            per_image=columns,
        )


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
    label: str, method: Method, corrupted: Tensor, strength: object, quiet: bool = False
) -> tuple[Tensor, float]:
    """Restored images (B, C, H, W), and the seconds that each took."""
    restored, start = [], time.perf_counter()
    arrays = corrupted.permute(0, 2, 3, 1).double().numpy()
    for image in track(arrays, label, transient=True, disable=quiet):
        restored.append(np.clip(method.denoise(image, strength), 0, 1))
    seconds = (time.perf_counter() - start) / len(restored)
    return torch.from_numpy(np.stack(restored)).permute(0, 3, 1, 2).float(), seconds


def tune_strength(name: str, method: Method, batch: Batch) -> object:
    """The strength of highest mean PSNR on a batch."""
    if len(method.strengths) == 1:
        return method.strengths[0]
    steps = track(method.strengths, f"tuning {name}", transient=True)
    restored = {s: denoise(name, method, batch.corrupted, s, quiet=True)[0] for s in steps}
    return max(restored, key=lambda s: float(psnr(restored[s], batch.clean).mean()))


def score_restored(batch: Batch, images: Tensor, seconds: float) -> dict[str, Tensor]:
    """The metrics of each image, (B,), and the seconds that it took."""
    seconds = torch.full((len(images),), seconds)
    return image_metrics(images, batch.clean) | {"seconds_per_image": seconds}


def summarize_scores(values: dict[str, Tensor]) -> dict[str, float]:
    """Means; the standard error of the gain alone, which is the one between paired images."""
    numbers = summarize(values)
    return {k: v for k, v in numbers.items() if not k.endswith("_se") or k == "run_gain_se"}
