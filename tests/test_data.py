"""Data: splits, the real files, broken files, and a mirror that misbehaves."""

import gzip
import hashlib
import http.server
import threading
import time
from pathlib import Path

import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.data import ImageData, ImageSet, Split
from ae_lab.data.augmentation import flip_images, shift_images, turn_images
from ae_lab.data.corruptions import Corruption, GaussianNoise
from ae_lab.data.loaders import TrainLoader
from ae_lab.data.preparation import download
from ae_lab.data.sources import mnist


def content(split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_mnist5k_is_split_evenly_and_without_overlap():
    images = mnist.mnist5k()
    assert [len(images.train), len(images.val), len(images.test)] == [4000, 500, 500]
    for split, each in ((images.train, 400), (images.val, 50), (images.test, 50)):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (1, 28, 28)
        assert split.labels.sum(0).tolist() == [each] * 10
    assert not content(images.train) & content(images.test)
    assert not content(images.train) & content(images.val)


def test_full_mnist_is_split_without_overlap_and_the_test_set_is_the_official_one(real_data):
    images = mnist.mnist(str(real_data), download=False)
    assert [len(images.train), len(images.val), len(images.test)] == [55_000, 5_000, 10_000]
    raw = gzip_or_plain(real_data, "t10k-images-idx3-ubyte")[16:]
    assert images.test.images.numpy().tobytes() == raw
    assert images.test.labels.argmax(1)[:5].tolist() == [7, 2, 1, 0, 4]
    assert len(content(images.train) | content(images.val)) == 60_000


def gzip_or_plain(folder: Path, name: str) -> bytes:
    path = mnist.find_files(folder)[name][0]
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_gzipped_files_are_the_same_data(real_data, tmp_path):
    target = tmp_path / "MNIST" / "raw"
    target.mkdir(parents=True)
    for name in mnist.MD5:
        (target / f"{name}.gz").write_bytes(gzip.compress(gzip_or_plain(real_data, name), 1))
    packed = mnist.mnist(str(tmp_path), download=False)
    assert packed.fingerprint == mnist.mnist(str(real_data), download=False).fingerprint


def test_an_epoch_has_every_image_once_in_an_order_of_its_own():
    images = mnist.mnist5k().limit(1000).train

    def epoch(number, seed=0, batch=128, start=0, rank=0, world=1):
        loader = TrainLoader(
            images, Corruption(), batch, seed, lambda: (number, start), rank, world
        )
        batches = list(loader)
        assert len(batches) == len(loader) - start
        return torch.cat([part.index for part in batches]).tolist()

    assert sorted(epoch(0)) == list(range(1000))
    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=1)
    assert epoch(0, start=3) == epoch(0)[3 * 128 :]
    shards = [epoch(0, rank=rank, world=4) for rank in range(4)]
    assert len({len(shard) for shard in shards}) == 1
    assert sorted(index for shard in shards for index in shard) == list(range(1000))


def test_training_noise_is_fresh_each_epoch_and_the_same_after_a_resume():
    images = mnist.mnist5k().limit(256).train

    def batches(epoch, done=0):
        return list(TrainLoader(images, GaussianNoise(0.3), 64, 0, lambda: (epoch, done)))

    first, again = batches(0), batches(0)
    assert all(torch.equal(a.corrupted, b.corrupted) for a, b in zip(first, again, strict=True))
    assert torch.equal(batches(0, done=2)[0].corrupted, first[2].corrupted)
    by_image = {int(i): x for b in batches(1) for i, x in zip(b.index, b.corrupted, strict=True)}
    assert not torch.equal(by_image[int(first[0].index[0])], first[0].corrupted[0])


