"""What Lightning's loggers are given beside scalars: images, charts, the final table."""

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import Tensor

from ae_lab.tracking.identity import is_within

# What a person chooses of how a run goes, which says nothing of what comes out.
NOT_HYPERPARAMETERS = ("checkpoint_seconds", "compile", "fast_path", "force", "sweep", "trust")
NOT_HYPERPARAMETERS += ("paths", "logger", "trainer", "scale", "experiment", "run_metrics")
# Losses of training and validation in one chart, in the tab "Custom scalars".
CHARTS = {"training and validation": {"loss": ["Multiline", ["train/loss", "val/loss"]]}}


def log_image(logger: Logger, name: str, image: Tensor, step: int) -> None:
    """Send an image (C, H, W) to a logger that can take one."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, image, step)
    elif hasattr(logger, "log_image"):  # wandb
        logger.log_image(name, [image.permute(1, 2, 0).numpy()], step=step)
    elif hasattr(logger.experiment, "log_image"):  # mlflow
        file = f"{name.replace(' · ', '-')}-{step}.png"
        logger.experiment.log_image(logger.run_id, image.permute(1, 2, 0).numpy(), file)


def log_charts(logger: Logger) -> None:
    """Tell TensorBoard which curves share a chart."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_custom_scalars(CHARTS)


def log_result(
    logger: Logger, settings: dict[str, object], metrics: dict[str, float], step: int
) -> None:
    """Send what a person chose and what came out.

    TensorBoard's table of hyperparameters gets the test metrics alone: each number in it also
    makes a chart, and single numbers make charts of one point.
    """
    chosen = {
        key: value
        for key, value in settings.items()
        if value is not None
        and not is_within(key, NOT_HYPERPARAMETERS)
        and not key.endswith("._target_")  # its group's choice says it better
    }
    if isinstance(logger, TensorBoardLogger):
        tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
        logger.log_hyperparams(chosen, tested, step=step)
    else:
        logger.log_hyperparams(chosen)
        logger.log_metrics(metrics, step=step)
    logger.finalize("success")
