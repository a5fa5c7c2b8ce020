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


def test_what_is_converted_is_turned_upright_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.full((40, 40, 4), 255, np.uint8)
    pixels[:20, :20, :3], pixels[30, 30, 3] = 0, 0
    clear, deep = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    for name, image, options in (
        ("a.png", clear, {}),
        ("a.webp", clear, {"lossless": True}),
        ("b.png", deep, {}),
    ):
        image.save(tmp_path / name, exif=exif, **options)
        corners = decode(tmp_path / name, 8)[0, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners < 128).tolist() == [False, True, False, False]  # turned clockwise


def test_images_above_pillows_own_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Undecodable, match="pixels"):
        decode(save(picture(1), tmp_path / "a.png"), SIZE)


def find(patch: np.ndarray, pixels: np.ndarray) -> list[tuple[int, int]]:
    """Where a patch (H, W, C) lies in an image (H, W, C)."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, patch.shape[:2], axis=(0, 1))
    same = (windows == patch.transpose(2, 0, 1)).all((2, 3, 4))
    return [tuple(place) for place in np.argwhere(same)]


def test_patches_are_of_the_image_as_it_is_and_of_smaller_ones(tmp_path):
    image = picture(7, 90, 70)
    path = save(image, tmp_path / "a.png")
    patches = decode(path, SIZE, num_patches=60)
    assert patches.shape == (60, 3, SIZE, SIZE)
    scaled = [image, *(image.resize((round(90 * s), round(70 * s)), Image.Resampling.LANCZOS,
                                    reducing_gap=3.0) for s in (0.75, 0.5))]  # fmt: skip
    places = {}
    for number, patch in enumerate(patches.transpose(0, 2, 3, 1)):
        places.setdefault(number % 3, []).extend(find(patch, np.asarray(scaled[number % 3])))
    for number, found in places.items():
        assert len(found) == 20
        top, left = np.array(found).T
        width, height = scaled[number].size
        for start, room in ((top, height - SIZE), (left, width - SIZE)):
            assert start.min() < 0.15 * room + 1
            assert start.max() > 0.85 * room - 1  # they cover all of it
    gray = decode(path, SIZE, gray=True, num_patches=4)
    assert gray.shape == (4, 1, SIZE, SIZE)
    assert np.array_equal(decode(path, SIZE, num_patches=9), patches[:9])


def test_an_image_is_cut_upright_and_not_below_its_size(tmp_path):
    image = picture(8, 40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    upright = save(ImageOps.exif_transpose(Image.open(tmp_path / "turned.png")), tmp_path / "a.png")
    expected = decode(upright, SIZE, num_patches=6)
    assert np.array_equal(decode(tmp_path / "turned.png", SIZE, num_patches=6), expected)
    assert len(decode(upright, 20, num_patches=5)) == 5  # at no smaller scale
    with pytest.raises(Undecodable, match="20×40 pixels, smaller than patches of 21"):
        decode(upright, 21, num_patches=5)


def test_all_of_an_image_is_decoded_where_no_size_is_given(tmp_path):
    image = picture(9, 33, 21)
    whole = decode(save(image, tmp_path / "a.png"), None)
    assert np.array_equal(whole, np.asarray(image).transpose(2, 0, 1))
    assert decode(tmp_path / "a.png", None, gray=True).shape == (1, 21, 33)
