"""Configuration that comes from a folder builds parts of ae_lab, and what a person trusts."""

import json
import re
import shutil
import sys

import pytest
from omegaconf import OmegaConf

from ae_lab.core import trust
from ae_lab.core.configuration import CONF
from ae_lab.core.errors import UserError
from ae_lab.tracking.registry import find_runs
from tests.conftest import SMALL

HOSTILE = [
    *("torch.load", "pandas.read_pickle", "joblib.load", "os.system", "builtins.eval"),
    *("subprocess.run", "hydra.utils.instantiate", "importlib.import_module"),
    *("ae_lab.tracking.lock.shutil.rmtree", "ae_lab.tracking.environment.subprocess.run"),
    *("ae_lab.core.files.write_text", "ae_lab.tracking.run.Run.clear", "ae_lab.models.torch.load"),
    *("ae_lab.models.Autoencoder.load_from_checkpoint", "ae_lab.core.command.exit_on_error"),
    *("torch.nn.modules.torch.load", "pytorch_lightning.Trainer.fit", "torch.nn.init.uniform_"),
]
OWN = """
import pathlib
import torch
from os import system
from ae_lab.data import Corruption

pathlib.Path("imported").touch()


class Sine(torch.nn.Module):
    def forward(self, x):
        return x.sin()


class Dim(Corruption):
    def corrupt(self, x, generator):
        return x / 2, None
"""


@pytest.fixture(autouse=True)
def _nothing_is_trusted_yet(monkeypatch):
    monkeypatch.setattr(trust, "_trusted", set())
    monkeypatch.delenv(trust.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, to copy."""
    from hydra import compose, initialize_config_dir

    from ae_lab.training.job import train

    outputs = tmp_path_factory.mktemp("trained")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [f"paths.outputs={outputs}", *SMALL, "latent=2", "hidden=[16]", "data.limit=60"]
        return train(compose("config", overrides=words)).path


@pytest.fixture
def hostile(trained, tmp_path):
    """A copy of the run whose configuration has a value replaced: `hostile("model", {...})`."""

    def _hostile(key: str, value: object):
        folder = tmp_path / "foreign"
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        OmegaConf.update(config, key, value, merge=False, force_add=True)
        OmegaConf.save(config, folder / ".hydra" / "config.yaml")
        return folder

    return _hostile


def test_our_own_files_build_what_needs_no_trust():
    files = [file for file in CONF.rglob("*.yaml") if "results" not in file.parts]
    named = {n for f in files for n in re.findall(r"_target_: *([\w.]+)", f.read_text())}
    # Of Hydra's own settings, never of a run's.
    named = {n for n in named if n.partition(".")[0] not in ("hydra_plugins", "optuna")}
    named -= {"ae_lab.tracking.sweep_callback.SweepCallback"}
    assert len(named) > 50
    assert {name for name in named if not trust.is_part(name)} == set()
    assert set(trust.FROM_LIBRARIES) <= named


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_part_is_refused_and_named(name, tmp_path):
    for node in (
        {"model": {"encoder": {"_target_": name}}},
        {"parts": [{"deep": {"_target_": "${word}"}}], "word": name},
        {"model": {"activation": name}},
    ):
        with pytest.raises(UserError) as refused:
            trust.check_trusted(OmegaConf.create(node), tmp_path, node)
        assert f"builds {name}, which is no part" in str(refused.value)
        assert f"trust=[{name}]" in str(refused.value)


def test_a_module_that_is_reached_through_a_trusted_one_is_not_trusted():
    trust.trust("ae_lab")
    assert trust.is_trusted("ae_lab.tracking.run.Run")
    for name in ("ae_lab.tracking.lock.shutil.rmtree", "ae_lab.tracking.environment.subprocess"):
        assert not trust.is_trusted(name)


def test_classes_of_torch_nn_may_be_activations():
    config = OmegaConf.create({"model": {"activation": "torch.nn.Mish"}})
    trust.check_trusted(config, CONF, ["model"])


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("evaluate run=", "model"),
        ("evaluate run=", "data.source"),
        ("evaluate run=", "model.encoder.activation"),
        ("generate run=", "noise"),
        ("train epochs=2 extend=", "callbacks.hostile"),
    ],
)
def test_a_hostile_folder_runs_nothing(hostile, command, tmp_path, words, key):
    value = {"_target_": "os.system", "command": "touch pwned"}
    folder = hostile(key, "os.system" if "activation" in key else value)
    done = command(*f"{words}{folder}".split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "builds os.system, which is no part of ae_lab" in done.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_a_hostile_sweep_draws_nothing(command, tmp_path):
    folder = tmp_path / "outputs" / "sweeps" / "foreign"
    folder.mkdir(parents=True)
    figure = {"_target_": "os.system", "command": "touch pwned"}
    sweep = {"started": "", "key": "k", "data": {}, "jobs": {}}
    job = {"overrides": [], "choices": {}, "run": "nowhere"}
    (folder / "sweep.json").write_text(json.dumps(sweep | {"jobs": {"0": job}}))
    OmegaConf.save({"figures": [figure]}, folder / "multirun.yaml")
    done = command("report")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "builds os.system" in done.stderr


def test_own_parts_train_and_are_evaluated_if_they_are_trusted(command, tmp_path, monkeypatch):
    (tmp_path / "my_parts.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)  # another test's
    own = ["noise._target_=my_parts.Dim", "activation=my_parts.Sine"]
    done = command("train", "latent=2", "hidden=[16]", *SMALL, "data.limit=60", *own)
    assert done.returncode == 0, done.stderr
    [run] = find_runs(tmp_path / "outputs")
    (tmp_path / "imported").unlink()
    for words in ([], ["trust=my_parts.Dim"], ["trust=[other]"]):
        monkeypatch.setattr(trust, "_trusted", set())
        monkeypatch.delitem(sys.modules, "my_parts", raising=False)
        refused = command("evaluate", f"run={run.path}", *words)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "builds my_parts.Sine" in refused.stderr
        assert not (tmp_path / "imported").exists()
    assert command("evaluate", f"run={run.path}", "trust=[my_parts]").returncode == 0
    monkeypatch.setattr(trust, "_trusted", set())
    assert command("generate", f"run={run.path}", "n=4", AE_LAB_TRUST="my_parts").returncode == 0
    monkeypatch.setattr(trust, "_trusted", {"my_parts"})
    assert not trust.is_trusted("my_parts.system")
    assert not trust.is_trusted("my_parts.pathlib.Path")


@pytest.mark.parametrize("word", ["trust=5", "trust=[1]"])
def test_trust_is_a_list_of_names(command, word):
    done = command("evaluate", "run=nowhere", word)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "trust must be a list of packages" in done.stderr
