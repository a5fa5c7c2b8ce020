"""Downloads that do not leave half a file behind."""

import gzip
import hashlib
import os
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

CONNECT_SECONDS = 4.0  # until a mirror answers, and between two of its packets
PATIENCE_SECONDS = 10.0  # after which a mirror slower than SLOWEST is given up
SLOWEST = 20_000  # bytes per second
CHUNK = 1 << 16


COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    DownloadColumn(),
    TransferSpeedColumn(),
    TimeRemainingColumn(),
)


class DownloadFailed(Exception):
    """No mirror delivered the file; the message says what each of them did."""


def _receive(url: str, progress: Progress, name: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "ae_lab"})
    with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        bar = progress.add_task(name, total=total or None)
        parts, size, start = [], 0, time.monotonic()
        try:
            while part := answer.read1(CHUNK):
                parts.append(part)
                size += len(part)
                progress.update(bar, completed=size)
                waited = time.monotonic() - start
                if waited > PATIENCE_SECONDS and size / waited < SLOWEST:
                    raise TimeoutError(f"slower than {SLOWEST // 1000} kB/s")
        finally:
            progress.remove_task(bar)
    if total and size != total:
        raise EOFError(f"ended after {size:,} of {total:,} bytes")
    return b"".join(parts)


def download(urls: Sequence[str], target: Path, md5: str) -> None:
    """Write the first gzipped copy in `urls` with the right content to `target`, uncompressed.

    `md5` is that of the uncompressed content. The file appears complete or not at all.

    Raises:
        DownloadFailed: no copy could be had; lists what went wrong at each address.
        DownloadFailed: the folder cannot be written to.
    """
    troubles = []
    with Progress(*COLUMNS, transient=True) as progress:
        for url in urls:
            try:
                data = gzip.decompress(_receive(url, progress, target.name))
            except (urllib.error.URLError, HTTPException, OSError, EOFError, zlib.error) as error:
                troubles.append(f"{url}: {getattr(error, 'reason', None) or error}")
                continue
            if hashlib.md5(data).hexdigest() != md5:
                troubles.append(f"{url}: wrong checksum")
                continue
            beside = target.with_name(f"{target.name}.{os.getpid()}.part")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(data)
                beside.replace(target)
            except OSError as error:
                raise DownloadFailed(f"cannot write {target}: {error}") from error
            return
    raise DownloadFailed("could not download (" + "; ".join(troubles or ["no mirrors given"]) + ")")
