"""How good a run's random images are, by the data's own classifier.

    python -m ae_lab.judge run=outputs/runs/... n=5000
    python -m ae_lab.judge -m run=outputs/runs/... sampler=prior,normal,gmm,flow

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

from ae_lab import config as configuration
from ae_lab.classifier import Judge
from ae_lab.classifier import judge as judge_of
from ae_lab.data.images import pixels
from ae_lab.errors import UserError, whole
from ae_lab.fidelity import NEIGHBOURS, frechet, inception_distance, manifold
from ae_lab.restore import Restored, named, restore
from ae_lab.run import write_json
from ae_lab.runs import print_wide
from ae_lab.samplers import Prior, Sampler
from ae_lab.train import quiet

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
    restored = restore(named(config.run))
    n, seed = whole("n", config.n), whole("seed", config.seed, least=0)
    judging = judge_of(restored.data.images, Path(config.paths.cache).expanduser())
    sampler = config.sampler and instantiate(config.sampler)
    real, generated = compare(restored, sampler, n, seed, judging, config.inception)
    n = min(n, len(restored.data.split("test")))
    folder = restored.run.path / "evaluated"
    for name, found in (("real", real), (chosen(restored), generated)):
        write_json(folder / f"judged-n{n}-seed{seed}" / f"{name}.json", found)
    files = sorted((folder / f"judged-n{n}-seed{seed}").glob("*.json"), key=_real_first)
    rows = {file.stem: json.loads(file.read_text()) for file in files}
    print(f"the judge is right on {judging.accuracy:.2%} of all real test images")
    show(f"{n} random images of {restored.run.name}, {restored.data.images.title}", rows)
    print(files[0].parent)
    return rows


def _real_first(file: Path) -> tuple[bool, str]:
    return file.stem != "real", file.stem


def chosen(restored: Restored) -> str:
    """The sampler's name, and what was changed of it."""
    usual = "prior" if restored.model.random else "normal"
    changed = [text for text in configuration.overrides() if text.startswith("sampler.")]
    return " ".join([configuration.choices().get("sampler") or usual, *changed])


def compare(
    restored: Restored,
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
    train, test = restored.data.split("train"), restored.data.split("test")
    real = test.first(min(n, len(test)))
    n = len(real)
    if n <= NEIGHBOURS:
        raise UserError(f"{n} images are too few to judge by: give at least {NEIGHBOURS + 1}")
    codes, hot = restored.draw(n, None, sampler, seed)
    images = restored.decode(codes, hot)
    asked = hot.argmax(1) if restored.model.conditional else None
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
    print_wide(drawn)


def main() -> None:
    quiet()
    configuration.launch(configuration.guarded(judge), "judge")


if __name__ == "__main__":
    main()
