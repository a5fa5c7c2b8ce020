"""COCO and MNIST as people have them: other names of files, ids as text, exports, other sets."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ae_lab.core.errors import UserError
from ae_lab.data.images import SPLITS, ImageSet
from ae_lab.data.sources import mnist
from ae_lab.data.sources.coco import coco
from tests.tiny_coco import IDS, picture, write_annotations, write_coco

SIZE = 16


@pytest.fixture
def base(tmp_path):
    return write_coco(tmp_path, train=20)


@pytest.fixture
def read(tmp_path):
    """Read the tiny COCO as a new process would."""

    def _read(cache: str = "cache") -> ImageSet:
        coco.cache_clear()
        return coco(str(tmp_path), str(tmp_path / cache), SIZE)

    return _read


def edit(base: Path, part: str, change) -> None:
    path = base / "annotations" / f"instances_{part}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rename(form):
    """Write each file name otherwise."""

    def change(content: dict) -> None:
        for image in content["images"]:
            image["file_name"] = form(image["file_name"])

    return change


def ids_as_text(content: dict) -> None:
    for one in [*content["images"], *content["categories"]]:
        one["id"] = str(one["id"])
    for box in content["annotations"]:
        box["category_id"], box["image_id"] = str(box["category_id"]), str(box["image_id"])


def only_boxes_as_text(content: dict) -> None:
    for box in content["annotations"]:
        box["category_id"] = str(box["category_id"])


CHANGES = {
    "ids as text": ids_as_text,
    "category_id as text": only_boxes_as_text,
    "with the folder": rename(lambda name: f"train2017/{name}"),
    "absolute": rename(lambda name: f"/home/me/data/{name}"),
    "of Windows": rename(lambda name: f"C:\\data\\{name}"),
    "in capitals": rename(str.upper),
}


@pytest.mark.parametrize("name", CHANGES)
def test_names_and_ids_are_read_as_they_are_meant(name, base, read):
    before = read().fingerprint
    for part in ("train2017", "val2017"):
        edit(base, part, CHANGES[name])
    assert read().fingerprint == before


def test_images_in_sub_folders_are_found(base, read):
    before = read().fingerprint
    for number, path in enumerate(sorted((base / "train2017").iterdir())):
        place = base / "train2017" / f"part {number % 2}"
        place.mkdir(exist_ok=True)
        path.rename(place / path.name)
    assert read().fingerprint == before


def test_of_several_files_that_one_is_taken_which_shares_the_folders(base, read, capsys):
    for folder in ("a", "b"):
        (base / "val2017" / folder).mkdir()
        for i in range(5):
            shutil.copy(base / "val2017" / f"{1000 + i:012}.jpg", base / "val2017" / folder)
    before = read().fingerprint
    for path in (base / "val2017").glob("*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match=r"none of the 5 images of .* lies in .*looked for .*jpg"):
        read()
    edit(base, "val2017", rename(lambda name: f"/data/B/{name}"))
    assert read().fingerprint == before
    assert "5 files are not annotated and left out, e.g. a/" in capsys.readouterr().out


def test_boxes_of_unknown_categories_are_counted(base, read, capsys):
    names = {1000 + i: f"{1000 + i:012}.jpg" for i in range(5)}
    boxes = [{"image_id": 1000, "category_id": id} for id in (IDS[0], 91, 500)]
    write_annotations(base, "val2017", names, boxes)
    assert read().test.labels.sum() == 1
    told = "2 boxes are of no category that the file lists, e.g. category_id 91"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("count", [2, 3, 9, 10])
def test_few_images_are_enough(count, tmp_path, read):
    write_coco(tmp_path, train=count, test=1)
    images = read()
    assert [len(getattr(images, name)) for name in SPLITS] == [count - 1, 1, 1]


def test_few_files_of_many_annotations_are_enough(base, read):
    for path in sorted((base / "train2017").iterdir())[3:]:
        path.unlink()
    images = read()
    assert (len(images.train), len(images.val)) == (2, 1)
    for path in sorted((base / "train2017").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match="one image"):
        read()


# Exports

COUNTS = {"train": 6, "valid": 2, "test": 3}
NAMES = ["animals", "cat", "dog"]


@pytest.fixture(params=["coco", ""])
def export(request, tmp_path):
    """What Roboflow exports, in coco/ or where the data lie."""
    root = tmp_path / request.param
    for number, (folder, count) in enumerate(COUNTS.items()):
        (root / folder).mkdir(parents=True)
        images, boxes = [], []
        for i in range(count):
            picture(100 * number + i).save(root / folder / f"{i}.jpg")
            images.append({"id": i, "file_name": f"{i}.jpg"})
            boxes.append({"id": i, "image_id": i, "category_id": 1 + i % 2})
        categories = [{"id": id, "name": name} for id, name in enumerate(NAMES)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / folder / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def test_an_export_is_read_in_its_own_splits(export, read, capsys):
    images = read()
    assert [len(getattr(images, name)) for name in SPLITS] == list(COUNTS.values())
    assert images.class_names == tuple(NAMES)
    assert images.train.labels.sum(0).tolist() == [0, 3, 3]
    assert "(11 images, 3 classes)" in images.title
    assert "noticed" not in capsys.readouterr().out
    assert read().fingerprint == images.fingerprint


def test_an_export_trains_and_asks_for_its_number_of_classes(export, command, tmp_path):
    words = ["data=coco64", "data.source.size=16", "data.shape=null", f"paths.data={tmp_path}"]
    words += [f"paths.cache={tmp_path / 'cache'}"]
    refused = command("train", *words, "hidden=[4]", "epochs=1")
    [line] = refused.stderr.strip().splitlines()
    assert re.search(r"data.classes=80 does not fit .*: set data.classes=3", line)
    done = command("train", *words, "data.classes=null", "hidden=[4]", "epochs=1")
    assert done.returncode == 0, done.stderr


def test_an_export_without_a_split_says_where_it_looked(export, read):
    shutil.rmtree(export / "valid")
    with pytest.raises(UserError, match=r"there is no .*valid/_annotations.coco.json: export it"):
        read()


# MNIST


def test_a_good_copy_beside_a_bad_one_is_read(tmp_path, monkeypatch):
    good = {name: f"content of {name}".encode() for name in mnist.MD5}
    sums = {name: mnist.hashlib.md5(content).hexdigest() for name, content in good.items()}
    monkeypatch.setattr(mnist, "MD5", sums)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for bad in (b"", b"damaged"):
        for name, content in good.items():
            (raw / name).write_bytes(bad)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            copies = mnist.find_files(tmp_path)[name]
            assert mnist.read_first(name, copies) == content


def test_files_of_another_data_set_are_named_as_such(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    clothes = np.full((100, 28, 28), 73, np.uint8)
    header = np.array([2051, 100, 28, 28], ">i4").tobytes()
    for name in mnist.MD5:
        (raw / name).write_bytes(header + clothes.tobytes())
    for download in (True, False):
        with pytest.raises(UserError, match=r"another data set, as Fashion-MNIST.*paths\.data"):
            mnist.mnist(str(tmp_path), download=download)
