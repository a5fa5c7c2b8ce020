"""Image files decoded once into a cache, from which every later start maps them into memory.

    python -m ae_lab.prepare_data data=coco64    ahead of time; the first use does it too

A cache is a folder named by a digest of its source files and settings:

    images.u8      uint8 (N, C, H, W), split after split; the patches of a file are neighbours
    labels.u8      uint8 (N, K)
    names.txt      the files' names, a JSON string a line
    about.json     shapes, splits, fingerprint
    report.json    the files that could not be used and why, and what else was noticed

While it is being made it is called `<digest>.part` and has a journal besides, one line a file, by
which a preparation that was killed goes on where it was.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ae_lab.core.console import plain_console
from ae_lab.core.errors import UserError
from ae_lab.core.files import exclusive_lock, write_json
from ae_lab.data.images import Split
from ae_lab.data.preparation.decode import UNREADABLE, decode_chunk, in_order
from ae_lab.data.preparation.journal import Journal

BLOCK = 1 << 20
ROWS = 256  # images moved at a time


@dataclass
class Listing:
    """The image files of one split, relative to a common folder, and labels, uint8 (N, K)."""

    files: list[str]
    labels: np.ndarray


Listings = dict[str, Listing]


@dataclass
class Plan:
    """Image files, how those that can be used are split, and what was noticed about them."""

    files: list[str]
    split: Callable[[Collection[str]], Listings]
    notes: list[str]

    @property
    def in_order(self) -> list[str]:
        """The files as they lie in the cache if all can be used."""
        return [name for listing in self.split(self.files).values() for name in listing.files]


@dataclass
class Prepared:
    """A finished cache: its folder, what it says of itself, and its splits, mapped, not read."""

    folder: Path
    about: dict
    splits: dict[str, Split]

    @property
    def fingerprint(self) -> str:
        return self.about["fingerprint"]


def fingerprint(folder: Path, about: dict) -> str:
    """A digest of the images and labels of each split, read in blocks: memory stays flat."""
    digest = blake2b(json.dumps([about["shape"], about["splits"]]).encode(), digest_size=8)
    for file in ("images.u8", "labels.u8"):
        with (folder / file).open("rb") as content:
            while block := content.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def fill_cache(
    folder: Path,
    what: str,
    root: Path,
    plan: Plan,
    size: int,
    gray: bool,
    num_patches: int | None = None,
) -> dict:
    """Fill a folder with the images of a plan, going on with what is there: files left out.

    Raises:
        UserError: no file of a split can be used.
    """
    files, shape = plan.in_order, [1 if gray else 3, size, size]
    folder.mkdir(parents=True, exist_ok=True)
    rows = num_patches or 1  # of a file
    journal = Journal(folder, rows * int(np.prod(shape)))
    start = len(journal.whys)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    title = TextColumn("{task.description}", markup=False)
    with Progress(title, *columns, transient=True, console=plain_console()) as progress:
        bar = progress.add_task(f"preparing {what}", total=len(files), completed=start)
        paths = [root / name for name in files[start:]]
        for count in journal.append(in_order(paths, size, gray, num_patches)):
            progress.advance(bar, count)

    whys = dict(zip(files, journal.whys, strict=True))
    left_out = {name: why for name, why in whys.items() if why is not None}
    listings = plan.split([name for name in files if whys[name] is None])
    check_splits(what, plan, listings, left_out)
    put_in_order(folder, [name for name in files if whys[name] is None], listings)
    write_summary(folder, shape, listings, rows)
    return left_out


def check_splits(what: str, plan: Plan, listings: Listings, left_out: dict[str, str]) -> None:
    """Check that each split has an image.

    Raises:
        UserError: one has none; names one of its files and why it cannot be used.
    """
    for split, listing in listings.items():
        if not listing.files:
            files = plan.split(plan.files)[split].files
            usable = len(plan.files) - len(left_out)
            why = f"none of the {len(files):,} files of the {split} split holds an image that can"
            if usable < len(listings):
                why = f"{usable:,} images are too few for each split to have one: no others can"
            example = next(name for name in [*files, *left_out] if name in left_out)
            raise UserError(f"{what}: {why} be used, e.g. {example} ({left_out[example]})")


def put_in_order(folder: Path, files: list[str], listings: Listings) -> None:
    """Move the images of `files`, as they were decoded, to where the splits want them.

    The journal goes before they move: a preparation that is killed then starts again.
    """
    place = {name: number for number, name in enumerate(files)}
    order = [place[name] for listing in listings.values() for name in listing.files]
    if order == list(range(len(files))):
        return
    images, ordered = folder / "images.u8", folder / "ordered.u8"
    rows = np.memmap(images, np.uint8, "r").reshape(len(files), -1)
    with ordered.open("wb") as moved:
        for start in range(0, len(order), ROWS):
            moved.write(rows[order[start : start + ROWS]].tobytes())
    (folder / "journal").unlink()
    ordered.replace(images)


def write_summary(folder: Path, shape: list[int], listings: Listings, rows: int) -> None:
    """Write labels, names and what the cache says of itself; each file has so many rows."""
    labels = np.concatenate([listing.labels for listing in listings.values()]).repeat(rows, 0)
    names = [json.dumps(name) for listing in listings.values() for name in listing.files]
    splits = {split: rows * len(listing.files) for split, listing in listings.items()}
    about = {"shape": shape, "classes": labels.shape[1], "splits": splits}
    (folder / "labels.u8").write_bytes(labels.tobytes())
    (folder / "names.txt").write_text("\n".join(names) + "\n")
    write_json(folder / "about.json", about | {"fingerprint": fingerprint(folder, about)})


def open_cache(folder: Path) -> Prepared:
    """A finished cache, its images mapped into memory.

    Raises:
        UserError: it is damaged.
    """
    try:
        about = json.loads((folder / "about.json").read_text())
        total = sum(about["splits"].values())
        # "c": writable, as torch wants it, but what is written stays in memory
        images = np.memmap(folder / "images.u8", np.uint8, "c", shape=(total, *about["shape"]))
        labels = np.fromfile(folder / "labels.u8", np.uint8).reshape(total, about["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it to prepare it anew") from error
    sizes = list(about["splits"].values())
    parts = zip(
        torch.from_numpy(images).split(sizes), torch.from_numpy(labels).split(sizes), strict=True
    )
    splits = {name: Split(*part) for name, part in zip(about["splits"], parts, strict=True)}
    return Prepared(folder, about, splits)


def has_become_readable(folder: Path, root: Path, size: int) -> bool:
    """Whether an image that could not be read when a cache was made can be read now."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        left_out = json.loads((folder / "report.json").read_text())["left out"]
        missed = [root / name for name, why in left_out.items() if why.startswith(UNREADABLE)]
        return any(not isinstance(one, str) for one in decode_chunk(missed, size, gray=False))
    return False


