"""How good a run's random images are, by the data's own classifier.

    python -m ae_lab.judge run=outputs/runs/... n=5000 sampler=gmm

Images come as `python -m ae_lab.generate` makes them. The first row is what real images get that
the run has not been trained on: the ceiling.
"""

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
from ae_lab.fidelity import NEIGHBOURS, frechet, manifold
from ae_lab.restore import named, restore
from ae_lab.run import write_json
from ae_lab.runs import print_wide
from ae_lab.train import quiet

HEADINGS = {
    "label accuracy": "{:.3f}",
    "label confidence": "{:.3f}",
    "frechet": "{:.2f}",
    "precision": "{:.3f}",
    "recall": "{:.3f}",
    "density": "{:.3f}",
    "coverage": "{:.3f}",
}


def judge(config: DictConfig) -> dict[str, dict[str, float]]:
    """Scores of n real test images and of n generated ones, against n real training images.

    Raises:
        UserError: no run named, one that cannot generate, data without single labels, or too few.
    """
    restored = restore(named(config.run))
    train, test = restored.data.split("train"), restored.data.split("test")
    n = min(whole("n", config.n), len(test))
    real = test.first(n)
    if n <= NEIGHBOURS:
        raise UserError(f"{n} images are too few to judge by: give at least {NEIGHBOURS + 1}")
    sampler = config.sampler and instantiate(config.sampler)
    codes, hot = restored.draw(n, None, sampler, whole("seed", config.seed, least=0))
    images = restored.decode(codes, hot)
    asked = hot.argmax(1) if restored.model.conditional else None
    judging = judge_of(restored.data.images, Path(config.paths.cache).expanduser())
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    reference = judging.look(pixels(train.images[chosen]))[0]
    usual = "prior" if restored.model.random else "normal"
    choice = configuration.choices().get("sampler") or usual
    found = {
        "real": scores(judging, pixels(real.images), real.labels.argmax(1), reference),
        choice: scores(judging, images, asked, reference),
    }
    print(f"the judge is right on {judging.accuracy:.2%} of all real test images")
    show(f"{n} random images of {restored.run.name}, {restored.data.images.title}", found)
    file = restored.run.path / "evaluated" / f"judged-{choice}-n{n}-seed{config.seed}.json"
    write_json(file, found)
    print(file)
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
    for heading in HEADINGS:
        drawn.add_column(heading.replace("frechet", "classifier Fréchet"), justify="right")
    for name, row in found.items():
        cells = (form.format(row[key]) if key in row else "–" for key, form in HEADINGS.items())
        drawn.add_row(name, *cells)
    print_wide(drawn)


def main() -> None:
    quiet()
    configuration.launch(configuration.guarded(judge), "judge")


if __name__ == "__main__":
    main()
