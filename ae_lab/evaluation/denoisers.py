"""Classical denoisers on the same images and the same noise as our runs.

python -m ae_lab.evaluation.denoisers data=coco64 noise=gaussian noise.sigma=0.098 run=outputs/runs/...

Each method's strength is the one that does best on validation images; then all are judged on the
test images, and each run of `run=` beside them, image by image.
"""

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import track
from rich.table import Table
from torch import Tensor

from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.core.files import write_csv
from ae_lab.data.images import Batch
from ae_lab.evaluation.classical import METHODS, Method
from ae_lab.evaluation.reconstruction import UNITS, standard_error, title
from ae_lab.inference.loaded_run import load_run
from ae_lab.tracking.run import Run
from ae_lab.training.metrics import image_metrics, psnr

Scores = dict[str, Tensor]


def baselines(config: DictConfig) -> dict[str, Scores]:
    """Scores per image (N,) of what was seen, each method and each run; `seconds` is per image.

    Raises:
        UserError: an unknown method, a package that is missing, or a run that cannot take the data.
    """
    methods = {name: check_choice("methods", name, METHODS) for name in config.methods}
    for package in {method.package for method in methods.values()} - {None}:
        if find_spec(package) is None:
            raise UserError(
                f"{package} is not installed: pip install 'ae_lab[bench]', or name methods=[...] "
                "that do without it"
            )
    data = instantiate(config.data)
    batch = data.evaluated(config.split)
    tuning = data.evaluated("val", check_int("tuned_on", config.tuned_on))
    scored = {"seen": image_metrics(batch.seen, batch.clean)}
    for name, method in methods.items():
        strength = tuned(name, method, tuning)
        label = name if strength is None else f"{name} ({strength})"
        scored[label] = judged(batch, *apply(label, method, batch.seen, strength))
    for path in [config.run] if isinstance(config.run, str) else config.run or []:
        loaded = load_run(Run(Path(path)), data=config.data, noise=config.noise)
        start = time.perf_counter()
        images = loaded.reconstruct(batch)
        seconds = (time.perf_counter() - start) / len(images)
        scored[loaded.run.name] = judged(batch, images, seconds)
    print_table(table(f"{config.split} split of {data.images.title}", scored))
    name = f"{title(data, config.noise, config.split)}.csv"
    file = Path(config.paths.outputs) / "baselines" / name
    write_csv(file, rows(scored))
    print(file)
    return scored


def apply(
    label: str, method: Method, seen: Tensor, strength: object, quiet: bool = False
) -> tuple[Tensor, float]:
    """A method on images (B, C, H, W): the results, and seconds per image."""
    loaded, start = [], time.perf_counter()
    arrays = seen.permute(0, 2, 3, 1).double().numpy()
    for image in track(arrays, label, transient=True, disable=quiet):
        loaded.append(np.clip(method.restore(image, strength), 0, 1))
    seconds = (time.perf_counter() - start) / len(loaded)
    return torch.from_numpy(np.stack(loaded)).permute(0, 3, 1, 2).float(), seconds


def tuned(name: str, method: Method, batch: Batch) -> object:
    """The strength with the best mean PSNR on a batch."""
    if len(method.strengths) == 1:
        return method.strengths[0]
    steps = track(method.strengths, f"tuning {name}", transient=True)
    found = {s: apply(name, method, batch.seen, s, quiet=True)[0] for s in steps}
    return max(found, key=lambda s: float(psnr(found[s], batch.clean).mean()))


def judged(batch: Batch, images: Tensor, seconds: float) -> Scores:
    return image_metrics(images, batch.clean) | {"seconds": torch.full((len(images),), seconds)}


def table(title: str, scored: dict[str, Scores]) -> Table:
    """Means over the images, the best last; `gain` is what the last of the runs, or without
    runs of the methods, has over each row."""
    ours = list(scored)[-1]
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("", overflow="fold")
    for heading in ("MSE", "PSNR dB", "SSIM", "s/image", "gain, dB"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for name, scores in sorted(scored.items(), key=lambda item: float(item[1]["psnr"].mean())):
        cells = [UNITS[metric].format(float(scores[metric].mean())) for metric in UNITS]
        cells += [f"{float(scores['seconds'][0]):.4f}" if "seconds" in scores else ""]
        gain = scored[ours]["psnr"] - scores["psnr"]
        cells += [f"{float(gain.mean()):+.2f} ± {standard_error(gain):.2f}" if name != ours else ""]
        drawn.add_row(name, *cells)
    drawn.caption = f"gain: PSNR of {ours} minus that of the row, paired by image"
    return drawn


def rows(scored: dict[str, Scores]) -> Sequence[dict]:
    return [
        {"method": name, "index": index}
        | {metric: float(values[index]) for metric, values in scores.items()}
        for name, scores in scored.items()
        for index in range(len(scores["psnr"]))
    ]
