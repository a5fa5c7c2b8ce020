"""Trains models in one process of several: `python -m tests.two_processes FOLDER`.

FOLDER/configs.pkl has a configuration for each name. What each process ends with is written to
FOLDER/NAME-RANK.pt: the state_dict after training, and the means of validation.
"""

import pickle
import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core.console import RANK
from ae_lab.data.module import load_data
from ae_lab.tracking.run import Run
from ae_lab.training.trainer import build_trainer, quiet_libraries


def train(config: DictConfig, folder: Path) -> dict[str, dict]:
    """Train a model, without a test; its state and the means of its last validation."""
    data, model = load_data(config), instantiate(config.model)
    build_trainer(config, Run(folder), 0, model).fit(model, data)
    return {"state": model.state_dict(), "means": model.epoch_means}


def main() -> None:
    torch.set_num_threads(1)
    quiet_libraries()
    folder = Path(sys.argv[1])
    for name, config in pickle.loads((folder / "configs.pkl").read_bytes()).items():
        torch.save(train(config, folder / name), folder / f"{name}-{RANK}.pt")


if __name__ == "__main__":
    main()
