"""Large archives: downloads that go on where they were cut, unpacking that stays in its folder."""

import hashlib
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath

from rich.progress import Progress

from ae_lab.data.preparation.download import CHUNK, COLUMNS, DownloadFailed

TIMEOUT_SECONDS = 30.0  # until the server answers, and between two of its packets
ATTEMPTS = 5  # in a row that bring nothing new
PAUSE_SECONDS = 5.0  # between two attempts
TROUBLES = (urllib.error.URLError, HTTPException, OSError, EOFError)


def download_archive(url: str, target: Path, md5: str) -> None:
    """Download a file to `target`, going on with `<target>.part` if an earlier download left one.

    The file is called `target` once its checksum has been found right.

    Raises:
        DownloadFailed: it cannot be had or stored, or has the wrong checksum (then it is deleted).
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Progress(*COLUMNS, transient=True) as progress:
            if not target.is_file():
                _complete(url, part, progress)
            arrived = target if target.is_file() else part
            if _md5(arrived, progress) != md5:
                arrived.unlink()
                raise DownloadFailed(f"{url}: wrong checksum, deleted what had arrived")
            arrived.replace(target)
    except OSError as error:
        raise DownloadFailed(f"cannot write {target}: {error}") from error


def _complete(url: str, part: Path, progress: Progress) -> None:
    """Receive what is missing of `part`, in as many attempts as bring something new."""
    bar = progress.add_task(part.stem, total=None)
    failures = 0
    while True:
        part.touch()
        before = part.stat().st_size
        try:
            _receive(url, part, progress, bar)
            return
        except TROUBLES as error:
            failures = 1 if part.stat().st_size > before else failures + 1
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if failures == ATTEMPTS or refused:
                why = getattr(error, "reason", None) or error
                size = part.stat().st_size
                if not size:
                    part.unlink()
                note = f"; the {size:,} bytes that arrived are kept" if size else ""
                raise DownloadFailed(f"{url}: {why}{note}") from error
            time.sleep(PAUSE_SECONDS)


def _receive(url: str, part: Path, progress: Progress, bar) -> None:
    """Append the rest of a file to `part`; a server that knows no ranges starts anew."""
    there = part.stat().st_size
    headers = {"User-Agent": "ae_lab", "Range": f"bytes={there}-"}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send; the checksum will tell
            return
        raise
    with answer:
        there = there if answer.status == 206 else 0
        rest = answer.headers.get("Content-Length")
        total = there + int(rest) if rest else None
        room = shutil.disk_usage(part.parent).free
        if total and total - there > room:
            raise DownloadFailed(
                f"{part.parent} has room for {room / 1e9:.1f} GB, but "
                f"{(total - there) / 1e9:.1f} GB are to come"
            )
        with part.open("r+b") as file:
            file.truncate(there)
            file.seek(there)
            while block := answer.read1(CHUNK):
                file.write(block)
                progress.update(bar, total=total, completed=file.tell())
            if total and file.tell() != total:
                raise EOFError(f"ended after {file.tell():,} of {total:,} bytes")


def _md5(path: Path, progress: Progress) -> str:
    bar = progress.add_task(f"checking {path.name}", total=path.stat().st_size)
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            progress.advance(bar, len(block))
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder and delete it. Top-level folders appear there complete.

    Raises:
        DownloadFailed: it is damaged, too large for the disk, or has a member that would be written
            elsewhere or is a link; then nothing of it has been unpacked.
    """
    beside = folder / f".{archive.name}.part"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content, Progress(*COLUMNS, transient=True) as progress:
            members = content.infolist()
            for member in members:
                _refuse_escape(archive, member)
            total, room = (
                sum(member.file_size for member in members),
                shutil.disk_usage(folder).free,
            )
            if total > room:
                raise DownloadFailed(
                    f"{folder} has room for {room / 1e9:.1f} GB, but {archive} unpacks to "
                    f"{total / 1e9:.1f} GB"
                )
            bar = progress.add_task(f"unpacking {archive.name}", total=total)
            for member in members:
                content.extract(member, beside)
                progress.advance(bar, member.file_size)
        _move(beside, folder)
        archive.unlink()
    except (zipfile.BadZipFile, OSError) as error:
        raise DownloadFailed(f"cannot unpack {archive}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _refuse_escape(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    outside = any(
        kind(name).anchor or ".." in kind(name).parts for kind in (PurePosixPath, PureWindowsPath)
    )
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        raise DownloadFailed(f"{archive} is refused: its member {name!r} would leave the folder")


def _move(source: Path, folder: Path) -> None:
    """Move what lies in `source` into `folder`; folders that are there already are filled."""
    for path in source.iterdir():
        if path.is_dir() and (folder / path.name).is_dir():
            _move(path, folder / path.name)
        else:
            path.replace(folder / path.name)
