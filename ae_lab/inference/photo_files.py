"""Photographs as people have them: files with an orientation, transparency, 16 bits, metadata.

Pillow reads and writes them all but for colour of 16 bits a channel, which it would cut to 8: that
takes imagecodecs (PNG) or tifffile (TIFF).
"""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ae_lab.core.errors import UserError
from ae_lab.core.files import replace_atomically
from ae_lab.data.preparation.decode import Undecodable

DEEP_GRAY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
DEEP = (".png", ".tif", ".tiff")  # what can hold 16 bits a channel
WITHOUT_ALPHA = (".jpg", ".jpeg", ".bmp")
WRITABLE = (*DEEP, *WITHOUT_ALPHA, ".webp")
KEPT = ("icc_profile", "dpi")  # of what a file says beside its EXIF
JPEG, WEBP = {"quality": 95, "subsampling": 0}, {"quality": 95}
OPTIONS = {".jpg": JPEG, ".jpeg": JPEG, ".webp": WEBP}  # of the files we write


@dataclass
class Photo:
    """An image as a file has it: upright pixels (H, W, C), uint8 or uint16, of 1 channel or 3;
    what is transparent of it, (H, W, 1); and what else the file says, by Pillow's names."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what was converted
    name: str = ""

    @property
    def is_deep(self) -> bool:
        """Whether it has 16 bits a channel."""
        return self.pixels.dtype == np.uint16

    @property
    def channels(self) -> np.ndarray:
        """Pixels with what is transparent of them, (H, W, C or C + 1)."""
        return self.pixels if self.alpha is None else np.concatenate([self.pixels, self.alpha], 2)


def read_photo(path: Path) -> Photo:
    """Read an image file.

    Raises:
        UserError: it is none, is damaged, has several frames, or pixels that are not 8 or 16 bits.
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a JPEG with a preview behind it
                raise Undecodable(f"it has {frames} frames, save one of them as a file of its own")
            photo = _read_deep(path, image) if _is_deep_colour(image) else photo_from_image(image)
            photo.name = path.name
            return photo
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        why = getattr(error, "strerror", None) or str(error).replace(str(path), "it")
        raise UserError(f"cannot read {path}: {why}") from error


def _is_deep_colour(image: Image.Image) -> bool:
    bits = getattr(image, "tag_v2", {}).get(258, ())  # TIFF's bits per sample
    raw = str(image.tile[0].args) if image.tile else ""
    return image.mode in ("RGB", "RGBA", "LA") and (16 in bits or ";16" in raw)


def photo_from_image(image: Image.Image) -> Photo:
    """An image of Pillow's as a photo. The image is turned upright.

    Raises:
        Undecodable: its pixels are not 8 or 16 bits.
    """
    image.load()
    metadata = {key: image.info[key] for key in KEPT if key in image.info}
    ImageOps.exif_transpose(image, in_place=True)
    if exif := image.getexif():
        metadata["exif"] = exif.tobytes()
    if image.mode in DEEP_GRAY:
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise Undecodable("its pixels have more than 16 bits")
        return Photo(values.astype(np.uint16)[..., None], None, metadata)
    if image.mode == "F":
        raise Undecodable("its pixels are floating-point numbers, whose white is not known")
    has_alpha = image.has_transparency_data
    is_gray = image.mode in ("1", "L", "LA", "La")
    mode = ("L" if is_gray else "RGB") + ("A" if has_alpha else "")
    notes = [] if image.mode == mode else [f"converted from {image.mode} to {mode}"]
    if image.mode in ("CMYK", "LAB"):
        metadata.pop("icc_profile", None)  # it is of these colours
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return _split(pixels, has_alpha, metadata, notes)


def _read_deep(path: Path, image: Image.Image) -> Photo:
    """An image in colour, or with transparency, of 16 bits a channel."""
    metadata = {key: image.info[key] for key in KEPT if key in image.info}
    exif, bands = image.getexif(), image.getbands()
    turn = exif.pop(0x0112, 1)
    if exif:
        metadata["exif"] = exif.tobytes()
    if find_spec("imagecodecs") is None:
        raise Undecodable("it has 16 bits a channel, which takes pip install 'ae_lab[photos]'")
    if image.format == "TIFF":
        import tifffile

        pixels = tifffile.imread(path)
    else:
        import imagecodecs

        pixels = imagecodecs.png_decode(path.read_bytes())
    # Before it is loaded Pillow gives the size of some files as stored, of others as turned.
    if pixels.shape[2:] != (len(bands),) or {*pixels.shape[:2]} != {*image.size}:
        raise Undecodable("its colours are stored one after the other")
    return _split(_turn(pixels, turn), "A" in bands, metadata, [])


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, C) upright, from one of EXIF's eight orientations."""
    pixels = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(pixels[rows, columns])


