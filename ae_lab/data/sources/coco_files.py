"""The files of COCO 2017: where they lie, and how to have them."""

import os
from pathlib import Path

from ae_lab.core.errors import UserError
from ae_lab.core.files import exclusive_lock
from ae_lab.data.preparation.archive import download_archive, unpack
from ae_lab.data.preparation.download import DownloadFailed

FOLDERS = ("train2017", "val2017")
# The official categories, in the order of their ids.
CATEGORIES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
SITE = "http://images.cocodataset.org/"
ARCHIVES = {  # with their MD5, the smallest first
    "annotations/annotations_trainval2017.zip": "f4bbac642086de4f52a3fdda2de5fa2c",
    "zips/val2017.zip": "442b8da7639aecaf257c1dceb8ba8c80",
    "zips/train2017.zip": "cced6f7f71b7629ddf16f17bbcfab6b2",
}


def annotation_file(base: Path, part: str) -> Path:
    return base / "annotations" / f"instances_{part}.json"


def find_missing(base: Path) -> list[str]:
    """What of the official layout is not there."""
    names = [f"annotations/instances_{part}.json" for part in FOLDERS]
    lost = [name for name in names if not (base / name).is_file()]
    for part in FOLDERS:
        try:
            with os.scandir(base / part) as entries:
                empty = next(entries, None) is None
        except OSError:
            empty = True
        lost += [part] if empty else []
    return lost


def download_missing(base: Path) -> None:
    """Download and unpack the official archives that hold what is missing.

    Raises:
        DownloadFailed: one of them cannot be had or unpacked; what has arrived is kept.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(base / ".download.lock"):
            for path, md5 in ARCHIVES.items():
                archive = base / Path(path).name
                part = archive.stem if archive.stem in FOLDERS else "annotations/"
                if any(name.startswith(part) for name in find_missing(base)):
                    download_archive(f"{SITE}{path}", archive, md5)
                    unpack(archive, base)
    except OSError as error:
        raise DownloadFailed(f"cannot write to {base}: {error}") from error


def find_or_download(base: Path, download: bool) -> None:
    """See that the official layout is there, after a download if asked for.

    Raises:
        UserError: something is missing; says where it looked and what helps.
    """
    why = "downloading it (20 GB) is switched off"
    if (lost := find_missing(base)) and download:
        try:
            download_missing(base)
        except DownloadFailed as error:
            why = str(error)
        lost = find_missing(base)
    if lost:
        raise UserError(
            f"COCO 2017 is not there: no {', '.join(lost)} in {base}; {why}. Four remedies: place "
            "the files there, as the official archives unpack, or set AE_LAB_DATA (or "
            "paths.data=...) to a folder that has coco/, or have them downloaded with "
            "data.source.download=true, or train on embedded photographs with data=photos64"
        )
