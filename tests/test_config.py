"""Every file in conf/ composes into parts that can be built and take a step."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ae_lab.core import configuration, validation
from ae_lab.core.errors import UserError
from ae_lab.data.images import Batch
from ae_lab.reporting import experiments
from ae_lab.training.dry_run import check_model
from tests.conftest import SMALL
from tests.tiny_coco import write_coco

FILES = sorted(
    path.relative_to(configuration.CONF).with_suffix("")
    for path in configuration.CONF.glob("*/*.yaml")
    if path.parent.name not in ("evaluator", "experiment", "figure", "format", "sampler")
)
EXPERIMENTS = experiments.experiment_names()
FAMILY_OF = {"metrics/codebook": "vqvae", "metrics/codes": "vae"}
NEEDS = {"logger/wandb": "wandb", "logger/mlflow": "mlflow"}


def compose(*overrides: str):
    return configuration.compose([*SMALL, *overrides])


def check(settings) -> None:
    configuration.check_top_level(settings, "config")
    validation.check_parts(settings)


def families_with(words: str) -> list[str]:
    """The files of `conf/model/` that say so."""
    files = sorted((configuration.CONF / "model").glob("*.yaml"))
    return [file.stem for file in files if words in file.read_text()]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_makes_a_run(file: Path, run, tmp_path):
    """Composed, instantiated, stepped and tested, with tiny data."""
    group, choice = str(file).split("/")
    if (package := NEEDS.get(str(file))) and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'ae_lab[{package}]'")
    overrides = [f"{group}={choice}", "data.limit=64"]
    if choice.endswith("_large"):  # for a GPU: built, not trained
        check_model(compose(*overrides, "data=photos64"))
        return
    if group == "objective" and choice != "mse":  # with the family that it was made for
        overrides += [f"model={name}" for name in families_with(f"objective: {choice}\n")[:1]]
    if group == "metrics" and choice != "default":
        overrides[0] = f"metrics=[default,{choice}]"
    if str(file) in FAMILY_OF:
        overrides += [f"model={FAMILY_OF[str(file)]}"]
    if group == "body":
        overrides += ["model=autoencoder"]
    if group == "likelihood":
        overrides += ["objective=likelihood"]
    if file == Path("bottleneck/identity"):
        overrides += ["body=cnn_unpool"]
    if group == "data":
        overrides += [f"paths.data={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
        if choice == "mnist":
            pytest.skip("needs the full data: tests/test_data.py reads it")
        if choice.startswith("coco"):
            write_coco(tmp_path)
        if choice == "auto":
            overrides += ["data.source.download=false"]
        if choice == "folder":
            overrides += [f"data.source.path={write_coco(tmp_path) / 'train2017'}"]
    finished = run(*overrides)
    assert finished.done
    assert (
        0 <= finished.metrics["test/mse"] < 1
    )  # a U-Net starts as the identity, right without noise


EXPERIMENT_PRESETS = sorted(
    str(path.relative_to(configuration.CONF / "preset").with_suffix(""))
    for path in configuration.CONF.glob("preset/*/*.yaml")
)


@pytest.mark.parametrize("name", EXPERIMENT_PRESETS)
def test_every_preset_of_an_experiment_makes_a_model(name):
    settings = compose(f"preset={name}", "data=photos64")
    check(settings)
    model = instantiate(settings.model).eval()
    noise = instantiate(settings.data.noise)
    out = model(Batch(*(torch.rand(2, 3, 64, 64),) * 2, torch.zeros(2, 1), torch.arange(2)))
    assert out.reconstruction.shape == (2, 3, 64, 64)
    assert noise(out.clean, torch.Generator())[0].shape == out.clean.shape


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_says_what_it_is_and_names_figures(name):
    settings = compose(f"experiment={name}")
    check(settings)
    for figure in settings.figures:
        assert callable(instantiate(figure, _partial_=True))
    for metric in settings.run_metrics.values():
        assert callable(instantiate(metric, _partial_=True))
    about = experiments.read_header(experiments.FOLDER / f"{name}.yaml")
    assert {"Claim", "Report", "Expected", "Command"} <= about.keys()
    assert about["Command"] == f"python -m ae_lab.train experiment={name}"


PRESETS = {
    "model_1": ([500, 100], 2, torch.nn.ReLU),
    "model_2": ([500, 250, 100], 2, torch.nn.ReLU),
    "model_3": ([500, 100], 5, torch.nn.Sigmoid),
    "model_4": ([500, 100], 10, torch.nn.Tanh),
    "model_5": ([500, 250, 100], 32, torch.nn.ReLU),
    "model_6": ([500, 250, 100], 64, torch.nn.ReLU),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_the_six_networks_of_the_table(preset):
    widths, latent, activation = PRESETS[preset]
    model = instantiate(compose(f"preset={preset}").model)
    linear = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert [m.out_features for m in linear] == widths
    back = [m for m in model.decoder.modules() if isinstance(m, torch.nn.Linear)]
    assert [m.in_features for m in back] == [latent, *reversed(widths)]
    assert back[-1].out_features == 784
    assert model.bottleneck.shape == (latent,)
    kinds = {type(m) for m in model.encoder.layers} - {torch.nn.Linear}
    assert kinds == {activation}


def test_the_command_line_wins_over_a_preset():
    assert compose("preset=model_1", "latent=7").latent == 7


def test_keys_that_no_part_knows_are_refused():
    for typo, hint in [("+model.lattent=1", "lattent"), ("+laten=3", "did you mean 'latent'")]:
        with pytest.raises(UserError, match=hint):
            check(compose(typo))
    check(compose("noise=speckle", "preset=strong"))


def test_flatten_resolves_and_keeps_lists_whole():
    nested = OmegaConf.create({"a": {"b": [1, 2], "c": "${d}"}, "d": None})
    assert configuration.flatten(nested) == {"a.b": [1, 2], "a.c": None, "d": None}
