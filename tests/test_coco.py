"""COCO, folders and photographs: labels, splits, odd files, and caches that are built only once."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.data.images import SPLITS, ImageSet
from ae_lab.data.preparation import decode as decoding
from ae_lab.data.preparation.decode import decode
from ae_lab.data.sources import photos
from ae_lab.data.sources.coco import coco
from ae_lab.data.sources.folder import image_folder
from tests.tiny_coco import IDS, picture, write_annotations, write_coco

SIZE = 16


@pytest.fixture
def base(tmp_path):
    return write_coco(tmp_path)


@pytest.fixture
def read(tmp_path):
    """Read the tiny COCO as a new process would: nothing is remembered, only the cache."""

    def _read(cache: str = "cache", size: int = SIZE, gray: bool = False) -> ImageSet:
        coco.cache_clear()
        return coco(str(tmp_path), str(tmp_path / cache), size, gray)

    return _read


def content(split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]


def is_same(one: ImageSet, other: ImageSet) -> bool:
    parts = [(getattr(one, name), getattr(other, name)) for name in SPLITS]
    return one.fingerprint == other.fingerprint and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in parts
    )


def report(cache: Path) -> dict:
    (path,) = cache.glob("*/report.json")
    return json.loads(path.read_text())


def label_numbers(labels: torch.Tensor) -> list[int]:
    """Image i of the tiny COCO shows category IDS[i]."""
    assert labels.sum(1).tolist() == [1] * len(labels)
    return labels.argmax(1).tolist()


# Splits and labels


def test_images_and_labels_belong_together_and_the_splits_are_fixed(base, read, tmp_path):
    images = read()
    assert [len(images.train), len(images.val), len(images.test)] == [38, 2, 5]
    assert images.title == "COCO subset (40 images) 16×16"
    assert images.train.labels.shape == (38, 80)
    train, val = label_numbers(images.train.labels), label_numbers(images.val.labels)
    assert sorted(train + val) == list(range(40))
    assert train != sorted(train)
    assert label_numbers(images.test.labels) == [0, 1, 2, 3, 4]
    for image, i in zip(images.train.images, train, strict=True):
        assert np.array_equal(image, decode(base / "train2017" / f"{i:012}.jpg", SIZE))
    (base / "train2017" / f"{train[0]:012}.jpg").unlink()
    assert label_numbers(read().val.labels) == val
    assert label_numbers(read().train.labels) == train[1:]


def test_crowds_count_and_images_without_boxes_have_no_label(base, read):
    names = {id: f"{1000 + id:012}.jpg" for id in range(3)}
    boxes = [{"image_id": 0, "category_id": IDS[79], "iscrowd": 1}]
    boxes += [{"image_id": 2, "category_id": IDS[i]} for i in (3, 3, 12)]
    write_annotations(base, "val2017", names, boxes)
    labels = read().test.labels
    assert [row.nonzero().flatten().tolist() for row in labels] == [[79], [], [3, 12]]


def test_files_and_annotations_that_do_not_fit_are_reported(base, read, tmp_path, capsys):
    (base / "val2017" / f"{1000:012}.jpg").unlink()
    picture(7).save(base / "train2017" / "stray.jpg")
    assert len(read().test) == 4
    printed = capsys.readouterr().out
    for text in (f"1 annotated images have no file, e.g. {1000:012}.jpg", "e.g. stray.jpg"):
        assert text in printed
        assert text in str(report(tmp_path / "cache")["noticed"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 3}', '{"images": [{}]}', "\x00"])
def test_annotations_that_are_not_cocos_are_named(text, base, read):
    (base / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(UserError, match=r"instances_val2017.json.*not"):
        read()


def test_the_error_about_missing_files_names_remedies(tmp_path, read):
    with pytest.raises(UserError) as refused:
        read()
    remedies = (str(tmp_path / "coco"), "AE_LAB_DATA", "data.source.download=true", "data=photos64")
    for remedy in remedies:
        assert remedy in str(refused.value)


def test_a_cache_that_cannot_be_written_is_named(base, read, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="AE_LAB_CACHE"):
        read("file/cache")


# Decoding


def spoil(part: Path) -> set[str]:
    """Make four files of a folder unusable; their names."""
    paths = sorted(part.iterdir())[:4]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    paths[1].write_bytes(b"<html>not an image</html>")
    paths[2].write_bytes(b"")
    picture(9, 300, 300).save(paths[3])
    return {path.name for path in paths}


def test_unusable_images_are_left_out_and_named(base, read, tmp_path, monkeypatch, capsys):
    bad = spoil(base / "train2017")
    monkeypatch.setattr(decoding, "MOST_PIXELS", 200 * 200)
    images = read()
    assert len(images.train) + len(images.val) == 36
    assert not {0, 1, 2, 3} & set(
        label_numbers(images.train.labels) + label_numbers(images.val.labels)
    )
    left_out = report(tmp_path / "cache")["left out"]
    assert {Path(name).name for name in left_out} == bad
    assert any("40,000 pixels" in why for why in left_out.values())
    assert "4 files cannot be used" in capsys.readouterr().out


def test_a_split_without_usable_images_is_refused(base, read):
    for path in (base / "val2017").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 5 files of the test split"):
        read()


# The cache


def test_a_finished_cache_is_opened_without_decoding(base, read, monkeypatch):
    first = read()

    def fail(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "decode", fail)
    again = read()
    assert is_same(first, again)
    assert again.limit(3).fingerprint == first.limit(3).fingerprint != first.fingerprint
    monkeypatch.undo()
    assert read(gray=True).train.images.shape == (38, 1, SIZE, SIZE)
    (base / "train2017" / f"{0:012}.jpg").touch()  # a changed file is read
    monkeypatch.setattr(decoding, "decode", fail)
    with pytest.raises(AssertionError, match="decoded again"):
        read()


@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_preparation_goes_on_to_the_same_bytes(
    torn, base, read, tmp_path, monkeypatch
):
    spoil(base / "train2017")
    whole = read("whole")
    decoded: list[str] = []

    def interrupted(path, *rest):
        if len(decoded) == 30:
            raise KeyboardInterrupt
        decoded.append(str(path))
        return decode(path, *rest)

    monkeypatch.setattr(decoding, "CHUNK", 4)
    monkeypatch.setattr(decoding, "WINDOW", 1)
    monkeypatch.setattr(decoding, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read()
    monkeypatch.setattr(decoding, "decode", lambda *a: decoded.append(str(a[0])) or decode(*a))
    if torn:  # the power went: the last image and the last line are half there
        for file in (tmp_path / "cache").glob("*.part/[ij]*"):
            file.write_bytes(file.read_bytes()[:-3])
    decoded.clear()
    assert is_same(read(), whole)
    assert len(decoded) < 40
    names = [path.read_bytes() for path in tmp_path.glob("*/*/names.txt")]
    assert len(names) == 2
    assert names[0] == names[1]


def test_a_damaged_cache_is_named(base, read, tmp_path):
    read()
    (images,) = (tmp_path / "cache").glob("*/images.u8")
    images.write_bytes(images.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"is damaged.*delete it"):
        read()


def test_the_fingerprint_is_of_the_content(base, read, tmp_path):
    first = read().fingerprint
    path = base / "train2017" / f"{5:012}.jpg"
    path.write_bytes(path.read_bytes())  # another time of change, the same image
    assert read("elsewhere").fingerprint == first
    picture(99).save(path)
    changed = read().fingerprint
    names = {1000 + i: f"{1000 + i:012}.jpg" for i in range(5)}
    write_annotations(base, "val2017", names, [])
    assert len({first, changed, read().fingerprint}) == 3


# Folders and photographs


def test_any_folder_of_images(tmp_path, capsys):
    root = tmp_path / "mine"
    (root / "deep" / "er").mkdir(parents=True)
    for i in range(40):
        picture(i, 30 + i, 60).save(root / ("deep/er" if i % 2 else "deep") / f"{i}.png")
    (root / "notes.txt").write_text("not an image")
    (root / "bad.JPG").write_bytes(b"")
    images = image_folder(str(root), str(tmp_path / "cache"), SIZE)
    assert [len(images.train) + len(images.val) + len(images.test), len(images.val)] == [40, 2]
    assert images.train.images.shape[1:] == (3, SIZE, SIZE)
    assert images.train.labels.shape[1] == 1
    everything = [one for name in SPLITS for one in content(getattr(images, name))]
    assert len(set(everything)) == 40
    assert "bad.JPG" in capsys.readouterr().out


def test_unusable_folders_are_refused(tmp_path):
    picture(0).save(tmp_path / "one.png")
    cases = {
        None: "data.source.path=",
        str(tmp_path / "no"): "not a folder",
        str(tmp_path): "1 images",
    }
    for path, why in cases.items():
        with pytest.raises(UserError, match=why):
            image_folder(path, str(tmp_path / "cache"))


def test_photos64_are_split_by_photograph():
    named = [set(names.split()) for names in photos.PHOTOGRAPHS.values()]
    assert not named[0] & named[1]
    assert not named[0] & named[2]
    assert not named[1] & named[2]
    images = photos.photos64()
    assert len(images.train) > 2000
    assert images.train.images.shape[1:] == (3, 64, 64)
    train, val, test = (set(content(getattr(images, name))) for name in SPLITS)
    assert not train & val
    assert not train & test
    assert not val & test
    whole = torch.from_numpy(photos.load_photograph("rocket").copy())
    assert whole.float().std() > 10


# The real images


def test_the_real_subset(real_coco, tmp_path):
    images = coco(str(real_coco), str(tmp_path), 28, True, False)
    train, val, test = (getattr(images, name) for name in SPLITS)
    total = len(train) + len(val)
    assert total == len(list((real_coco / "coco" / "train2017").iterdir()))
    assert len(val) == round(0.05 * total)
    assert len(test) == len(list((real_coco / "coco" / "val2017").iterdir()))
    assert test.labels.shape[1] == 80
    assert test.labels.sum(0).argmax() == 0  # persons
    official = json.loads((real_coco / "coco/annotations/instances_val2017.json").read_text())
    by_id = sorted(official["categories"], key=lambda category: category["id"])
    assert images.class_names == tuple(category["name"] for category in by_id)
    assert test.labels.float().sum(1).mean() > 2
    assert 60 < test.images.float().mean() < 180
    assert not set(content(train)) & set(content(test))
