"""What it costs to prepare images, compared with decoding them alone.

    python -m tests.benchmarks.preparation_speed FOLDER

a  the whole preparation into an empty cache: decoding, writing, journal, fingerprint
b  the same decoding on the same cores, whose results are thrown away

They take turns; a ratio is that of one round. Then the peak memory of a process that
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

from ae_lab.data.preparation.cache import Listing, Plan, prepare
from ae_lab.data.preparation.decode import count_cores, in_order
from ae_lab.data.preparation.files import scan


def time_preparation(root: Path, files: list[str], size: int) -> float:
    """Seconds to prepare the files."""
    with tempfile.TemporaryDirectory() as cache, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        listing = Listing(files, np.zeros((len(files), 1), np.uint8))
        plan = Plan(files, lambda usable: {"train": listing}, [])
        prepare(Path(cache), "bench", "images", root, lambda: plan, size)
        return time.perf_counter() - start


def time_decoding(root: Path, files: list[str], size: int) -> float:
    """Seconds to decode the files."""
    start = time.perf_counter()
    for _ in in_order([root / name for name in files], size, gray=False):
        pass
    return time.perf_counter() - start


def measure_peak_memory(root: Path, count: int, size: int) -> float:
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
    arguments = parser.parse_args()
    root, files = arguments.folder, sorted(scan(arguments.folder).files)
    if arguments.peak_of:
        places = np.linspace(0, len(files), arguments.peak_of, endpoint=False).astype(int)
        time_preparation(root, [files[place] for place in places], arguments.size)
        unit = 1 << (20 if sys.platform == "darwin" else 10)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
        return
    ratios = []
    for _ in range(arguments.rounds):
        a = time_preparation(root, files, arguments.size)
        b = time_decoding(root, files, arguments.size)
        ratios.append(b / a)
        print(f"prepared {len(files) / a:6.0f} images/s, decoded {len(files) / b:6.0f} images/s")
    ratio = statistics.median(ratios)
    print(f"ratio {ratio:.2f} (median of {arguments.rounds}) on {count_cores()} cores")
    few, many = (min(count, len(files)) for count in arguments.counts)
    peaks = [measure_peak_memory(root, count, arguments.size) for count in (few, many)]
    print(f"peak memory: {peaks[0]:.0f} MB for {few:,} images, {peaks[1]:.0f} MB for {many:,}")


if __name__ == "__main__":
    main()
