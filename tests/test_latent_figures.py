"""Figures of the latent space, the command that draws them, and one from outside the package."""

import numpy as np
import pytest
import torch

from ae_lab import inference
from ae_lab.core.errors import UserError
from ae_lab.inference import FigureRequest, load_run


def request(**changed) -> FigureRequest:
    defaults = {"n": 12, "columns": 4, "label": None, "sampler": None, "seed": 0}
    return FigureRequest(**defaults | changed)


@pytest.fixture
def conditional(run):
    return load_run(run("conditional=true", "hidden=[20]", "latent=2"))


def test_an_interpolation_goes_from_one_reconstruction_to_another(conditional):
    figure = inference.draw_interpolation(conditional, request())
    ends = conditional.predict(6)
    assert figure.images.shape == (3, 4, 1, 28, 28)
    torch.testing.assert_close(figure.images[:, 0], ends.reconstruction[:3])
    torch.testing.assert_close(figure.images[:, -1], ends.reconstruction[3:])
    middle = figure.codes[:, 1] - figure.codes[:, 0]
    torch.testing.assert_close(figure.codes[:, 2] - figure.codes[:, 1], middle)


def test_a_traversal_changes_one_dimension_in_each_row(conditional):
    figure = inference.draw_traversal(conditional, request(n=8))
    for row in figure.codes:
        assert (row != row[0]).any(0).sum() == 1
    assert figure.codes.shape == (2, 4, 2)


def test_a_latent_grid_spreads_over_the_training_codes(conditional):
    figure = inference.draw_latent_grid(conditional, request(n=16), quantile=0.0)
    trained = conditional.encode_split(conditional.data.split("train"))
    torch.testing.assert_close(figure.codes[-1, 0], trained.min(0).values)
    torch.testing.assert_close(figure.codes[0, -1], trained.max(0).values)
    assert figure.codes[0, :, 1].eq(figure.codes[0, 0, 1]).all()


def test_a_label_swap_keeps_the_code_and_changes_the_label(conditional):
    figure = inference.draw_label_swap(conditional, request(n=20))
    output = conditional.predict(2)
    assert figure.images.shape == (2, 11, 1, 28, 28)
    assert torch.equal(figure.images[:, 0], output.clean)
    assert figure.codes.eq(figure.codes[:, :1]).all()
    own = output.label.argmax(1)
    torch.testing.assert_close(figure.images[[0, 1], own + 1], output.reconstruction)


def test_what_a_model_cannot_show_is_refused(run):
    plain = load_run(run("hidden=[20]", "latent=3"))
    with pytest.raises(UserError, match="conditional=true"):
        inference.draw_label_swap(plain, request())
    with pytest.raises(UserError, match="latent=2"):
        inference.draw_latent_grid(plain, request())
    with pytest.raises(UserError, match="lower n"):
        inference.draw_interpolation(plain, request(n=2000, columns=2))
    connected = load_run(run("model=cnn_skip", "hidden=[4,8]", "depth=2"))
    with pytest.raises(UserError, match="cannot generate"):
        inference.draw_interpolation(connected, request())


@pytest.mark.parametrize(
    "figure", ["samples", "interpolation", "traversal", "latent_grid", "label_swap"]
)
def test_every_figure_is_a_command(figure, conditional, command):
    words = [f"run={conditional.run.path}", f"figure={figure}", "n=20", "columns=5"]
    result = command("generate", *words)
    assert result.returncode == 0, result.stderr
    png, npz = map(str, result.stdout.split())
    assert png.endswith(".png")
    arrays = np.load(npz)
    assert arrays["images"].shape[2:] == (1, 28, 28)
    assert arrays["codes"].shape[-1] == 2


@pytest.mark.parametrize("figure", ["samples", "interpolation", "traversal"])
def test_fewer_images_than_columns_are_one_row(figure, conditional, command):
    result = command("generate", f"run={conditional.run.path}", f"figure={figure}", "n=3")
    assert result.returncode == 0, result.stderr
    assert len(np.load(result.stdout.split()[1])["images"]) == 1


OUTSIDE = """
import torch

from ae_lab.inference import LatentFigure


def draw_origin(loaded, request, scale):
    codes = scale * torch.zeros(1, request.columns, *loaded.model.bottleneck.shape)
    labels = torch.zeros(1, request.columns, loaded.num_classes)
    images = loaded.decode(codes[0], labels[0])[None]
    return LatentFigure(images, codes, labels)
"""


def test_a_figure_from_outside_is_one_function_and_one_file(conditional, command, tmp_path):
    (tmp_path / "outside_figure.py").write_text(OUTSIDE)
    folder = tmp_path / "mine" / "figure"
    folder.mkdir(parents=True)
    (folder / "origin.yaml").write_text(
        "_target_: outside_figure.draw_origin\n_partial_: true\nscale: 1.0\n"
    )
    words = [f"hydra.searchpath=[file://{folder.parent}]", "figure=origin", "columns=3"]
    result = command("generate", f"run={conditional.run.path}", *words)
    assert result.returncode == 0, result.stderr
    [arrays] = (conditional.run.path / "generated").glob("origin-*.npz")
    assert np.load(arrays)["images"].shape == (1, 3, 1, 28, 28)
