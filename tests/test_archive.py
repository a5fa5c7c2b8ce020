"""Downloads of archives: cut, wrong, hostile; and COCO's three, from a server of our own."""

import hashlib
import http.server
import io
import re
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest

from ae_lab.core.errors import UserError
from ae_lab.data.preparation import archive
from ae_lab.data.preparation.archive import download_archive, unpack
from ae_lab.data.preparation.download import DownloadFailed
from ae_lab.data.sources import coco_files
from ae_lab.data.sources.coco import coco
from tests.tiny_coco import write_coco

DATA = bytes(range(256)) * 4000
MD5 = hashlib.md5(DATA).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files`; the first part of the path says how. It records the requested ranges."""

    files: ClassVar[dict[str, bytes]] = {"a.zip": DATA}
    requested_ranges: ClassVar[list[str]] = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, how, name = self.path.split("/", 2)
        data = self.files.get(name)
        byte_range = self.headers.get("Range", "")
        self.requested_ranges.append(byte_range)
        start = int(re.match(r"bytes=(\d+)-|", byte_range)[1] or 0) if how != "plain" else 0
        if data is None or start >= len(data):
            self.send_error(404 if data is None else 416)
            return
        self.send_response(200 if how == "plain" else 206)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if how == "cut":
            self.wfile.write(data[start : start + len(data) // 3])
        elif how == "dead":
            self.close_connection = True
        else:
            self.wfile.write(data[start:])


@pytest.fixture
def site(monkeypatch):
    """`site("cut")` → the address of a server that behaves so."""
    monkeypatch.setattr(archive, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(Server, "requested_ranges", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda how: f"http://127.0.0.1:{server.server_port}/{how}/"
    server.shutdown()
    server.server_close()


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["good", "plain"])
@pytest.mark.parametrize("there", [0, 1000, len(DATA)])
def test_a_download_resumes_where_it_stopped(how, there, site, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(DATA[:there])
    download_archive(f"{site(how)}a.zip", tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert names(tmp_path) == {"a.zip"}
    assert Server.requested_ranges == [f"bytes={there}-"]


def test_a_server_that_cuts_gets_a_request_for_the_rest(site, tmp_path):
    download_archive(f"{site('cut')}a.zip", tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == DATA
    third = len(DATA) // 3
    assert Server.requested_ranges[:3] == ["bytes=0-", f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_partial_download_stays_unless_its_checksum_is_wrong(site, tmp_path):
    part = tmp_path / "a.zip.part"
    part.write_bytes(DATA[:500])
    with pytest.raises(DownloadFailed, match="500 bytes that arrived are kept"):
        download_archive(f"{site('dead')}a.zip", tmp_path / "a.zip", MD5)
    assert part.read_bytes() == DATA[:500]
    assert len(Server.requested_ranges) == archive.ATTEMPTS
    part.write_bytes(b"x" * 500)
    with pytest.raises(DownloadFailed, match="wrong checksum"):
        download_archive(f"{site('good')}a.zip", tmp_path / "a.zip", MD5)
    assert names(tmp_path) == set()
    with pytest.raises(DownloadFailed, match="Not Found"):
        download_archive(f"{site('good')}b.zip", tmp_path / "b.zip", MD5)
    assert names(tmp_path) == set()


def test_a_full_disk_is_reported_before_anything_is_written(site, tmp_path, monkeypatch):
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: full)
    with pytest.raises(DownloadFailed, match="has room for"):
        download_archive(f"{site('good')}a.zip", tmp_path / "a.zip", MD5)
    (tmp_path / "b.zip").write_bytes(zipped({"a": DATA}))
    with pytest.raises(DownloadFailed, match="has room for"):
        unpack(tmp_path / "b.zip", tmp_path)
    assert "a" not in names(tmp_path)


# Unpacking


def zipped(members: dict[str, bytes], link: str | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o120777 if name == link else 0o100644) << 16
            content.writestr(member, data)
    return file.getvalue()


def test_unpacking_fills_folders_and_deletes_the_archive(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine").write_text("stays")
    (tmp_path / "a.zip").write_bytes(zipped({"old/a": b"1", "new/b/c": b"2", "d": b"3"}))
    unpack(tmp_path / "a.zip", tmp_path)
    assert names(tmp_path) == {"old/mine", "old/a", "new/b/c", "d"}


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/out", "C:\\out", "..\\out", "\\\\host\\out", "link"]
)
def test_members_that_leave_the_folder_are_refused(name, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.zip").write_bytes(zipped({"good": b"1", name: b"/etc"}, link="link"))
    with pytest.raises(DownloadFailed, match="is refused"):
        unpack(home / "a.zip", home)
    assert names(tmp_path) == {"home/a.zip"}


def test_a_damaged_archive_is_named(tmp_path):
    whole = zipped({"a": DATA})
    for broken in (b"no zip", whole[:-50], whole.replace(DATA[:300], bytes(300), 1)):
        (tmp_path / "a.zip").write_bytes(broken)
        with pytest.raises(DownloadFailed, match=r"cannot unpack .*a\.zip"):
            unpack(tmp_path / "a.zip", tmp_path)
        assert names(tmp_path) == {"a.zip"}


# COCO's archives


@pytest.fixture
def official(site, tmp_path, monkeypatch):
    """The tiny COCO, packed as the official one is; `official("good")` serves it."""
    base = write_coco(tmp_path / "origin")
    packed, md5 = {}, {}
    for path in coco_files.ARCHIVES:
        stem = Path(path).stem
        folder = base / (stem if stem in coco_files.FOLDERS else "annotations")
        files = sorted(folder.iterdir())
        packed[path] = zipped({f"{folder.name}/{f.name}": f.read_bytes() for f in files})
        md5[path] = hashlib.md5(packed[path]).hexdigest()
    monkeypatch.setattr(Server, "files", packed)
    monkeypatch.setattr(coco_files, "ARCHIVES", md5)
    return lambda how: monkeypatch.setattr(coco_files, "SITE", site(how))


def test_coco_is_downloaded_only_as_far_as_it_is_missing(official, tmp_path):
    official("cut")
    folder = tmp_path / "here"
    images = coco(str(folder), str(tmp_path / "cache"), 16, download=True)
    assert len(images.train) == 38
    origin, here = tmp_path / "origin" / "coco", folder / "coco"
    assert names(here) - {".download.lock"} == names(origin)
    before = len(Server.requested_ranges)
    (here / "annotations" / "instances_val2017.json").unlink()
    coco_files.find_or_download(here, download=True)
    assert names(here) - {".download.lock"} == names(origin)
    assert len(Server.requested_ranges) <= before + 5


def test_a_failed_download_of_coco_says_why(official, tmp_path):
    official("dead")
    with pytest.raises(UserError, match=r"COCO 2017 is not there.*annotations_trainval2017\.zip"):
        coco(str(tmp_path / "here"), str(tmp_path / "cache"), 16, download=True)
