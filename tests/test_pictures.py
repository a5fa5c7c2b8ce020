"""Pictures of the code's space: what lies where."""

import numpy as np
import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.inference import latent_figures as pictures
from ae_lab.inference.latent_figures import Request
from ae_lab.inference.loaded_run import load_run


def request(**changed) -> Request:
    asked = {"n": 12, "columns": 4, "label": None, "sampler": None, "seed": 0}
    return Request(**asked | changed)


@pytest.fixture
def conditional(run):
    return load_run(run("conditional=true", "hidden=[20]", "latent=2"))


def test_an_interpolation_goes_from_one_reconstruction_to_another(conditional):
    picture = pictures.interpolation(conditional, request())
    ends = conditional.show(6)
    assert picture.images.shape == (3, 4, 1, 28, 28)
    torch.testing.assert_close(picture.images[:, 0], ends.reconstruction[:3])
    torch.testing.assert_close(picture.images[:, -1], ends.reconstruction[3:])
    middle = picture.codes[:, 1] - picture.codes[:, 0]
    torch.testing.assert_close(picture.codes[:, 2] - picture.codes[:, 1], middle)


def test_a_traversal_changes_one_dimension_in_each_row(conditional):
    picture = pictures.traversal(conditional, request(n=8))
    for row in picture.codes:
        assert (row != row[0]).any(0).sum() == 1
    assert picture.codes.shape == (2, 4, 2)


def test_a_plane_spreads_over_the_training_codes(conditional):
    picture = pictures.plane(conditional, request(n=16), reach=0.0)
    trained = conditional.codes(conditional.data.split("train"))
    torch.testing.assert_close(picture.codes[-1, 0], trained.min(0).values)
    torch.testing.assert_close(picture.codes[0, -1], trained.max(0).values)
    assert picture.codes[0, :, 1].eq(picture.codes[0, 0, 1]).all()


def test_an_edit_keeps_the_code_and_changes_the_label(conditional):
    picture = pictures.edit(conditional, request(n=20))
    shown = conditional.show(2)
    assert picture.images.shape == (2, 11, 1, 28, 28)
    assert torch.equal(picture.images[:, 0], shown.clean)
    assert picture.codes.eq(picture.codes[:, :1]).all()
    own = shown.label.argmax(1)
    torch.testing.assert_close(picture.images[[0, 1], own + 1], shown.reconstruction)


def test_what_a_model_cannot_show_is_refused(run):
    plain = load_run(run("hidden=[20]", "latent=3"))
    with pytest.raises(UserError, match="conditional=true"):
        pictures.edit(plain, request())
    with pytest.raises(UserError, match="latent=2"):
        pictures.plane(plain, request())
    with pytest.raises(UserError, match="give a lower n"):
        pictures.interpolation(plain, request(n=2000, columns=2))
    connected = load_run(run("model=cnn_skip", "hidden=[4,8]", "depth=2"))
    with pytest.raises(UserError, match="cannot generate"):
        pictures.interpolation(connected, request())


@pytest.mark.parametrize("picture", ["samples", "interpolation", "traversal", "plane", "edit"])
def test_every_picture_is_a_command(picture, conditional, command):
    folder = conditional.run.path
    made = command("generate", f"run={folder}", f"picture={picture}", "n=20", "columns=5")
    assert made.returncode == 0, made.stderr
    png, arrays = map(str, made.stdout.split())
    assert png.endswith(".png")
    kept = np.load(arrays)
    assert kept["images"].shape[2:] == (1, 28, 28)
    assert kept["codes"].shape[-1] == 2
