"""What only the data of a run determine, computed once for all runs on them."""

from collections.abc import Callable
from typing import Any, TypeVar

from hydra.utils import instantiate
from omegaconf import OmegaConf

from ae_lab.core.configuration import flatten
from ae_lab.data import ImageData
from ae_lab.inference.loaded_run import check_built, check_data
from ae_lab.tracking.identity import digest
from ae_lab.tracking.run import Run

T = TypeVar("T")

_cache: dict[str, Any] = {}


def cached_for_data(run: Run, compute: Callable[[ImageData], T], *key: str | int) -> T:
    """What a run's data and corruption alone determine, computed once a process and named `key`.

    Raises:
        UserError: the data is not what the run was trained on.
    """
    noise = flatten(OmegaConf.create({"noise": run.config.noise}))
    fingerprint = run.record["data"]["fingerprint"]
    key = digest([fingerprint, run.config.data.binarize, noise, key])
    if key not in _cache:
        check_built(run, "data")
        data = instantiate(run.config.data)
        check_data(run, data)
        _cache[key] = compute(data)
    return _cache[key]
