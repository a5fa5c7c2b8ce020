"""A person's own photographs, restored by a run: the command `restore`."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ae_lab.core import configuration, validation
from ae_lab.core.console import plain_console
from ae_lab.core.errors import RunFailed, UserError
from ae_lab.core.files import check_writable
from ae_lab.data.preparation.files import scan
from ae_lab.data.sources.folder import readable_suffixes
from ae_lab.inference.loaded_run import check_built, check_done, load_model
from ae_lab.inference.photo_files import (
    WRITABLE,
    check_target,
    large_images,
    read_photo,
    write_photo,
)
from ae_lab.inference.restorer import Advance, Restorer
from ae_lab.tracking.registry import run_from_path
from ae_lab.tracking.run import Run


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
    restorer = build_restorer(run, config)
    failed: dict[Path, str] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with large_images(), Progress(*columns, transient=True, console=plain_console()) as progress:
        for source, target in jobs:
            bar = progress.add_task(source.name, total=1.0)
            try:
                line = restore_file(
                    restorer, source, target, lambda share, bar=bar: progress.advance(bar, share)
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


def build_restorer(run: Run, config: DictConfig) -> Restorer:
    """A run's model, with the corruption and what is known of it that a person asks for.

    Raises:
        UserError: the run cannot do what is asked.
    """
    model, noise, side = load_model(run), None, config.side
    if config.corrupt:
        check_built(run, *([] if config.noise else ["noise"]))
        noise = instantiate(config.noise or run.config.noise)
    if isinstance(side, str):
        side = read_photo(configuration.path_from_start(side))
    return Restorer(
        model, str(run.path), noise, side, config.tile, config.seed, config.self_ensemble
    )


def restore_file(restorer: Restorer, source: Path, target: Path, advance: Advance) -> str:
    """Restore a file; returns what to say of it.

    Raises:
        UserError: it cannot be read, restored or written.
    """
    photo = read_photo(source)
    check_target(target, photo)
    restored = restorer.restore(photo, advance)
    write_photo(restored.photo, target)
    return f"{target}: {', '.join(restored.notes)}"


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
