"""What preparing images costs beside decoding them: `python -m tests.benchmarks.preparation_speed FOLDER`.

a  the whole preparation into an empty cache: decoding, writing, journal, fingerprint
b  the same decoding on the same cores, its results thrown away

They take turns, and the ratios are those of one round. Then the peak memory of a process that
prepares few images and of one that prepares many, spread evenly over the same files.
"""

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ae_lab.data.preparation.cache import Listing, prepared
from ae_lab.data.preparation.decode import cores, in_order
from ae_lab.data.preparation.files import scan


def whole(root: Path, files: list[str], size: int) -> float:
    """Seconds to prepare the files."""
    with tempfile.TemporaryDirectory() as cache, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        listing = Listing(files, np.zeros((len(files), 1), np.uint8))
        prepared(Path(cache), "bench", "images", root, lambda: ({"train": listing}, []), size)
        return time.perf_counter() - start


def bare(root: Path, files: list[str], size: int) -> float:
    """Seconds to decode the files."""
    start = time.perf_counter()
    for _ in in_order([root / name for name in files], size, gray=False):
        pass
    return time.perf_counter() - start


def peak(root: Path, count: int, size: int) -> float:
    """Peak resident memory in MB of a process that prepares `count` of the images."""
    command = [sys.executable, "-m", "tests.benchmarks.preparation_speed", str(root)]
    command += ["--size", str(size), "--peak-of", str(count)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs=2, default=(100, 2500))
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    root, files = asked.folder, sorted(scan(asked.folder))
    if asked.peak_of:
        spread = np.linspace(0, len(files), asked.peak_of, endpoint=False).astype(int)
        whole(root, [files[place] for place in spread], asked.size)
        unit = 1 << (20 if sys.platform == "darwin" else 10)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
        return
    ratios = []
    for _ in range(asked.rounds):
        a, b = whole(root, files, asked.size), bare(root, files, asked.size)
        ratios.append(b / a)
        print(f"prepared {len(files) / a:6.0f} images/s, decoded {len(files) / b:6.0f} images/s")
    print(f"ratio {statistics.median(ratios):.2f} (median of {asked.rounds}) on {cores()} cores")
    few, many = (min(count, len(files)) for count in asked.counts)
    print(f"peak memory: {peak(root, few, asked.size):.0f} MB for {few:,} images, ", end="")
    print(f"{peak(root, many, asked.size):.0f} MB for {many:,}")


if __name__ == "__main__":
    main()
