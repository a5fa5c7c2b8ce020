"""The tab Compare: what several models make of the same images."""

from html import escape

from PIL import Image
from torch import Tensor

from ae_lab.browser.explore import load_examples
from ae_lab.browser.pictures import show_errors, to_visible
from ae_lab.core.errors import UserError
from ae_lab.core.images import tile_rows, to_address
from ae_lab.inference.model import Model
from ae_lab.training.metrics import psnr

MOST = 200  # test images to choose from


def compare_models(models: list[Model], start: int, n: int) -> list[tuple[Image.Image, str]]:
    """A row of test images, and for each model a row of what it makes of them, below one of what it
    gets where that is corrupted.

    Raises:
        UserError: a model comes without its data, or was trained on other data than the first.
    """
    rows: list[tuple[Tensor, str]] = []
    for model in models:
        name, batch = model.name, load_examples(model, start + n)
        if batch is None:
            raise UserError(f"{name} comes without its data: compare runs")
        if get_fingerprint(model) != get_fingerprint(models[0]):
            raise UserError(f"{name} was trained on other data than the first: compare others")
        few = batch.part(slice(start, start + n))
        if not rows:
            rows.append((few.clean, "test images"))
        if not few.corrupted.equal(few.clean):
            rows.append((few.corrupted, f"what {name} gets"))
        made = model.loaded.reconstruct(few)
        rows.append((made, f"{name}: {float(psnr(made, few.clean).mean()):.2f} dB"))
    return [(to_visible(tile_rows(images)), text) for images, text in rows]


def get_fingerprint(model: Model) -> str:
    return model.loaded.data.images.fingerprint


def write_rows(rows: list[tuple[Image.Image, str]]) -> str:
    """Pictures below what is said of them, as HTML."""
    return "".join(
        f"<p>{escape(text)}</p><img src='{to_address(picture, 'png')}' style='width: 100%'>"
        for picture, text in rows
    )


def add_compare_tab(models: list[Model]) -> None:
    """Which test images, and a row for each model."""
    import gradio

    start = gradio.Slider(0, MOST - 16, 0, step=1, label="first test image", elem_id="first")
    number = gradio.Slider(1, 16, 8, step=1, label="images")
    button = gradio.Button("compare", variant="primary", elem_id="compare")
    shown = gradio.HTML(elem_id="rows")

    @show_errors
    def compare(start, number):
        return write_rows(compare_models(models, int(start), int(number)))

    button.click(compare, [start, number], shown)
