"""What makes a run the same run: its identity, and a folder name that tells it."""

import json
import re
from hashlib import blake2b
from typing import Any

from omegaconf import DictConfig, OmegaConf

# Keys that say where, how fast or how visibly a run goes, not what comes out.
NOT_IDENTITY = (
    *(
        "path",
        "paths",
        "logger",
        "figures",
        "measures",
        "scale",
        "run",
        "force",
        "compile",
        "checkpoint_seconds",
        "data.source",
    ),
    *("trainer._target_", "trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
    *("trainer.strategy", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.log_every_n_steps", "trainer.profiler"),
)


def flat(config: DictConfig | dict, prefix: str = "") -> dict[str, Any]:
    """A nested configuration as {dotted key: value}, interpolations resolved, lists as leaves."""
    if isinstance(config, DictConfig):
        config = OmegaConf.to_container(config, resolve=True)
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        leaves |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves


def counts(key: str) -> bool:
    """Whether a dotted key has a say in the result."""
    return not any(key == name or key.startswith(f"{name}.") for name in NOT_IDENTITY)


def identity(config: DictConfig, fingerprint: str, precision: str) -> dict[str, Any]:
    """What determines a run's result, flat: the configuration, the data itself, the precision."""
    leaves = {key: value for key, value in flat(config).items() if counts(key)}
    return leaves | {"data.fingerprint": fingerprint, "trainer.precision": precision}


def digest(content: Any) -> str:
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=4).hexdigest()


def readable(overrides: list[str], choices: dict[str, str], data: str) -> str:
    """A folder's name from what a person typed: data, model, then what differs from the defaults.

    >>> readable(["preset=model_2", "noise=speckle", "noise.sigma=0.4"], {"model": "mlp"}, "mnist")
    'mnist-mlp-model_2-speckle-sigma0.4'
    """
    parts = [data, choices.get("model", "model")]
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if counts(key) and key not in ("data", "model", "experiments"):
            parts.append(value if key in choices else key.rpartition(".")[2] + value)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).strip("_")[:120]
