"""How good a run's random images are, by the data's own classifier.

    python -m ae_lab.evaluation.samples run=outputs/runs/... n=5000
    python -m ae_lab.evaluation.samples -m run=outputs/runs/... sampler=prior,normal,gmm,flow

Images come as `python -m ae_lab.generate` makes them. The first row is what real images get that
the run has not been trained on: the ceiling.
"""

import json
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table
from torch import Tensor

from ae_lab.core import configuration
from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, check_int
from ae_lab.core.files import write_json
from ae_lab.data.images import pixels
from ae_lab.evaluation.classifier import Judge
from ae_lab.evaluation.classifier import judge as judge_of
from ae_lab.evaluation.fidelity import NEIGHBOURS, frechet, inception_distance, manifold
from ae_lab.inference.loaded_run import LoadedRun, load_run, run_from_path
from ae_lab.inference.samplers import Prior, Sampler

HEADINGS = {
    "label accuracy": "{:.3f}",
    "label confidence": "{:.3f}",
    "frechet": "{:.2f}",
    "fid": "{:.2f}",
    "precision": "{:.3f}",
    "recall": "{:.3f}",
    "density": "{:.3f}",
    "coverage": "{:.3f}",
}


def judge(config: DictConfig) -> dict[str, dict[str, float]]:
    """Scores of n real and n generated images, beside those that the run was given before.

    Raises:
        UserError: no run named, one that cannot generate, data without single labels, or too few.
    """
    loaded = load_run(run_from_path(config.run))
    n, seed = check_int("n", config.n), check_int("seed", config.seed, minimum=0)
    judging = judge_of(loaded.data.images, Path(config.paths.cache).expanduser())
    sampler = config.sampler and instantiate(config.sampler)
    real, generated = compare(loaded, sampler, n, seed, judging, config.inception)
    n = min(n, len(loaded.data.split("test")))
    folder = loaded.run.path / "evaluated"
    for name, found in (("real", real), (chosen(loaded), generated)):
        write_json(folder / f"judged-n{n}-seed{seed}" / f"{name}.json", found)
    files = sorted((folder / f"judged-n{n}-seed{seed}").glob("*.json"), key=_real_first)
    rows = {file.stem: json.loads(file.read_text()) for file in files}
    print(f"the judge is right on {judging.accuracy:.2%} of all real test images")
    show(f"{n} random images of {loaded.run.name}, {loaded.data.images.title}", rows)
    print(files[0].parent)
    return rows


def _real_first(file: Path) -> tuple[bool, str]:
    return file.stem != "real", file.stem


def chosen(loaded: LoadedRun) -> str:
    """The sampler's name, and what was changed of it."""
    usual = "prior" if loaded.model.random else "normal"
    changed = [text for text in configuration.overrides() if text.startswith("sampler.")]
    return " ".join([configuration.choices().get("sampler") or usual, *changed])


def compare(
    loaded: LoadedRun,
    sampler: Sampler | Prior | None,
    n: int,
    seed: int,
    judging: Judge,
    inception: str | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of n real test images and of n random ones, both against n training images.

    Raises:
        UserError: a run that cannot generate, too few images to judge by, or unusable weights.
    """
    train, test = loaded.data.split("train"), loaded.data.split("test")
    real = test.first(min(n, len(test)))
    n = len(real)
    if n <= NEIGHBOURS:
        raise UserError(f"{n} images are too few to judge by: give at least {NEIGHBOURS + 1}")
    codes, hot = loaded.draw(n, None, sampler, seed)
    images = loaded.decode(codes, hot)
    asked = hot.argmax(1) if loaded.model.conditional else None
    some = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    trained, held_out = pixels(train.images[some]), pixels(real.images)
    reference = judging.look(trained)[0]
    found = (
        scores(judging, held_out, real.labels.argmax(1), reference),
        scores(judging, images, asked, reference),
    )
    if inception:
        for row, shown in zip(found, (held_out, images), strict=True):
            row["fid"] = inception_distance(trained, shown, Path(inception))
    return found


def scores(
    judging: Judge, images: Tensor, label: Tensor | None, reference: Tensor
) -> dict[str, float]:
    """All scores of images against the reference's features; accuracy where labels were asked."""
    features, probability = judging.look(images)
    found = {"label confidence": float(probability.max(1).values.mean())}
    if label is not None:
        found["label accuracy"] = float((probability.argmax(1) == label).float().mean())
    return found | {"frechet": frechet(reference, features)} | manifold(reference, features)


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("images")
    known = {
        key: form for key, form in HEADINGS.items() if any(key in row for row in found.values())
    }
    for heading in known:
        drawn.add_column(heading.replace("frechet", "classifier Fréchet"), justify="right")
    for name, row in found.items():
        cells = (form.format(row[key]) if key in row else "–" for key, form in known.items())
        drawn.add_row(name, *cells)
    print_table(drawn)