def _split(pixels: np.ndarray, has_alpha: bool, metadata: dict, notes: list[str]) -> Photo:
    if not has_alpha:
        return Photo(pixels, None, metadata, notes)
    return Photo(pixels[..., :-1], pixels[..., -1:], metadata, notes)


def photo_to_image(photo: Photo) -> Image.Image:
    """A photo as Pillow's image, with its transparency, and 8 bits a channel but for gray."""
    pixels = photo.channels
    if photo.is_deep and pixels.shape[2] > 1:
        pixels = (pixels / 257).round().astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.info.update(photo.metadata)
    return image


def check_target(path: Path, photo: Photo) -> None:
    """Check that a file of this name can hold a photo, before it is restored.

    Raises:
        UserError: it cannot hold images at all, or not 16 bits, or no transparency.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise UserError(f"cannot write {path}: name it {', '.join(WRITABLE)}")
    if photo.is_deep and suffix not in DEEP:
        raise UserError(f"{path} cannot hold 16 bits a channel: name it .png or .tif")
    if photo.alpha is not None and suffix in WITHOUT_ALPHA:
        raise UserError(f"{path} cannot hold transparency: name it .png")


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photo with its transparency, its bits and its metadata.

    Raises:
        UserError: the file cannot hold it, or cannot be written.
    """
    check_target(path, photo)
    pixels = photo.channels
    suffix = path.suffix.lower()
    with replace_atomically(path) as beside:
        if photo.is_deep and pixels.shape[2] > 1:
            _write_deep(pixels, photo.metadata, beside, is_png=suffix == ".png")
            return
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        kind = Image.registered_extensions()[suffix]
        image.save(beside, kind, **photo.metadata, **OPTIONS.get(suffix, {}))


def _write_deep(pixels: np.ndarray, metadata: dict, path: Path, is_png: bool) -> None:
    if is_png:
        import imagecodecs

        path.write_bytes(_add_chunks(imagecodecs.png_encode(pixels), metadata))
        return
    import tifffile

    alpha = {"extrasamples": ["unassalpha"]} if pixels.shape[2] in (2, 4) else {}
    kind = "rgb" if pixels.shape[2] > 2 else "minisblack"
    about = {"iccprofile": metadata.get("icc_profile"), "extratags": _texts(metadata)}
    if dpi := metadata.get("dpi"):
        about |= {"resolution": dpi, "resolutionunit": "INCH"}
    tifffile.imwrite(
        path, pixels, photometric=kind, metadata=None, software=False, **about, **alpha
    )


def _texts(metadata: dict) -> list[tuple]:
    """The texts of EXIF's first directory, as camera and date, by tifffile's convention."""
    exif = Image.Exif()
    exif.load(metadata.get("exif", b""))
    texts = [(tag, text) for tag, text in exif.items() if isinstance(text, str)]
    return [(tag, "s", 0, text.encode(), True) for tag, text in texts]


def _add_chunks(png: bytes, metadata: dict) -> bytes:
    """A PNG file with a colour profile, EXIF and pixels an inch behind its first chunk.

    Source: PNG specification, 3rd ed., §5.3, §11.3.2.3 (iCCP), §11.3.5 (eXIf), §11.3.4.3 (pHYs).
    """
    chunks = b""
    if profile := metadata.get("icc_profile"):
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    if exif := metadata.get("exif"):
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if dpi := metadata.get("dpi"):
        a_metre = [round(float(one) / 0.0254) for one in dpi]
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *a_metre, 1))
    header = 8 + 25  # signature and IHDR
    return png[:header] + chunks + png[header:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@contextlib.contextmanager
def large_images() -> Iterator[None]:
    """Within it Pillow reads images of any size: those that a person names are no attack."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
