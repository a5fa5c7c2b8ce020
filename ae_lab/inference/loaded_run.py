"""A finished run as a model again, with its data."""

from dataclasses import dataclass
from functools import cached_property

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice
from ae_lab.core.randomness import generator
from ae_lab.core.trust import check_trusted
from ae_lab.data import Batch, Corruption, ImageData, Split
from ae_lab.data.loaders import EvalLoader
from ae_lab.data.module import load_data
from ae_lab.inference.autoregressive import Autoregressive
from ae_lab.inference.samplers import Normal, Prior, Sampler
from ae_lab.inference.self_ensemble import reconstruct_images
from ae_lab.inference.tiling import TiledModel, restore_tensor
from ae_lab.models.autoencoder import Autoencoder
from ae_lab.models.conditioning import check_labels, label_settings
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.tracking.run import Run


class NotApplicable(UserError):
    """This kind of run cannot do what is asked, whatever the settings: its number is None."""


@dataclass
class LoadedRun:
    """A run's best model, in evaluation mode on the CPU, and its data module.

    `config` is the run's configuration with the data and the noise it was loaded with. With
    `self_ensemble` it reconstructs images turned and mirrored: see `reconstruct_images`.
    """

    run: Run
    model: Autoencoder
    data: ImageData
    config: DictConfig
    self_ensemble: bool = False

    @cached_property
    def tiled(self) -> TiledModel:
        """The model for images of any size; it measures its receptive field once."""
        return TiledModel(self.model, self_ensemble=self.self_ensemble)

    @property
    def num_classes(self) -> int:
        return self.data.classes

    def one_hot(self, labels: Tensor) -> Tensor:
        """Labels (n,) as the model takes them, (n, K)."""
        return torch.nn.functional.one_hot(labels, self.num_classes).float()

    @torch.no_grad()
    def reconstruct(self, batch: Batch, chunk: int = 64) -> Tensor:
        """The reconstructions of a batch of any size, (B, C, H, W).

        Images of another size than in training go one by one, large ones in tiles.
        """
        if tuple(batch.clean.shape[1:]) != self.model.shape:
            images = (batch.part(slice(i, i + 1)) for i in range(len(batch.index)))
            pairs = ((one.corrupted, one.side) for one in images)
            return torch.cat([restore_tensor(self.tiled, *pair) for pair in pairs])
        starts = range(0, len(batch.index), chunk)
        parts = (batch.part(slice(start, start + chunk)) for start in starts)
        return torch.cat([reconstruct_images(self.model, p, self.self_ensemble) for p in parts])

    @torch.no_grad()
    def predict(self, n: int) -> AutoencoderOutput:
        """The model's output for the first n test images, with the noise of the test."""
        return self.model(self.data.eval_batch("test", n))

    @torch.no_grad()
    def encode_split(self, split: Split, chunk: int = 2000) -> Tensor:
        """The codes (N, *shape) of a split's clean images; of a stochastic code its mean."""
        loader = EvalLoader(split, Corruption(), "codes", chunk, binarize=self.data.binarize)
        return torch.cat([self.model.encode(b.clean, b.label)[0] for b in loader])

    @torch.no_grad()
    def encode_indices(self, split: Split, chunk: int = 500) -> Tensor:
        """The indices (N, tokens, levels) of the quantised codes of a split's clean images."""
        loader = EvalLoader(split, Corruption(), "codes", chunk, binarize=self.data.binarize)
        return torch.cat([self.model.encode(b.clean, b.label)[1]["indices"] for b in loader])

    @torch.no_grad()
    def decode(self, codes: Tensor, labels: Tensor, chunk: int = 1000) -> Tensor:
        """The images (n, C, H, W) of codes (n, latent) and labels (n, K)."""
        parts = zip(codes.split(chunk), labels.split(chunk), strict=True)
        return torch.cat([self.model.decode_images(*part) for part in parts])

    @torch.no_grad()
    def sample_codes(
        self,
        n: int,
        label: int | None,
        sampler: Sampler | Autoregressive | Prior | None,
        seed: int,
    ) -> tuple[Tensor, Tensor]:
        """n random codes (n, *shape) and their labels (n, K): the one given, or each in turn.

        A sampler is fitted on the training codes, if the model is conditional on those of each
        label separately: a decoder has never been trained on codes from where no image of that
        label lies. An autoregressive one learns the indices of all labels together. Without a
        sampler, see `default_sampler`.

        Raises:
            UserError: too few training images.
            NotApplicable: a model whose images need more than a code; the prior of a model that
                has none.
        """
        sampler = sampler or self.default_sampler()
        self.check_can_generate(sampler)
        chosen = torch.arange(n) % self.num_classes if label is None else torch.full((n,), label)
        labels, rng = self.one_hot(chosen), generator(seed, "generate")
        if isinstance(sampler, Autoregressive):
            return self._fit_and_sample_indices(sampler, labels, seed, rng), labels
        if not isinstance(sampler, Prior):
            return self._fit_and_sample(sampler, chosen, seed, rng), labels
        if not self.model.bottleneck.has_prior:
            raise NotApplicable(
                f"{self.run.path} has no prior: take sampler=normal, gmm or flow, or model=vae"
            )
        return self.model.bottleneck.sample(labels, rng), labels

    def default_sampler(self) -> Sampler | Autoregressive | Prior:
        """The model's prior; if it has none, for quantised codes an autoregressive sampler, else a
        normal distribution."""
        if self.model.bottleneck.has_prior:
            return Prior()
        return Autoregressive() if "indices" in self.model.bottleneck.outputs else Normal()

    def _fit_and_sample(
        self, sampler: Sampler, chosen: Tensor, seed: int, rng: torch.Generator
    ) -> Tensor:
        """One code for each chosen label (n,), by a sampler fitted on the training codes."""
        train = self.data.split("train")
        trained = self.encode_split(train)
        if not self.model.conditional:
            sampler.fit(trained, seed)
            return sampler.sample(len(chosen), rng)
        codes = trained.new_empty(len(chosen), trained.shape[1])
        for label in chosen.unique().tolist():
            try:
                sampler.fit(trained[train.labels[:, label] > 0], seed)
            except UserError as error:
                name = self.data.images.class_names[label]
                raise UserError(f"label {name}: {error}") from error
            codes[chosen == label] = sampler.sample(int((chosen == label).sum()), rng)
        return codes

    def _fit_and_sample_indices(
        self, sampler: Autoregressive, labels: Tensor, seed: int, rng: torch.Generator
    ) -> Tensor:
        """One code for each label (n, K), by a sampler fitted on the training codes' indices."""
        train, bottleneck = self.data.split("train"), self.model.bottleneck
        trained = train.labels if self.model.conditional else torch.ones(len(train), 1)
        chosen = labels if self.model.conditional else torch.ones(len(labels), 1)
        sampler.fit(self.encode_indices(train), trained.float(), bottleneck.codebook_size, seed)
        return bottleneck.look_up(sampler.sample(chosen, rng))

    def check_can_generate(self, sampler: Sampler | Autoregressive | Prior | None = None) -> None:
        """Check that codes alone make images, and that the sampler is one of such codes.

        Raises:
            NotApplicable: the reconstruction is made of more than a code; a vector is sampled, and
                the code is maps; indices are, and it has none.
        """
        if isinstance(sampler, Autoregressive):
            if "indices" not in self.model.bottleneck.outputs:
                raise NotApplicable(
                    f"sampler=autoregressive is for quantised codes, and {self.run.path} has none: "
                    "take sampler=normal, gmm or flow, or model=vqvae"
                )
            if self.model.decodes_code_alone:
                return
        if not self.model.can_generate:
            raise NotApplicable(
                f"{self.run.path} cannot generate: its reconstructions need more than a vector "
                "(skip connections, indices, the corrupted image): take body=mlp or body=cnn"
            )

    def label_number(self, name: str | int) -> int:
        """The column of a class among the labels, by the name that the data give it.

        Raises:
            UserError: the model takes no label, or there is no such class.
        """
        if not self.model.conditional:
            raise UserError(f"{self.run.path} is not conditional: leave out label={name}")
        names = self.data.images.class_names
        return check_choice("label", str(name), {known: n for n, known in enumerate(names)})


