"""The tab Explore: the image of a code that is moved along the main directions of codes."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ae_lab.browser.pictures import show_errors, to_visible
from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data import Batch
from ae_lab.inference.model import Model

NUM_LANDMARKS, NUM_SHOWN = 1000, 24  # codes in the plane; images to click on
NUM_DIRECTIONS = 8
REACH = 3.0  # deviations of the codes that a slider covers to both sides
SIDE, DOT = 480, 2.5  # pixels of the plane, and of a code's radius in it
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd")
COLOURS += ("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


class CodeSpace:
    """Directions through a cloud of codes (N, latent), and how far the cloud reaches in each.

    A place is given in deviations of the codes from their mean along each direction. Directions are
    the main ones, the dimensions themselves where there are two or one.
    """

    def __init__(self, codes: Tensor, classes: list[int] | None = None):
        latent = codes.shape[1]
        self.origin = codes.mean(0)
        axes = torch.eye(latent)
        if latent > 2:
            axes = torch.linalg.svd(codes - self.origin, full_matrices=False)[2]
        self.axes = axes[:NUM_DIRECTIONS]
        along = (codes - self.origin) @ self.axes.T
        self.spread = along.std(0).clamp_min(1e-6)
        self.landmarks, self.classes = along / self.spread, classes

    def to_code(self, place: list[float]) -> Tensor:
        """The code (1, latent) at a place."""
        return (self.origin + (torch.tensor(place) * self.spread) @ self.axes)[None]

    def to_place(self, code: Tensor) -> list[float]:
        """The place nearest to a code (latent,), to what a slider can show."""
        along = (code - self.origin) @ self.axes.T / self.spread
        return [round(float(one), 2) for one in along.clamp(-REACH, REACH)]

    def draw_plane(self, place: list[float]) -> Image.Image:
        """The codes along the first two directions, and a cross at a place."""
        picture = Image.new("RGB", (SIDE, SIDE), "white")
        draw = ImageDraw.Draw(picture)
        classes = self.classes or [0] * len(self.landmarks)
        for landmark, number in zip(self.landmarks.tolist(), classes, strict=True):
            x, y = to_pixel(landmark)
            colour = COLOURS[number % len(COLOURS)]
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour)
        x, y = to_pixel(place)
        draw.line((x - 12, y, x + 12, y), fill="black", width=3)
        draw.line((x, y - 12, x, y + 12), fill="black", width=3)
        return picture


def to_pixel(place: list[float]) -> tuple[float, float]:
    """Where the plane has a place's first two coordinates."""
    first, second = (*place, 0.0)[:2]
    return (first / REACH + 1) * SIDE / 2, (1 - second / REACH) * SIDE / 2


def from_pixel(x: float, y: float) -> tuple[float, float]:
    """A pixel of the plane as the first two coordinates of a place."""
    return round((2 * x / SIDE - 1) * REACH, 2), round((1 - 2 * y / SIDE) * REACH, 2)


def load_examples(model: Model, n: int) -> Batch | None:
    """Test images of the run; None where the model comes without its data."""
    try:
        return model.loaded.data.eval_batch("test", n)
    except UserError:
        return None


class Explorer:
    """What the tab shows of a model.

    Raises:
        UserError: its images are made of more than a vector, or there are no codes to start from.
    """

    def __init__(self, model: Model):
        if not model.network.can_generate:
            raise UserError(
                "The images of this model are made of more than a vector: there is no plane of "
                "codes to move in. See the tab Restore."
            )
        self.model = model
        self.examples = load_examples(model, NUM_LANDMARKS)
        self.conditional = model.network.conditional
        if self.examples is not None:
            labels = self.examples.label
            codes = model.encode(self.examples.clean, labels)
            self.space = CodeSpace(codes, labels.argmax(1).tolist() if labels.any() else None)
            return
        if not model.network.bottleneck.has_prior:
            raise UserError("Without the data of the run, and without a prior, no code is known.")
        labels = torch.eye(model.num_classes)[torch.arange(NUM_LANDMARKS) % model.num_classes]
        self.space = CodeSpace(model.network.bottleneck.sample(labels, generator(0, "explore")))

    @property
    def classes(self) -> list[str]:
        return list(self.model.class_names) if self.conditional else []

    def draw(self, place: list[float], label: str | None) -> tuple[Image.Image, Image.Image]:
        """The image of a place, and the plane."""
        [image] = self.model.decode(self.space.to_code(place), label if self.conditional else None)
        return to_visible(image), self.space.draw_plane(place)

    def move_to_pixel(self, place: list[float], x: float, y: float) -> list[float]:
        """A place whose first two coordinates are those of a pixel of the plane."""
        return [*from_pixel(x, y), *place[2:]][: len(place)]

    def example_place(self, number: int) -> list[float]:
        """The place of a test image's code."""
        one = self.examples.part(slice(number, number + 1))
        return self.space.to_place(self.model.encode(one.clean, one.label)[0])


def add_explore_tab(model: Model) -> None:
    """Sliders along the directions, the plane of the first two, test images to start from."""
    import gradio

    try:
        explorer = Explorer(model)
    except UserError as error:
        gradio.Markdown(str(error))
        return
    start = [0.0] * len(explorer.space.axes)
    label = explorer.classes[0] if explorer.classes else None
    image, plane = explorer.draw(start, label)
    with gradio.Row():
        with gradio.Column():
            shown = gradio.Image(image, label="decoded", interactive=False, elem_id="decoded")
            classes = gradio.Radio(
                explorer.classes, value=label, label="class", visible=explorer.conditional
            )
            sliders = [
                gradio.Slider(-REACH, REACH, 0.0, step=0.05, label=f"direction {number + 1}")
                for number in range(len(start))
            ]
        with gradio.Column():
            cloud = gradio.Image(
                plane, label="codes: click", interactive=False, elem_id="plane", type="pil"
            )
            gallery = gradio.Gallery(
                list_examples(explorer), label="test images: click", columns=4, preview=False,
                allow_preview=False, elem_id="examples", visible=explorer.examples is not None,
            )  # fmt: skip

    @show_errors
    def draw(label, *place):
        return explorer.draw(list(place), label)

    def click_plane(event: gradio.SelectData, label, *place):
        moved = explorer.move_to_pixel(list(place), *event.index)
        return *moved, *explorer.draw(moved, label)

    def click_example(event: gradio.SelectData, label):
        place = explorer.example_place(event.index)
        return *place, *explorer.draw(place, label)

    live = {"show_progress": "hidden", "trigger_mode": "always_last"}
    for one in (*sliders, classes):
        one.input(draw, [classes, *sliders], [shown, cloud], **live)
    cloud.select(click_plane, [classes, *sliders], [*sliders, shown, cloud], **live)
    gallery.select(click_example, [classes], [*sliders, shown, cloud], **live)


def list_examples(explorer: Explorer) -> list[np.ndarray]:
    """Pictures of the first test images."""
    if explorer.examples is None:
        return []
    return [np.asarray(to_visible(image)) for image in explorer.examples.clean[:NUM_SHOWN]]
