"""The tab Generate: random images."""

from PIL import Image

from ae_lab.browser.pictures import show_errors, to_grid
from ae_lab.core.errors import UserError
from ae_lab.inference.model import Model

ALL = "each in turn"


def list_samplers(model: Model) -> list[str]:
    """By what a model can draw codes: its prior, and samplers that are fitted on training codes
    where the model comes with its data."""
    network = model.network
    known = ["prior"] if network.bottleneck.has_prior and network.can_generate else []
    try:
        _ = model.loaded
    except UserError:
        return known
    if network.can_generate:
        known += ["normal", "gmm", "flow"]
    if network.decodes_code_alone and "indices" in network.bottleneck.outputs:
        known += ["autoregressive"]
    return known


def draw_images(model: Model, sampler: str, label: str, n: int, seed: int) -> Image.Image:
    """n random images in a square."""
    chosen = None if sampler == "prior" else sampler
    images = model.generate(int(n), None if label == ALL else label, chosen, int(seed))
    return to_grid(images)


def add_generate_tab(model: Model) -> None:
    """Sampler, label, seed, and a grid of images."""
    import gradio

    samplers = list_samplers(model)
    if not samplers:
        gradio.Markdown("This model has no prior, and no codes to fit a sampler on.")
        return
    conditional = model.network.conditional
    with gradio.Row():
        with gradio.Column(scale=1):
            sampler = gradio.Dropdown(samplers, value=samplers[0], label="sampler")
            label = gradio.Dropdown(
                [ALL, *(model.class_names if conditional else [])],
                value=ALL, label="class", visible=conditional,
            )  # fmt: skip
            number = gradio.Slider(1, 100, 25, step=1, label="images")
            seed = gradio.Number(0, precision=0, minimum=0, label="seed", elem_id="seed")
            button = gradio.Button("generate", variant="primary", elem_id="generate")
        with gradio.Column(scale=2):
            shown = gradio.Image(interactive=False, label="random images", elem_id="samples")

    @show_errors
    def draw(sampler, label, number, seed):
        return draw_images(model, sampler, label, number, seed)

    for event in (button.click, seed.submit):
        event(draw, [sampler, label, number, seed], shown, api_name="generate")