def load_run(
    run: Run, data: DictConfig | None = None, noise: DictConfig | None = None
) -> LoadedRun:
    """Load a finished run, with its own data and noise or with others.

    Raises:
        UserError: the run is not done, its data is missing or has changed, the model cannot take
            the other data, or its configuration is damaged or builds what is not trusted.
        RunFailed: its checkpoint is damaged or missing.
    """
    check_done(run)
    config = replace_data(run.config, data, noise)
    built = [*(["data"] if data is None else []), *(["noise"] if noise is None else [])]
    check_built(run, "model", *built)
    module, model = load_data(config), load_model(run)
    if data is None:
        check_data(run, module)
    else:
        check_shapes(run, module, model)
        check_labels(model, module.images)
    return LoadedRun(run, model, module, config)


def load_model(run: Run) -> Autoencoder:
    """The best model of a finished run, in evaluation mode, without its data.

    Raises:
        UserError: the run is not done, or its configuration is damaged or builds what is not
            trusted.
        RunFailed: its checkpoint is damaged or missing.
    """
    check_done(run)
    check_built(run, "model")
    model = instantiate(run.config.model)
    try:
        model.load_state_dict(run.best_weights())
    except RuntimeError as error:
        raise UserError(
            f"{run.best} is not of the model in {run.path / '.hydra/config.yaml'}: put the files "
            "of one run together, or train it again with force=true"
        ) from error
    return model.eval()