def prepare(
    cache: Path,
    key: str,
    what: str,
    root: Path,
    planned: Callable[[], Plan],
    size: int,
    gray: bool = False,
    num_patches: int | None = None,
) -> Prepared:
    """The cache named by `key`, made if it is not there yet, by one process at a time.

    `planned` tells the files under `root`; it is called only if there is something to make. Of each
    file there is its central square, or `num_patches`.

    Raises:
        UserError: the cache cannot be written or is damaged, or `planned` raises it.
    """
    folder, beside = cache / key, cache / f"{key}.part"
    if folder.is_dir() and not has_become_readable(folder, root, size):
        return open_cache(folder)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(cache / f"{key}.lock"):
            if folder.is_dir() and has_become_readable(folder, root, size):
                shutil.rmtree(folder)
            if not folder.is_dir():
                start = time.monotonic()
                plan = planned()
                left_out = fill_cache(beside, what, root, plan, size, gray, num_patches)
                write_json(beside / "report.json", {"left out": left_out, "noticed": plan.notes})
                (beside / "journal").unlink(missing_ok=True)
                beside.rename(folder)
                print_summary(folder, what, left_out, plan.notes, time.monotonic() - start)
    except OSError as error:
        raise UserError(
            f"cannot prepare images in {cache} ({error}): set AE_LAB_CACHE (or paths.cache=...) "
            "to a folder that can be written to and has room"
        ) from error
    return open_cache(folder)


def print_summary(
    folder: Path, what: str, left_out: dict[str, str], notes: list[str], seconds: float
):
    """Print what came of a preparation in a line, and in another one what is amiss."""
    total = sum(open_cache(folder).about["splits"].values())
    lines = [f"prepared {what}: {total:,} images in {seconds:.1f} s, {folder}"]
    if left_out:
        example, why = next(iter(left_out.items()))
        count = f"{len(left_out):,} files cannot be used and are left out"
        notes = [*notes, f"{count}, e.g. {example} ({why})"]
    if notes:
        lines.append(f"noticed: {'; '.join(notes)}. Report: {folder / 'report.json'}")
    for line in lines:
        print(line.encode(errors="replace").decode(), flush=True)  # names can be broken UTF-8
