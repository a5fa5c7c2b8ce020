"""One picture of images for each experiment, kept where its runs are not: experiments/pictures.

A picture is a small WebP that holds its caption, as EXIF's image description, so that the two stay
together.
"""

import io
import time
from pathlib import Path

from ae_lab.core.errors import UserError
from ae_lab.core.files import replace_atomically
from ae_lab.reporting.drawing import Drawing
from ae_lab.reporting.experiments import PICTURES, Experiment

WIDTHS = (900, 800, 700, 600, 500)  # pixels, the first that makes a file small enough
LARGEST = 60_000  # bytes
QUALITY = 50
DESCRIPTION = 0x010E  # the number of EXIF's image description


def picture_file(name: str, folder: Path = PICTURES) -> Path:
    return folder / f"{name}.webp"


def save_picture(
    experiment: Experiment, drawings: list[Drawing], folder: Path = PICTURES
) -> Path | None:
    """Save the first figure of images, scaled down; None where there is none.

    Raises:
        UserError: the experiment's runs are saved results, which draw no images.
    """
    from PIL import Image

    if experiment.is_saved:
        raise UserError(f"{experiment.name} has saved results alone: run it to save a picture")
    figure = next((drawing for drawing in drawings if drawing.of_images), None)
    if figure is None:
        return None
    caption = Image.Exif()
    caption[DESCRIPTION] = describe_picture(experiment, figure.kind).encode()
    original = Image.open(figure.files[0]).convert("RGB")
    for width in WIDTHS:
        image, content = original.copy(), io.BytesIO()
        image.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
        image.save(content, "webp", quality=QUALITY, method=6, exif=caption)
        if content.tell() <= LARGEST:
            break
    file = picture_file(experiment.name, folder)
    with replace_atomically(file) as beside:
        beside.write_bytes(content.getvalue())
    return file


def describe_picture(experiment: Experiment, kind: str) -> str:
    """What a picture shows, of which runs, made by which command and when."""
    settings = [run.settings for run in experiment.runs]
    words = [f"python -m ae_lab.train experiment={experiment.name}"]
    scales = {str(one.get("scale", "full")) for one in settings}
    quick = "" if scales == {"full"} else "a quick run, "
    if quick:
        words.append(f"scale={min(scales)}")
    for key, values in experiment.swept.items():
        used = list(dict.fromkeys(str(one.get(key)) for one in settings))
        is_part = {*values.lower().split(",")} > {value.lower() for value in used}
        if key not in ("seed", "data") and is_part:
            words.append(f"{key}={','.join(used)}")
    command = " ".join(words)
    return (
        f"{kind.replace('_', ' ').capitalize()}, saved from {quick}`{command}`, "
        f"{time.strftime('%Y-%m-%d')}: {experiment.describe()}"
    )


def read_caption(file: Path) -> str:
    """The caption that a picture holds."""
    from PIL import Image

    with Image.open(file) as image:
        text = image.getexif().get(DESCRIPTION, "")
    return text.encode("latin-1").decode()  # Pillow takes its bytes, UTF-8, for Latin-1