def check_built(run: Run, *parts: str) -> None:
    """Check, before they are built, parts of a run's own configuration.

    Raises:
        UserError: they name what is neither of ae_lab nor trusted.
    """
    check_trusted(run.config, run.path, parts)


def check_done(run: Run) -> None:
    """Check that a run is finished.

    Raises:
        UserError: it is not, or the folder is no run's.
    """
    _ = run.config  # refuses what is no run folder
    if not run.done:
        raise UserError(f"{run.path} is {run.state}, not done: rerun its command")


def replace_data(
    config: DictConfig, data: DictConfig | None, noise: DictConfig | None
) -> DictConfig:
    """A run's configuration with other data, other noise, or both; None keeps the run's own."""
    if data is not None:  # as the command line has it, but with the run's noise if it has none
        data = OmegaConf.create(OmegaConf.to_container(data, resolve=True))
        data.noise = config.noise if noise is None else noise
    other = {key: part for key, part in (("data", data), ("noise", noise)) if part is not None}
    return OmegaConf.create({**config, **other})


def check_shapes(run: Run, data: ImageData, model: Autoencoder) -> None:
    """Check that other images, and the labels where the model takes them, are as in training.

    Raises:
        UserError: they are not.
    """
    if model.stride is not None and data.shape[0] == model.shape[0] and not label_settings(model):
        return  # images of any size
    for key in ("shape", "classes") if label_settings(model) else ("shape",):
        trained, given = run.config.data[key], getattr(data, key)
        if given != trained:
            raise UserError(
                f"data.{key} is {given}, but {run.path} was trained with {trained}: choose other "
                "data"
            )


def check_data(run: Run, data: ImageData) -> None:
    """Check that a run's configuration still finds the data that the run was trained on.

    Raises:
        UserError: it finds other data.
    """
    if data.images.fingerprint != run.record["data"]["fingerprint"]:
        raise UserError(
            f"{run.path} was trained on {run.record['data']['title']}, but its configuration now "
            f"finds {data.images.title}: set AE_LAB_DATA as it was then"
        )