def test_shifted_images_are_the_images_at_other_places():
    images = torch.zeros(400, 1, 5, 7, dtype=torch.uint8)
    images[:, :, 2, 3] = 9
    moved = shift_images(images, 1, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.sum() == images.sum()
    places = {tuple(place) for place in moved.nonzero()[:, 2:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (2, 3, 4)}
    assert torch.equal(shift_images(images, 0, torch.Generator()), images)


def test_about_half_of_the_images_are_mirrored_left_to_right():
    images = torch.arange(400 * 2 * 3).reshape(400, 1, 2, 3)
    flipped = flip_images(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 160 < int(mirrored.sum()) < 240


def test_batches_must_be_shared_equally_among_devices():
    with pytest.raises(UserError, match="multiple of 3"):
        TrainLoader(mnist.mnist5k().train, Corruption(), 128, 0, lambda: (0, 0), world_size=3)


# Broken files


@pytest.fixture
def folder(real_data, tmp_path):
    """A copy of the real files, to be broken."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in mnist.MD5:
        (raw / name).write_bytes(gzip_or_plain(real_data, name))
    return tmp_path


def test_truncated_and_altered_files_are_named(folder):
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for broken in (whole[:-1000], whole[:100] + b"x" + whole[101:], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte is damaged.*delete it"):
            mnist.mnist_or_embedded(str(folder), download=False)
        mnist._mnist.cache_clear()
    path.unlink()
    path.with_suffix(".gz").write_bytes(gzip.compress(whole, 1)[:-5000])
    with pytest.raises(UserError, match=r"cannot read .*\.gz.*delete it"):
        mnist.mnist(str(folder), download=False)


def test_the_error_about_missing_files_names_three_remedies(tmp_path):
    with pytest.raises(UserError) as refused:
        mnist.mnist(str(tmp_path), download=False)
    text = str(refused.value)
    for remedy in (str(tmp_path / "MNIST" / "raw"), "AE_LAB_DATA", "data=mnist5k"):
        assert remedy in text


# A mirror that misbehaves

SMALL = {name: f"content of {name} ".encode() * 3000 for name in mnist.MD5}


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves SMALL, gzipped; the first part of the path says how."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, how, name = self.path.split("/")
        data = gzip.compress(SMALL[name.removesuffix(".gz")])
        if how == "missing":
            self.send_error(404)
            return
        if how == "wrong":
            data = gzip.compress(b"something else")
        if how == "garbage":
            data = b"<html>log in to this network</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if how == "truncated":
            data = data[: len(data) // 2]
            self.close_connection = True
        if how == "silent":
            time.sleep(1.5)
        if how == "slow":
            for position in range(len(data)):
                self.wfile.write(data[position : position + 1])
                time.sleep(0.02)
            return
        self.wfile.write(data)


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setattr(mnist, "MD5", {n: hashlib.md5(c).hexdigest() for n, c in SMALL.items()})
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.5)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda how: f"http://127.0.0.1:{server.server_port}/{how}/"
    server.shutdown()
    server.server_close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_download_arrives_whole(mirror, tmp_path):
    mnist.find_or_download(tmp_path, [mirror("good")], download=True)
    assert files(tmp_path) == SMALL


TROUBLES = {
    "missing": "Not Found|404",
    "wrong": "wrong checksum",
    "garbage": "gzip",
    "truncated": "IncompleteRead|ended after",
    "silent": "timed out",
    "slow": "slower than",
}


@pytest.mark.parametrize("how", TROUBLES)
def test_a_bad_mirror_is_skipped_and_leaves_nothing_behind(how, mirror, tmp_path):
    with pytest.raises(UserError, match=TROUBLES[how]):
        mnist.find_or_download(tmp_path, [mirror(how)], download=True)
    assert files(tmp_path) == {}
    mnist.find_or_download(tmp_path, [mirror(how), mirror("good")], download=True)
    assert files(tmp_path) == SMALL


def test_only_missing_files_are_fetched(mirror, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    there = next(iter(SMALL))
    (raw / there).write_bytes(b"mine")
    mnist.find_or_download(tmp_path, [mirror("good")], download=True)
    assert files(tmp_path) == SMALL | {there: b"mine"}


def test_without_mnist_the_embedded_digits_are_used_and_announced_once(mirror, tmp_path, capsys):
    for _ in range(2):
        assert mnist.mnist_or_embedded(str(tmp_path), [mirror("missing")]).name == "mnist5k"
    assert capsys.readouterr().out.count("using MNIST-5k") == 1


def test_full_mnist_is_used_where_it_is_available(real_data):
    assert mnist.mnist_or_embedded(str(real_data), download=False).name == "mnist"


def test_images_are_turned_by_each_quarter_as_often():
    images = torch.randint(0, 256, (400, 3, 8, 8), dtype=torch.uint8)
    turned = turn_images(images, torch.Generator().manual_seed(0))
    counts = [
        int((turned == images.rot90(quarters, (2, 3))).flatten(1).all(1).sum())
        for quarters in range(4)
    ]
    assert sum(counts) == 400
    assert min(counts) > 60


def test_only_squares_are_turned(run):
    split = Split(
        torch.zeros(4, 1, 12, 14, dtype=torch.uint8), torch.zeros(4, 1, dtype=torch.uint8)
    )
    with pytest.raises(UserError, match=r"data\.random_turn=true needs squares"):
        ImageData(ImageSet("s", "S", split, split, split), Corruption(), random_turn=True)
    assert run("data.random_turn=true", "hidden=[8]", "data.limit=32").done
