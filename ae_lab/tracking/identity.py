"""What makes a run the same run: its identity, and a folder name that tells it."""

import json
import re
from hashlib import blake2b
from typing import Any

from omegaconf import DictConfig

from ae_lab.core.configuration import flatten

PARTS = ("model", "data", "trainer", "callbacks", "early_stopping")
# Keys of these parts that say where, how fast or how visibly a run goes, not what comes out.
WITHOUT_EFFECT = (
    *("data.source", "model.optimizer.fast_path", "trainer._target_", "trainer.accelerator"),
    *("trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.enable_progress_bar"),
    *("trainer.enable_model_summary", "trainer.log_every_n_steps", "trainer.profiler"),
    *("trainer.enable_autolog_hparams", "trainer.limit_predict_batches", "trainer.plugins"),
    *("trainer.reload_dataloaders_every_n_epochs", "trainer.use_distributed_sampler"),
    "callbacks.checkpoint_every",
)
# What a person types that is no part of a run's name: these groups' choices, and these keys.
UNNAMED_CHOICES = ("data", "model", "experiment", "logger", "scale")
PARENTS = ("extend", "init_from")  # named by the end of the run's name, which tells it
UNNAMED = (
    *(
        "paths",
        "figures",
        "run_metrics",
        "force",
        "trust",
        "compile",
        "fast_path",
        "checkpoint_seconds",
        "sweep",
    ),
    *WITHOUT_EFFECT,
)


def is_within(key: str, names: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of the names, or lies below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def affects_result(key: str) -> bool:
    """Whether a dotted key of the configuration determines the result."""
    return is_within(key, PARTS) and not is_within(key, WITHOUT_EFFECT)


def identify(config: DictConfig, fingerprint: str, precision: str) -> dict[str, Any]:
    """What determines a run's result, flat: its parts by the names of their classes with their
    arguments, the data itself, the precision."""
    identity = {"data.fingerprint": fingerprint}
    parts = {name: config[name] for name in PARTS if name in config}  # to resolve all takes time
    for key, value in flatten(parts).items():
        if affects_result(key) and not key.endswith("._partial_"):
            is_class = key.endswith("._target_")
            identity[key] = value.rpartition(".")[2] if is_class else value
    return identity | {"trainer.precision": precision}


def digest(content: Any) -> str:
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()


def run_name(overrides: list[str], choices: dict[str, str], data: str) -> str:
    """A folder's name from what a person typed: data, model, then what differs from the defaults.

    >>> run_name(["preset=model_2", "noise=speckle", "noise.sigma=0.4"], {"model": "mlp"}, "mnist")
    'mnist-mlp-model_2-speckle-sigma0.4'
    """
    parts = [data, choices.get("model", "model")]
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in UNNAMED_CHOICES and not is_within(key, UNNAMED):
            value = value.rstrip("/")[-8:] if key in PARENTS else value
            parts.append(value if key in choices else key.rpartition(".")[2] + value)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).strip("_")[:120]
