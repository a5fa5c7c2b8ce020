"""Image files → squares of uint8 pixels, one an image or several patches, on all cores.

Threads, since Pillow lets go of the interpreter's lock while it works. On two cores processes are
up to 30 % faster, but each would first import the program again, and COCO takes minutes either way.
"""

import errno
import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

MOST_PIXELS = 64_000_000  # larger images are refused: one of them takes 192 MB once decoded
SPARE = 2  # a JPEG is decoded at a fraction of its size, but at least so many times the square
GAP = 3.0  # Pillow's `reducing_gap`: cheap shrinking before the Lanczos filter, not to be seen
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # 16 bits a pixel, gray
UNREADABLE = "cannot be read"  # how the reason begins for files that may be readable another time
CHUNK = 16  # images a task
SCALES = (1.0, 0.75, 0.5)  # at which patches are cut
STEPS = (0.7548776662466927, 0.5698402909980532)  # from one patch to the next; see `cut_patches`
WINDOW = 4  # tasks under way or waiting to be taken, for each core


class Undecodable(Exception):
    """The file holds no image that can be used; the message says why."""


def decode(
    path: Path | str, size: int | None, gray: bool = False, num_patches: int | None = None
) -> np.ndarray:
    """The image's central square, as large as fits, at `size` pixels a side: uint8 (C, H, W); all
    of it as it is if `size` is None. Or so many patches, as `cut_patches` has them: (P, C, H, W).

    C is 1 if `gray`, else 3 (RGB). The image is turned upright as its EXIF tag asks, palettes, CMYK
    and 16 bits a channel are converted, what is transparent lies on white. The filter is Lanczos.

    Raises:
        Undecodable: no image, a damaged one, one of more than `MOST_PIXELS` pixels, or a file that
            cannot be read now.
    """
    try:
        with Image.open(path) as image:
            mode = "L" if gray else "RGB"
            if size is None:
                pictures = [_upright(image, mode)]
            elif num_patches is None:
                pictures = [_square(image, size, mode)]
            else:
                pictures = cut_patches(_upright(image, mode), size, num_patches)
    except Undecodable:
        raise
    except Image.DecompressionBombError as error:
        raise Undecodable(_giant()) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise Undecodable(f"{UNREADABLE}: {error.strerror}") from error
        why = f"{type(error).__name__}: {error}".replace(str(path), Path(path).name)
        raise Undecodable(why) from error
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    pixels = pixels[:, None] if gray else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return pixels[0] if num_patches is None else pixels


def cut_patches(image: Image.Image, size: int, count: int) -> list[Image.Image]:
    """Squares of `size` pixels: of the image as it is, and of smaller ones, in turn.

    Their places are a sequence that covers any rectangle evenly however many there are, and needs
    no random numbers: (½ + k·STEPS) mod 1. Source: Niederreiter, Bull. Amer. Math. Soc. 84 (1978)
    957; the steps are Roberts's, "The unreasonable effectiveness of quasirandom sequences", 2018.

    Raises:
        Undecodable: the image is smaller than a patch.
    """
    if min(image.size) < size:
        raise Undecodable(f"{image.width}×{image.height} pixels, smaller than patches of {size}")
    sizes = [tuple(round(scale * side) for side in image.size) for scale in SCALES]
    images = [
        image.resize(one, Image.Resampling.LANCZOS, reducing_gap=GAP)
        for one in sizes
        if min(one) >= size
    ]
    patches = []
    for k in range(count):
        scaled = images[k % len(images)]
        left, top = (
            int((0.5 + k * step) % 1 * (side - size + 1))
            for step, side in zip(STEPS, scaled.size, strict=True)
        )
        patches.append(scaled.crop((left, top, left + size, top + size)))
    return patches


def _upright(image: Image.Image, mode: str) -> Image.Image:
    """The whole image, of a mode."""
    if image.width * image.height > MOST_PIXELS:
        raise Undecodable(_giant())
    image.load()
    turned = ImageOps.exif_transpose(image)
    return convert(turned, mode)


def _giant() -> str:
    return f"more than {MOST_PIXELS:,} pixels"


def _square(image: Image.Image, size: int, mode: str) -> Image.Image:
    if image.width * image.height > MOST_PIXELS:
        raise Undecodable(_giant())
    drafted = image.draft(mode, (SPARE * size, SPARE * size))  # None but for JPEG
    image.load()
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # what is converted has lost it
    # A JPEG's fraction is rounded up to whole pixels: where the image ends, draft tells.
    width, height = drafted[1][2:] if drafted else image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    image = convert(image, mode)
    square = image.resize((size, size), Image.Resampling.LANCZOS, box, reducing_gap=GAP)
    square.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(square, in_place=True)
    return square


def convert(image: Image.Image, mode: str) -> Image.Image:
    """The image as 8-bit "L" or "RGB"."""
    if image.mode in DEEP:
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise Undecodable("floating-point pixels, whose white is not known")
    if image.has_transparency_data:
        image = put_on_white(image)
    return image if image.mode == mode else image.convert(mode)


def put_on_white(image: Image.Image) -> Image.Image:
    """The image, or if any pixel is transparent, what is seen of it on white."""
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return image
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")


def count_cores() -> int:
    """How many this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def decode_chunk(
    paths: list[Path], size: int, gray: bool, num_patches: int | None = None
) -> list[np.ndarray | str]:
    """Each file's pixels, as `decode` has them, or why there are none."""
    images: list[np.ndarray | str] = []
    for path in paths:
        try:
            images.append(decode(path, size, gray, num_patches))
        except Undecodable as error:
            images.append(str(error))
    return images


def in_order(
    paths: list[Path], size: int, gray: bool, num_patches: int | None = None
) -> Iterator[list[np.ndarray | str]]:
    """`decode_chunk` over all files, on all cores, never far ahead of what has been taken."""
    pool, waiting = ThreadPoolExecutor(count_cores(), "decode"), deque()
    with warnings.catch_warnings():  # here, not in the threads: filters are those of the process
        warnings.simplefilter("ignore")
        try:
            for start in range(0, len(paths), CHUNK):
                chunk = paths[start : start + CHUNK]
                waiting.append(pool.submit(decode_chunk, chunk, size, gray, num_patches))
                if len(waiting) > WINDOW * count_cores():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
