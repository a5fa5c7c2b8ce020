"""A person's own photographs, restored by a run: the command `restore`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ae_lab.core import configuration, validation
from ae_lab.core.console import plain_console
from ae_lab.core.errors import RunFailed, UserError, check_float, check_int
from ae_lab.core.files import check_writable
from ae_lab.core.randomness import generator
from ae_lab.data import Corruption
from ae_lab.data.preparation.files import scan
from ae_lab.data.sources.folder import readable_suffixes
from ae_lab.inference.loaded_run import check_built, check_done, load_model
from ae_lab.inference.photo_files import (
    WRITABLE,
    Photo,
    check_target,
    large_images,
    read_photo,
    write_photo,
)
from ae_lab.inference.tiling import Box, TiledModel, crop_side, restore_tiles
from ae_lab.models.conditioning import label_settings
from ae_lab.tracking.registry import run_from_path
from ae_lab.tracking.run import Run
from ae_lab.training.metrics import image_metrics

Advance = Callable[[float], None]
SSIM_SIDE = 11  # pixels of its window


def restore(config: DictConfig) -> list[Path]:
    """Restore the photographs asked for; returns the files written.

    Raises:
        UserError: no run, no input or no output is named, or the run cannot do what is asked.
        RunFailed: some of several files could not be restored; the others are.
    """
    validation.check_options(config, "restore")
    validation.check_parts(config)
    run = run_from_path(config.run)
    check_done(run)
    jobs = find_jobs(config.input, config.output)
    restorer = Restorer(run, config)
    failed: dict[Path, str] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with large_images(), Progress(*columns, transient=True, console=plain_console()) as progress:
        for source, target in jobs:
            bar = progress.add_task(source.name, total=1.0)
            try:
                line = restorer.restore_file(
                    source, target, lambda share, bar=bar: progress.advance(bar, share)
                )
            except UserError as error:
                if len(jobs) == 1:
                    raise
                failed[source] = str(error)
                progress.console.print(f"skipped: {error}")
            else:
                progress.console.print(line, soft_wrap=True)
            progress.remove_task(bar)
    if failed:
        raise RunFailed(f"{len(failed)} of {len(jobs)} files could not be restored; see above")
    return [target for _, target in jobs]


def find_jobs(named: str | list[str] | None, output: str | None) -> list[tuple[Path, Path]]:
    """Each file to restore, and where the result goes.

    One file goes to a file; several, or those of a folder, to a folder, under their own names.

    Raises:
        UserError: nothing is named, a file is not there, two would go to one place, or one would
            overwrite an input.
    """
    names = list(named) if isinstance(named, list | ListConfig) else [named] if named else []
    if not names:
        raise UserError("which photograph? Give input=photo.jpg, several, or a folder")
    if not output:
        raise UserError("where to? Give output=out.png, or a folder for several")
    inputs = [configuration.path_from_start(name) for name in names]
    if missing := [path for path in inputs if not path.exists()]:
        raise UserError(f"input={missing[0]} is not there")
    target = configuration.path_from_start(output)
    photos = [photo for path in inputs for photo in list_photos(path)]
    if len(inputs) == 1 and inputs[0].is_file() and not target.is_dir():
        jobs = [(inputs[0], target)]
    else:
        if target.is_file():
            raise UserError(f"output={output} is a file: for several photographs name a folder")
        jobs = [(path, target / name) for path, name in photos]
    check_jobs(jobs)
    return jobs


def list_photos(root: Path) -> list[tuple[Path, str]]:
    """A file, or the images of a folder, each with the name of its result: its own below the
    folder, with .png behind it where it is of a kind that is only read.

    Raises:
        UserError: the folder has none.
    """
    kinds = readable_suffixes()
    if root.is_file():
        folder, names = root.parent, [root.name]
    else:
        folder = root
        names = [name for name in scan(root).files if Path(name).suffix.lower() in kinds]
    if not names:
        raise UserError(f"input={root} has no images (files named .jpg, .png, ...)")
    return [
        (folder / name, name if Path(name).suffix.lower() in WRITABLE else f"{name}.png")
        for name in sorted(names)
    ]


def check_jobs(jobs: list[tuple[Path, Path]]) -> None:
    """Check that no result takes the place of an input or of another result.

    Raises:
        UserError: one would.
    """
    inputs = {source.resolve() for source, _ in jobs}
    targets: set[Path] = set()
    for source, target in jobs:
        place = target.resolve()
        if place in inputs:
            raise UserError(f"output={target} would overwrite an input: name another place")
        if place in targets:
            raise UserError(f"two photographs are called {source.name}: restore them apart")
        targets.add(place)
        check_writable(target.parent, "choose another with output=...")


class Restorer:
    """A run's model, with what a person wants of it.

    With `corrupt` the run's corruption, or that of `noise=`, is added first, and the result
    compared with the photograph. `side` is what the model is told of the corruption: a level, or an
    image that is white where something is missing.

    Raises:
        UserError: the run takes labels, or is told of a corruption and nobody says what.
    """

    def __init__(self, run: Run, config: DictConfig):
        self.model = load_model(run)
        self.tiled = TiledModel(self.model, config.tile)
        self.side, self.seed = config.side, check_int("seed", config.seed, minimum=0)
        if takes := label_settings(self.model):
            raise UserError(f"{run.path} takes labels ({takes[0]}), which photographs do not have")
        self.noise: Corruption | None = None
        if config.corrupt:
            check_built(run, *([] if config.noise else ["noise"]))
            self.noise = instantiate(config.noise or run.config.noise)
        elif self.model.side and self.side is None:
            raise UserError(
                f"{run.path} is told what is known of a corruption: give side=0.1, a level, or "
                "side=mask.png, white where something is missing; or corrupt=true"
            )
        if self.side is not None and not self.model.side:
            raise UserError(f"{run.path} is told nothing of corruptions: leave out side")

    def restore_file(self, source: Path, target: Path, advance: Advance) -> str:
        """Restore a file; returns what to say of it.

        Raises:
            UserError: it cannot be read, restored or written.
        """
        photo = read_photo(source)
        check_target(target, photo)
        height, width, channels = photo.pixels.shape
        self.tiled.check_size(height, width)
        words = [f"{width}×{height}", *photo.notes]
        if channels != self.model.shape[0]:
            words.append(
                "each colour by a gray model"
                if self.model.shape[0] == 1
                else "gray by a model of colour, the mean of its channels"
            )
        corrupted, side = self.corrupt(photo, source)
        restored = np.empty_like(photo.pixels)
        white = np.iinfo(restored.dtype).max

        def read(box: Box) -> tuple[Tensor, Tensor | None]:
            tile = to_tensor(photo.pixels[box]) if corrupted is None else corrupted[..., *box]
            return self.to_model(tile, crop_side(side, box))

        def write(box: Box, tile: Tensor) -> None:
            pixels = self.from_model(tile, channels)[0].clamp(0, 1).mul(white).round()
            restored[box] = pixels.permute(1, 2, 0).numpy().astype(restored.dtype)

        restore_tiles(self.tiled, (height, width), read, write, advance)
        if corrupted is not None:
            words += [describe_gain(to_tensor(photo.pixels), corrupted, to_tensor(restored))]
        write_photo(Photo(restored, photo.alpha, photo.metadata), target)
        return f"{target}: {', '.join(words)}"

    def corrupt(self, photo: Photo, source: Path) -> tuple[Tensor | None, Tensor | None]:
        """The photograph corrupted, if that is wanted, and the side that the model is told."""
        if self.noise is None:
            return None, self.read_side(photo.pixels.shape[:2])
        rng = generator(self.seed, "restore", source.name)
        return self.noise(to_tensor(photo.pixels), rng)

    def read_side(self, size: tuple[int, ...]) -> Tensor | None:
        """The side that a person gives, (1, 1, 1, 1) or (1, 1, H, W).

        Raises:
            UserError: it is no level, and no image of the photograph's size.
        """
        if self.side is None:
            return None
        if isinstance(self.side, int | float):
            return torch.full((1, 1, 1, 1), check_float("side", self.side))
        mask = read_photo(configuration.path_from_start(self.side)).pixels
        if mask.shape[:2] != size:
            raise UserError(
                f"side={self.side} is {mask.shape[1]}×{mask.shape[0]}, the photograph "
                f"{size[1]}×{size[0]}: give both the same size"
            )
        return to_tensor(mask).mean(1, keepdim=True).round()

    def to_model(self, tile: Tensor, side: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Pixels (1, C, h, w) with the channels of the model: each colour as an image of its own
        for a gray model, gray three times for one of colour."""
        if tile.shape[1] == self.model.shape[0]:
            return tile, side
        if tile.shape[1] > 1:
            tile = tile.transpose(0, 1)
            return tile, side if side is None else side.expand(len(tile), -1, -1, -1)
        return tile.expand(-1, self.model.shape[0], -1, -1), side

    def from_model(self, tile: Tensor, channels: int) -> Tensor:
        """What the model makes of `to_model`, with the photograph's channels again."""
        if len(tile) > 1:
            return tile.transpose(0, 1)
        return tile if tile.shape[1] == channels else tile.mean(1, keepdim=True)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W, C), uint8 or uint16 → (1, C, H, W) in [0, 1]."""
    values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    return values / np.iinfo(pixels.dtype).max


def describe_gain(clean: Tensor, corrupted: Tensor, restored: Tensor) -> str:
    """PSNR and SSIM before and after."""
    if min(clean.shape[2:]) < SSIM_SIDE:
        return "too small for SSIM"
    before, after = (image_metrics(image, clean) for image in (corrupted, restored))
    numbers = [(float(one["psnr"]), float(one["ssim"])) for one in (before, after)]
    (psnr, ssim), (better, closer) = numbers
    return f"PSNR {psnr:.2f} → {better:.2f} dB, SSIM {ssim:.3f} → {closer:.3f}"
