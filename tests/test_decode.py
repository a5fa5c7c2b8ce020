"""One image file → a square of pixels: the filter, turned, odd and oversized images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ae_lab.data.preparation.decode import Undecodable, decode
from tests.tiny_coco import picture

SIZE = 16


def central_square(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)).astype(int)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 301), (64, 64), (20, 50)])
def test_the_square_is_the_central_one_filtered_by_lanczos(width, height, tmp_path):
    image = picture(3, width, height)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    expected = central_square(image, 24).transpose(2, 0, 1)
    assert np.abs(decode(tmp_path / "a.png", 24) - expected).max() <= 2
    assert np.abs(decode(tmp_path / "a.jpg", 24) - expected).mean() < 2
    gray = decode(tmp_path / "a.png", 24, gray=True)
    assert gray.shape == (1, 24, 24)
    assert np.abs(gray[0] - central_square(image.convert("L"), 24)).max() <= 2


def test_large_jpegs_are_decoded_at_a_fraction_and_small_in_error(tmp_path):
    image = picture(4, 640, 480)
    image.save(tmp_path / "a.jpg", quality=95)
    error = decode(tmp_path / "a.jpg", 48) - central_square(image, 48).transpose(2, 0, 1)
    assert np.abs(error).mean() < 1.5


def test_other_kinds_of_pixels_become_8_bit_colour(tmp_path):
    image = picture(5)
    expected = decode(save(image, tmp_path / "plain.png"), SIZE)
    for kind, within in (("CMYK", 8), ("P", 25), ("RGBA", 0)):
        path = tmp_path / f"{kind}.{'jpg' if kind == 'CMYK' else 'png'}"
        decoded = decode(save(image.convert(kind), path), SIZE)
        assert np.abs(decoded - 1.0 * expected).mean() <= within
    gray = np.asarray(image.convert("L"))
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    decoded = decode(save(deep, tmp_path / "deep.png"), SIZE)
    shallow = decode(save(Image.fromarray(gray), tmp_path / "shallow.png"), SIZE)
    assert np.array_equal(decoded, shallow)
    assert np.array_equal(decoded[0], decoded[2])


def save(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_images_are_turned_upright(kind, tmp_path):
    image = picture(6, 90, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / f"turned.{kind}", exif=exif)
    upright = decode(save(image, tmp_path / "a.png"), SIZE)
    assert np.abs(decode(tmp_path / f"turned.{kind}", SIZE) - 1.0 * upright).mean() < 6


def test_images_above_pillows_own_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Undecodable, match="pixels"):
        decode(save(picture(1), tmp_path / "a.png"), SIZE)
