"""The tab Restore: a photograph, what is done to it, and what the model makes of that."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from ae_lab import data
from ae_lab.browser.pictures import make_visible, show_errors
from ae_lab.core.errors import UserError
from ae_lab.data import Corruption
from ae_lab.inference.inputs import to_images, to_photo
from ae_lab.inference.model import Model
from ae_lab.inference.photo_files import Photo, photo_to_image
from ae_lab.inference.restorer import Restorer, to_pixels


@dataclass
class Level:
    """A corruption with one parameter, and the range of it that the page offers."""

    kind: Callable[..., Corruption]
    parameter: str
    low: float
    high: float
    usual: float
    step: float = 0.01


LEVELS = {
    "Gaussian noise": Level(data.GaussianNoise, "sigma", 0, 0.5, 0.1),
    "salt and pepper": Level(data.SaltPepperNoise, "amount", 0, 0.5, 0.1),
    "speckle": Level(data.SpeckleNoise, "sigma", 0, 1, 0.4),
    "shot noise": Level(data.PoissonNoise, "peak", 1, 100, 30, 1),
    "missing box": Level(partial(data.Mask, kind="box"), "share", 0.01, 0.5, 0.25),
    "blur": Level(partial(data.GaussianBlur, sigma=0.0), "radius", 0.1, 5, 1.5, 0.1),
    "JPEG": Level(data.JPEGCompression, "quality", 5, 95, 30, 1),
    "smaller": Level(data.Downsampling, "factor", 2, 4, 2, 2),
}
NOTHING = "nothing: it is as it is"


def restore_photo(
    model: Model, photo: Image.Image, corruption: str = NOTHING, level: float = 0.1, seed: int = 0
) -> tuple[Image.Image, Image.Image, str]:
    """What the model was given, what it made of that, and what to say.

    A photograph is scaled to the size of a model that takes one size alone. A model that is told
    the level of a corruption gets `level` where nothing is done to the photo.

    Raises:
        UserError: there is no photo, or the model cannot restore it.
    """
    if photo is None:
        raise UserError("drop a photo first")
    noise = None
    if corruption != NOTHING:
        chosen = LEVELS[corruption]
        value = round(level) if chosen.step >= 1 else level
        noise = chosen.kind(**{chosen.parameter: value})
    side = level if noise is None and model.network.side else None
    restorer = Restorer(model.network, str(model.path), noise, side, seed=seed)
    restored = restorer.restore(fit_photo(model, photo))
    pictures = [make_visible(photo_to_image(one)) for one in (restored.given, restored.photo)]
    return *pictures, ", ".join(restored.notes)


def fit_photo(model: Model, photo: Image.Image) -> Photo:
    """A photo as the model takes it: as it is, or the middle of it scaled to the model's size."""
    if model.network.stride is not None:
        return to_photo(photo)
    return Photo(to_pixels(to_images(photo, model.image_shape), np.dtype(np.uint8)))


def add_restore_tab(model: Model) -> None:
    """A photo to drop, a corruption and its level, before and after under a slider."""
    import gradio

    with gradio.Row():
        with gradio.Column():
            photo = gradio.Image(type="pil", label="photo", elem_id="photo")
            corruption = gradio.Dropdown(
                [NOTHING, *LEVELS], value="Gaussian noise", label="what is done to it first"
            )
            first = LEVELS["Gaussian noise"]
            level = gradio.Slider(
                first.low, first.high, first.usual, step=first.step, label=first.parameter
            )
            button = gradio.Button("restore", variant="primary", elem_id="restore")
        with gradio.Column():
            slider = gradio.ImageSlider(
                label="before | after", elem_id="restored", interactive=False, type="pil"
            )
            text = gradio.Markdown(elem_id="gain")

    def offer_levels(corruption: str):
        if corruption == NOTHING:
            label = "level that the model is told"
            return gradio.Slider(0, 0.5, 0.1, step=0.01, label=label, visible=model.network.side)
        one = LEVELS[corruption]
        return gradio.Slider(
            one.low, one.high, one.usual, step=one.step, label=one.parameter, visible=True
        )

    @show_errors
    def restore(photo, corruption, level):
        before, after, text = restore_photo(model, photo, corruption, level)
        return (before, after), text

    corruption.input(offer_levels, corruption, level)
    button.click(restore, [photo, corruption, level], [slider, text])
