"""Folders of images as they are: links, other files, broken and transparent images."""

import errno
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ae_lab.core.errors import UserError
from ae_lab.data.images import SPLITS, ImageSet
from ae_lab.data.preparation import decode as decoding
from ae_lab.data.preparation.decode import decode
from ae_lab.data.preparation.files import scan, source_key
from ae_lab.data.sources.folder import image_folder
from tests.tiny_coco import picture

SIZE = 16


@pytest.fixture
def folder(tmp_path):
    """Ten images."""
    root = tmp_path / "mine"
    root.mkdir()
    for i in range(10):
        picture(i, 20, 20).save(root / f"{i}.png")
    return root


@pytest.fixture
def read(tmp_path):
    """Read a folder as a new process would."""

    def _read(root: Path, cache: str = "cache", **options) -> ImageSet:
        image_folder.cache_clear()
        return image_folder(str(root), str(tmp_path / cache), SIZE, **options)

    return _read


def sizes(images: ImageSet) -> list[int]:
    return [len(getattr(images, name)) for name in SPLITS]


# What lies in a folder


def test_links_are_followed_once_and_never_in_circles(folder, tmp_path, read, capfd):
    before = read(folder).fingerprint
    (folder / "self").symlink_to("self")
    (folder / "nowhere").symlink_to("missing")
    (folder / "again").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    assert read(folder, "other").fingerprint == before
    printed = capfd.readouterr().out
    assert "2 sub-folders or links cannot be read, e.g. nowhere (No such file" in printed

    more = tmp_path / "more"
    (more / "deep").mkdir(parents=True)
    picture(50).save(more / "deep" / "a.png")
    (more / "deep" / "back").symlink_to(more)
    (folder / "0 first").symlink_to(more / "deep")
    (folder / "1 whole").symlink_to(more)
    assert sum(sizes(read(folder))) == 11
    (folder / "own").mkdir()
    picture(51).save(folder / "own" / "a.png")
    (folder / "a link to own").symlink_to(folder / "own")
    names = set(scan(folder).files)
    assert "own/a.png" in names
    assert "a link to own/a.png" not in names


def test_a_sub_folder_that_cannot_be_read_is_named(folder, read, monkeypatch, capfd):
    (folder / "locked").mkdir()
    real = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert sum(sizes(read(folder))) == 10
    printed = capfd.readouterr().out
    assert "1 sub-folders or links cannot be read, e.g. locked (Permission" in printed


def test_files_that_are_left_out_are_counted_by_kind(folder, read, capfd):
    key = source_key(scan(folder).files, data="folder", size=SIZE)
    for name in ("a.HEIC", "b.heic", "c.dng", "README", "d.pdf", "e.eps", "f.txt"):
        (folder / name).write_bytes(b"%PDF-1.4")
    images = read(folder)
    printed = capfd.readouterr().out
    assert images.title.startswith("mine (10 images)")
    assert "7 files are not named as images: 2 .heic, " in printed
    for kind in ("1 .dng", "1 .pdf", "1 .eps", "1 without suffix", "pip install pillow-heif"):
        assert kind in printed
    assert "cannot be used" not in printed
    assert key in printed  # that of the images alone


def test_a_folder_without_images_says_what_is_there(tmp_path, read):
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(UserError, match=r"0 images .*1 \.heic; `pip install pillow-heif`"):
        read(tmp_path)


def test_heic_is_read_where_pillow_heif_is_installed(folder, read, monkeypatch):
    def register() -> None:
        Image.register_extension("PNG", ".heic")

    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    plugin = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    (folder / "0.png").rename(folder / "0.HEIC")
    assert sum(sizes(read(folder))) == 10


# Images that are broken, or cannot be read for a moment


@pytest.mark.parametrize("labels", [None, "folders"])
def test_broken_images_do_not_empty_a_split(labels, folder, read, tmp_path):
    for name in ("cat", "dog"):
        (folder / name).mkdir()
    for i in range(10):
        (folder / f"{i}.png").rename(folder / ("cat" if i % 2 else "dog") / f"{i}.png")
    whole = read(folder, labels=labels)
    paths = sorted(folder.rglob("*.png"))
    for number, path in enumerate(paths):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        images = read(folder, labels=labels)
        assert sum(sizes(images)) == 9
        assert min(sizes(images)) > 0
        names = (tmp_path / "cache" / key_of(folder, labels) / "names.txt").read_text()
        decoded = [decode(folder / json.loads(name), SIZE) for name in names.splitlines()]
        stored = torch.cat([getattr(images, name).images for name in SPLITS])
        assert np.array_equal(stored, np.stack(decoded)), number
        path.write_bytes(content)
    assert read(folder, labels=labels).fingerprint == whole.fingerprint


def key_of(folder: Path, labels: str | None) -> str:
    settings = {"labels": labels} if labels else {}
    return source_key(scan(folder).files, data="folder", size=SIZE, **settings)


def test_too_few_good_images_are_refused_with_an_example(folder, read):
    for i in range(8):
        (folder / f"{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 images are too few .*e\.g\. \d\.png \("):
        read(folder)


def test_a_file_that_cannot_be_read_for_a_moment_is_tried_again(folder, read, monkeypatch, capfd):
    whole = read(folder).fingerprint
    real = Image.open

    def locked(path, *rest):
        if Path(path).name == "3.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(decoding.Image, "open", locked)
        few = read(folder, "other")
        assert "3.png (cannot be read: Permission denied)" in capfd.readouterr().out
        assert read(folder, "other").fingerprint == few.fingerprint  # still locked: as it was
        assert capfd.readouterr().out == ""
    assert sum(sizes(few)) == 9
    assert read(folder, "other").fingerprint == whole


# Transparent pixels


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_drawings_lie_on_white(kind, tmp_path):
    drawing = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (0, 0, 20, 10))
    path = tmp_path / "a.png"
    drawing.convert(kind).save(path)
    for gray in (False, True):
        pixels = decode(path, 20, gray)
        assert pixels[:, :9].max() < 30
        assert pixels[:, 11:].min() > 225


def test_opaque_pixels_stay_to_the_bit(tmp_path):
    image = picture(3)
    image.save(tmp_path / "a.png")
    image.convert("RGBA").save(tmp_path / "b.png")
    assert np.array_equal(decode(tmp_path / "a.png", SIZE), decode(tmp_path / "b.png", SIZE))


def test_folders_of_photographs_keep_their_prepared_images():
    photographs = {"a.jpg": (1, 2), "b.JPEG": (3, 4)}
    assert source_key(photographs, data="folder", size=64) == "1765a4bd04918b44"
