"""Image files decoded once into a cache, from which every later start maps them into memory.

    python -m ae_lab.prepare_data data=coco64    ahead of time; the first use does it too

A cache is a folder named by a digest of its source files and settings:

    images.u8      uint8 (N, C, H, W), split after split
    labels.u8      uint8 (N, K)
    names.txt      the files' names, a JSON string a line
    about.json     shapes, splits, fingerprint
    report.json    the files that could not be used and why, and what else was noticed

While it is being made it is called `<digest>.part` and has a journal besides, one line a file, by
which a preparation that was killed goes on where it was.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from ae_lab.core.errors import UserError
from ae_lab.core.files import exclusive_lock, write_json
from ae_lab.data.images import Split
from ae_lab.data.preparation.decode import in_order
from ae_lab.data.preparation.journal import Journal

BLOCK = 1 << 20


@dataclass
class Listing:
    """The image files of one split, relative to a common folder, and labels, uint8 (N, K)."""

    files: list[str]
    labels: np.ndarray


Listings = dict[str, Listing]


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
    folder: Path, what: str, root: Path, listings: Listings, size: int, gray: bool
) -> dict:
    """Fill a folder with the images of `listings`, going on with what is there: files left out.

    Raises:
        UserError: no file of a split can be used.
    """
    files = [name for listing in listings.values() for name in listing.files]
    shape = [1 if gray else 3, size, size]
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, int(np.prod(shape)))
    start = len(journal.whys)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(f"preparing {what}", total=len(files), completed=start)
        for count in journal.append(in_order([root / name for name in files[start:]], size, gray)):
            progress.advance(bar, count)

    write_summary(folder, what, shape, listings, journal.whys)
    return {name: why for name, why in zip(files, journal.whys, strict=True) if why is not None}


def write_summary(
    folder: Path, what: str, shape: list[int], listings: Listings, whys: list
) -> None:
    """Write labels, names and what the cache says of itself; `whys` are None for usable files."""
    splits, labels, names, start = {}, [], [], 0
    for split, listing in listings.items():
        reasons = whys[start : start + len(listing.files)]
        usable = [place for place, why in enumerate(reasons) if why is None]
        if not usable:
            raise UserError(
                f"{what}: none of the {len(reasons):,} files of the {split} split holds an image "
                f"that can be used, e.g. {listing.files[0]} ({reasons[0]})"
            )
        splits[split] = len(usable)
        labels.append(listing.labels[usable])
        names += [json.dumps(listing.files[place]) for place in usable]
        start += len(reasons)
    about = {"shape": shape, "classes": labels[0].shape[1], "splits": splits}
    (folder / "labels.u8").write_bytes(np.concatenate(labels).tobytes())
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


def prepare(
    cache: Path,
    key: str,
    what: str,
    root: Path,
    listed: Callable[[], tuple[Listings, list[str]]],
    size: int,
    gray: bool = False,
) -> Prepared:
    """The cache named by `key`, made if it is not there yet, by one process at a time.

    `listed` tells the files under `root` and what was noticed about them; it is called only if
    there is something to make.

    Raises:
        UserError: the cache cannot be written or is damaged, or `listed` raises it.
    """
    folder, beside = cache / key, cache / f"{key}.part"
    if folder.is_dir():
        return open_cache(folder)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(cache / f"{key}.lock"):
            if not folder.is_dir():
                start = time.monotonic()
                listings, notes = listed()
                left_out = fill_cache(beside, what, root, listings, size, gray)
                write_json(beside / "report.json", {"left out": left_out, "noticed": notes})
                (beside / "journal").unlink()
                beside.rename(folder)
                print_summary(folder, what, left_out, notes, time.monotonic() - start)
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
