"""A finished run as a model again, with its data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data.corruptions import Noise
from ae_lab.data.images import Batch, EvalLoader, Split
from ae_lab.data.module import ImageData
from ae_lab.inference.samplers import Normal, Prior, Sampler
from ae_lab.models.autoencoder import Autoencoder, Pass
from ae_lab.tracking.identity import digest, flat
from ae_lab.tracking.run import Run

T = TypeVar("T")


@dataclass
class LoadedRun:
    """A run's best model, in evaluation mode on the CPU, and its data module."""

    run: Run
    model: Autoencoder
    data: ImageData
    config: DictConfig

    @torch.no_grad()
    def reconstruct(self, batch: Batch, chunk: int = 64) -> torch.Tensor:
        """The reconstructions of a batch of any size, (B, C, H, W)."""
        parts = []
        for start in range(0, len(batch.index), chunk):
            part = batch.part(slice(start, start + chunk))
            parts.append(self.model(part).reconstruction)
        return torch.cat(parts)

    @torch.no_grad()
    def show(self, n: int) -> Pass:
        """The model's pass over the first n test images, with the noise they were tested with."""
        return self.model(self.data.evaluated("test", n))

    @torch.no_grad()
    def codes(self, split: Split, chunk: int = 2000) -> torch.Tensor:
        """The codes (N, latent) of a split's clean images, the mean ones where codes are random."""
        loader = EvalLoader(split, Noise(), "codes", chunk, binary=self.data.binary)
        return torch.cat([self.model.encode(b.clean, b.label)[0] for b in loader])

    @property
    def classes(self) -> int:
        return self.data.split("train").labels.shape[1]

    def hot(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels (n,) as the model takes them, (n, K)."""
        return torch.nn.functional.one_hot(labels, self.classes).float()

    def check_generates(self) -> None:
        """See that codes alone make images.

        Raises:
            UserError: the model's code is not all that its reconstruction is made of.
        """
        if not self.model.generates:
            raise UserError(
                f"{self.run.path} cannot generate: its reconstructions are made of more than a "
                "vector (skip connections, indices, the seen image): take model=mlp or model=cnn"
            )

    @torch.no_grad()
    def decode(self, codes: torch.Tensor, hot: torch.Tensor, chunk: int = 1000) -> torch.Tensor:
        """The images (n, C, H, W) of codes (n, latent) and labels (n, K)."""
        parts = zip(codes.split(chunk), hot.split(chunk), strict=True)
        return torch.cat([self.model.images(*part) for part in parts])

    @torch.no_grad()
    def draw(
        self, n: int, label: int | None, sampler: Sampler | Prior | None, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """n random codes (n, latent) and their labels (n, K): the one given, or each in turn.

        Codes come from the sampler, fitted on the training codes, of each label apart if the model
        is conditional: its decoder has never met a code from where no image of that label lies.
        With no sampler they come from the model's prior, or a normal distribution if it has none.

        Raises:
            UserError: a label for a model that takes none, or one that does not exist; a model
                whose code is not all that its reconstruction is made of; too few images of a label;
                the prior of a model that has none.
        """
        self.check_generates()
        self.check_label(label)
        asked = torch.arange(n) % self.classes if label is None else torch.full((n,), label)
        chance = generator(seed, "generate")
        sampler = sampler or (Prior() if self.model.random else Normal())
        if not isinstance(sampler, Prior):
            return self.fitted(sampler, asked, seed, chance), self.hot(asked)
        if not self.model.random:
            raise UserError(
                f"{self.run.path} has no prior: take sampler=normal, gmm or flow, or model=vae"
            )
        return self.model.bottleneck.sample(self.hot(asked), chance), self.hot(asked)

    def check_label(self, label: int | None) -> None:
        """See that the model takes a label.

        Raises:
            UserError: it takes none, or not this one.
        """
        if label is not None and not self.model.conditional:
            raise UserError(f"{self.run.path} is not conditional: leave out label={label}")
        if label is not None and label not in range(self.classes):
            raise UserError(f"label={label} does not exist: give 0 to {self.classes - 1}")

    def fitted(
        self, sampler: Sampler, asked: torch.Tensor, seed: int, chance: torch.Generator
    ) -> torch.Tensor:
        """A random code for each label asked for, by a sampler fitted on the training codes."""
        train = self.data.split("train")
        trained = self.codes(train)
        if not self.model.conditional:
            sampler.fit(trained, seed)
            return sampler.sample(len(asked), chance)
        codes = trained.new_empty(len(asked), trained.shape[1])
        for y in asked.unique().tolist():
            try:
                sampler.fit(trained[train.labels[:, y] > 0], seed)
            except UserError as error:
                raise UserError(f"label {y}: {error}") from error
            codes[asked == y] = sampler.sample(int((asked == y).sum()), chance)
        return codes


def run_from_path(path: str | None) -> Run:
    """The run that a command line names.

    Raises:
        UserError: it names none.
    """
    if path is None:
        raise UserError(
            "which run? Give run=outputs/runs/...; `python -m ae_lab.tracking.registry` lists them"
        )
    return Run(Path(path))


def check_data(run: Run, data: ImageData) -> None:
    """See that a run's configuration still finds what the run was trained on.

    Raises:
        UserError: it finds something else.
    """
    if data.images.fingerprint != run.record["data"]["fingerprint"]:
        raise UserError(
            f"{run.path} was trained on {run.record['data']['title']}, which is not what "
            f"its configuration finds now ({data.images.title}): set AE_LAB_DATA as it was then"
        )


_known: dict[str, Any] = {}


def cached_for_data(run: Run, compute: Callable[[ImageData], T], *more: str | int) -> T:
    """What the run's images as its model sees them decide alone, worked out once a process; `more`
    names it.

    Raises:
        UserError: the data is not what the run was made from.
    """
    binary = run.config.data.get("binary")  # which older runs' configurations do not have
    key = digest([run.record["data"]["fingerprint"], binary, flat(run.config.noise), more])
    if key not in _known:
        data = instantiate(run.config.data)
        check_data(run, data)
        _known[key] = compute(data)
    return _known[key]


def load_run(
    run: Run, data: DictConfig | None = None, noise: DictConfig | None = None
) -> LoadedRun:
    """Load a finished run, with its own data and noise or with others.

    Raises:
        UserError: the run is not done, its data is not there or has changed, or the model cannot
            take the data it is to have.
        RunFailed: its checkpoint is damaged.
    """
    made = run.config  # refuses what is no run folder
    if not run.done:
        raise UserError(f"{run.path} is {run.state}, not done: run its command again")
    model = instantiate(made.model)
    model.load_state_dict(run.load_checkpoint(run.best)["state_dict"])
    if data is not None:  # what the command line says of it, but the run's noise where it has none
        data = OmegaConf.create(OmegaConf.to_container(data, resolve=True))
        data.noise = made.noise if noise is None else noise
    other = {key: part for key, part in (("data", data), ("noise", noise)) if part is not None}
    config = OmegaConf.create({**made, **other})
    takes_labels = made.conditional or made.condition_encoder
    for key in ("shape", "classes") if takes_labels else ("shape",):
        if config.data[key] != made.data[key]:
            raise UserError(
                f"data.{key} is {config.data[key]}, but {run.path} was trained with "
                f"{made.data[key]}: choose other data"
            )
    module = instantiate(config.data)
    if data is None:
        check_data(run, module)
    return LoadedRun(run, model.eval(), module, config)
