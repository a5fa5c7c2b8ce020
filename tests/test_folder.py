"""A folder of images: its sub-folders as classes, gray images, and what happens without labels."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from ae_lab.core import configuration
from ae_lab.core.randomness import generator
from ae_lab.data.images import SPLITS, ImageSet
from ae_lab.data.preparation.decode import decode
from ae_lab.data.preparation.files import scan, source_key
from ae_lab.data.sources.folder import image_folder
from ae_lab.tracking.registry import find_runs
from tests.tiny_coco import picture

SIZE = 16
COUNTS = {"big dog": 12, "bird": 3, "cat": 40}
FOLDER = ["data=folder", "data.source.path=animals", f"data.source.size={SIZE}"]
FOLDER += ["paths.cache=cache"]
LABELLED = [*FOLDER, "data.source.labels=folders"]
TINY = ["hidden=[8]", "latent=2", "epochs=1", "batch_size=8", "trainer.enable_progress_bar=false"]


def write_classes(root: Path, counts: dict[str, int]) -> Path:
    """So many different images in each sub-folder, half of them in one below it."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name / "more").mkdir(parents=True)
        for i in range(count):
            place = root / name / ("more" if i % 2 else "")
            picture(100 * number + i, 20, 24).save(place / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_folder.cache_clear()  # it remembers other tests' folders by the same relative paths


@pytest.fixture
def animals(tmp_path):
    return write_classes(tmp_path / "animals", COUNTS)


def read(*overrides: str) -> ImageSet:
    return instantiate(configuration.compose(overrides).data.source)


def prepared_names() -> list[str]:
    [file] = Path("cache").glob("*/names.txt")
    return [line.strip('"') for line in file.read_text().splitlines()]


def test_sub_folders_are_the_classes_of_a_conditional_model(animals, command, tmp_path):
    words = ["model=cvae", *LABELLED, *TINY]
    trained = command("train", *words)
    assert trained.returncode == 0, trained.stderr
    [run] = find_runs(tmp_path / "outputs")
    assert (run.config.data.classes, run.config.data.shape) == (3, [3, SIZE, SIZE])
    assert "animals (55 images, 3 classes) 16×16" in trained.stdout
    assert "done already" in command("train", *words).stdout

    for column, name in enumerate(COUNTS):
        generated = command("generate", f"run={run.path}", f"label={name}", "n=4")
        assert generated.returncode == 0, generated.stderr
        arrays = np.load(generated.stdout.splitlines()[1])
        assert arrays["labels"].argmax(1).tolist() == [column] * 4
        assert arrays["images"].shape[2:] == (3, SIZE, SIZE)
    refused = command("generate", f"run={run.path}", "label=cta")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "error: label=cta is not known: did you mean 'cat'?"

    assert command("evaluate", f"run={run.path}").returncode == 0
    few = command("evaluate", f"run={run.path}", "evaluator=latents")
    assert "has 4 test images, and evaluator=latents needs more than 10" in few.stderr
    other = command("evaluate", f"run={run.path}", *FOLDER)
    assert "data.classes is 1" in other.stderr
    assert "choose other data" in other.stderr


def test_unlabelled_images_have_no_scores_by_label(animals, command, tmp_path):
    assert command("train", *FOLDER, *TINY).returncode == 0
    [run] = find_runs(tmp_path / "outputs")
    for evaluator in ("samples", "latents"):
        refused = command("evaluate", f"run={run.path}", f"evaluator={evaluator}")
        [line] = refused.stderr.strip().splitlines()
        assert re.search("exactly one label per image|no single label per image", line)


def test_gray_images_have_one_channel(animals, main, tmp_path):
    assert main("model=cnn", *FOLDER, "data.source.gray=true", *TINY[1:]) == 0
    [run] = find_runs(tmp_path / "outputs")
    assert run.config.data.shape == [1, SIZE, SIZE]
    images = read(*FOLDER, "data.source.gray=true")
    first = decode(animals / prepared_names()[0], SIZE, gray=True)
    assert np.array_equal(images.train.images[0], first)


ASKS = ["conditional=true", "condition_encoder=true", "model=cvae"]
ASKS += ["model=vae model.bottleneck.prior=label"]


@pytest.mark.parametrize("words", ASKS)
@pytest.mark.parametrize("data", [FOLDER, ["data=photos64", "data.limit=8"]], ids=" ".join)
def test_a_model_that_takes_labels_needs_some(words, data, animals, main, capfd, tmp_path):
    assert main(*data, *words.split(), *TINY) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "has no labels for" in line
    assert "data.source.labels=folders" in line
    assert not (tmp_path / "outputs").exists()


def test_each_class_is_in_each_split(animals):
    images = read(*LABELLED)
    assert images.class_names == tuple(COUNTS)
    counts = {name: getattr(images, name).labels.sum(0).tolist() for name in SPLITS}
    assert counts == {"train": [10, 1, 36], "val": [1, 1, 2], "test": [1, 1, 2]}
    names = prepared_names()
    assert sorted(names) == sorted(scan(animals).files)
    rows = [row for name in SPLITS for row in getattr(images, name).labels]
    for name, row in zip(names, rows, strict=True):
        assert row.tolist() == [int(name.startswith(f"{known}/")) for known in COUNTS]
    train = images.train.labels[:12].argmax(1)
    assert len(train.unique()) > 1  # mixed, so that data.limit takes some of each class


# The first training images of that folder without labels. Finished runs depend on the split.
STORED = ["cat/more/33.png", "cat/more/31.png", "bird/2.png", "cat/more/7.png"]


def test_without_labels_the_split_and_the_prepared_folder_stay_what_they_were(animals):
    images = read(*FOLDER)
    names = sorted(scan(animals).files)
    order = torch.randperm(len(names), generator=generator(0, "folder")).tolist()
    held = 3  # 5 % of 55
    expected = order[2 * held :] + order[: 2 * held]
    assert prepared_names() == [names[place] for place in expected]
    assert prepared_names()[:4] == STORED
    assert [len(images.train), len(images.val), len(images.test)] == [49, 3, 3]
    key = source_key(scan(animals).files, data="folder", size=SIZE)
    assert (Path("cache") / key).is_dir()
    assert not images.has_labels


def test_small_classes_are_for_training_and_are_named(tmp_path, capfd):
    write_classes(tmp_path / "animals", {"cat": 5, "dog": 2, "eel": 1})
    images = read(*LABELLED)
    assert images.train.labels.sum(0).tolist() == [3, 2, 1]
    assert "2 classes have fewer than 3 images" in capfd.readouterr().out


WRONG = {
    "data.source.labels=foldrs": "did you mean 'folders'?",
    "data.classes=5": "data.classes=5 does not fit animals .*: set data.classes=3",
    "data.shape=[1,16,16]": r"data.shape=\[1, 16, 16\] does not fit .*: set data.shape=\[3, 16",
    "data.source.path=animals/cat": r"20 images outside of its sub-folders, e.g. 0.png",
    "data.source.path=one": "one sub-folder only, cat: .*needs two",
    "data.source.path=few": "no sub-folder of .*few has 3 images",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_is_wrong_with_a_folder_is_one_line(word, animals, command, tmp_path):
    write_classes(tmp_path / "one", {"cat": 4})
    write_classes(tmp_path / "few", {"cat": 2, "dog": 2})
    refused = command("train", *LABELLED, word, *TINY)
    assert refused.returncode == 2
    [line] = refused.stderr.strip().splitlines()
    assert re.search(WRONG[word], line)


def test_patches_of_an_image_are_in_one_split_and_have_its_label(animals):
    words = [*LABELLED, "data.source.crop=patches", "data.source.num_patches=5"]
    images = read(*words)
    names = prepared_names()
    sizes = [len(getattr(images, split)) for split in SPLITS]
    assert sum(sizes) == 5 * len(names) == 5 * sum(COUNTS.values())
    assert all(size % 5 == 0 for size in sizes)
    patches = [getattr(images, split).images for split in SPLITS]
    labels = [getattr(images, split).labels for split in SPLITS]
    for number, name in enumerate(names):
        rows = slice(5 * number, 5 * number + 5)
        expected = torch.from_numpy(decode(Path("animals") / name, SIZE, num_patches=5))
        assert torch.equal(torch.cat(patches)[rows], expected)
        classes = torch.cat(labels)[rows].argmax(1).tolist()
        assert classes == [images.class_names.index(name.partition("/")[0])] * 5
    assert images.title == f"animals ({len(names)} images, 3 classes) 16×16, 5 patches an image"
    assert images.fingerprint != read(*LABELLED).fingerprint
