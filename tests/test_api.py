"""The Python API: its examples, its inputs, and that it is the command line's own runs."""

import doctest
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

import ae_lab
from ae_lab.core.errors import UserError
from ae_lab.core.quoting import write_override
from ae_lab.inference import api, load_run
from ae_lab.inference import model as served
from ae_lab.inference.inputs import to_images, to_labels
from tests.building import TINY, TINY_UNET
from tests.conftest import REPOSITORY

FINDER = doctest.DocTestFinder()
EXAMPLES = [e for e in FINDER.find(api, "api") + FINDER.find(served, "model") if e.examples]


@pytest.fixture(scope="module")
def conditional(outputs):
    settings = {"model": "cvae", **TINY, "paths.outputs": outputs}
    return ae_lab.train(**settings)


@pytest.fixture(scope="module")
def images(model):
    return model.loaded.data.eval_batch("test", 10).clean


@pytest.fixture(scope="module")
def photographs(outputs):
    return ae_lab.train(**TINY_UNET, **{"paths.outputs": outputs})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_of_the_api_run(
    example, model, images, photographs, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    known = {"ae_lab": ae_lab, "model": model, "path": model.path, "images": images}
    known |= {"photographs": photographs, "Image": Image}
    example.globs = known | ({"ae_lab": Quiet} if example.name == "api.train" else {})
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


class Quiet:
    """`ae_lab` whose training prints nothing, so that an example shows what it returns alone."""

    @staticmethod
    def train(*words, **settings):
        with open(os.devnull, "w") as nowhere, pytest.MonkeyPatch.context() as patch:  # noqa: PTH123
            patch.setattr(sys, "stdout", nowhere)
            return ae_lab.train(*words, **TINY | settings)


def test_a_photograph_is_restored_as_the_command_does(photographs, command, tmp_path):
    pixels = astronaut()[:50, :75]
    photo = Image.fromarray(pixels)
    photo.save(tmp_path / "photo.png")
    done = command("restore", f"run={photographs.path}", "input=photo.png", "output=out.png")
    assert done.returncode == 0, done.stderr
    expected = np.asarray(Image.open(tmp_path / "out.png"))
    for given in (photo, pixels, tmp_path / "photo.png"):
        np.testing.assert_array_equal(np.asarray(photographs.restore(given)), expected)
    photo.putalpha(100)
    assert photographs.restore(photo).getextrema()[3] == (100, 100)
    for wrong in (pixels / 255, pixels[..., :2], "nowhere.png"):
        with pytest.raises(UserError):
            photographs.restore(wrong)


def test_each_function_of_the_api_has_an_example():
    public = [name for name in vars(served.Model) if not name.startswith("_")]
    functions = {name for name in public if callable(getattr(served.Model, name))}
    assert functions | {"load", "train"} <= {e.name.rpartition(".")[2] for e in EXAMPLES}


def test_importing_the_package_is_cheap_and_train_stays_a_function():
    code = (
        "import sys, ae_lab\n"
        "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)\n"
        "import ae_lab.train as command, importlib\n"
        "module = importlib.import_module('ae_lab.train')\n"
        "assert callable(module.main) and ae_lab.train is command is not module\n"
        "assert not hasattr(ae_lab, 'nope')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_run_from_python_is_the_run_of_the_command_line(model, outputs, command):
    words = [write_override(key, value) for key, value in TINY.items()]
    done = command("train", "model=vae", *words, f"paths.outputs={outputs}")
    assert f"done already: {model.path}" in done.stdout
    overrides = (model.path / ".hydra" / "overrides.yaml").read_text().split()
    assert "hidden=[16]" in overrides
    assert model.path.name.startswith("mnist5k-vae-latent2-hidden_16")


def test_what_cannot_be_trained_is_one_line():
    for settings, part in (({"model": "vea"}, "did you mean 'vae'"), ({"latnt": 2}, "'latent'")):
        with pytest.raises(UserError, match=part) as refused:
            ae_lab.train(**settings)
        assert "\n" not in str(refused.value)


def test_encode_decode_and_reconstruct_are_the_models_own_pass(model, images):
    loaded = load_run(model.loaded.run)
    output = loaded.predict(10)
    small = ae_lab.load(model.path, batch_size=3)
    for one in (model, small):
        torch.testing.assert_close(one.encode(images), output.code)
        torch.testing.assert_close(one.decode(output.code), output.reconstruction)
        torch.testing.assert_close(one.reconstruct(images), output.reconstruction)
    codes, labels = loaded.sample_codes(5, None, None, seed=3)
    torch.testing.assert_close(model.generate(5, seed=3), loaded.decode(codes, labels))


def test_a_draw_of_a_code_depends_on_its_seed_alone(model, images):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, again, other = (model.encode(images, draw=True, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.rand(3), expected)


def test_the_likelihood_bound_rises_with_the_number_of_codes(model, images, run):
    few, many = (model.log_likelihood(images, samples=n, seed=1).mean() for n in (1, 200))
    assert few < many < 0
    plain = ae_lab.load(run("hidden=[16]", "latent=2", "data.limit=64").path)
    with pytest.raises(UserError, match="has no likelihood"):
        plain.log_likelihood(images)
    assert plain.generate(3).shape == (3, 1, 28, 28)  # by a normal distribution of its codes


def test_a_conditional_model_takes_labels_by_number_and_by_name(conditional, images):
    with pytest.raises(UserError, match="is conditional: give labels="):
        conditional.encode(images)
    codes = conditional.encode(images, 7)
    assert torch.equal(codes, conditional.encode(images, ["7"] * 10))
    assert torch.equal(
        conditional.decode(codes, 7), conditional.decode(codes, torch.full((10,), 7))
    )
    assert not torch.equal(conditional.decode(codes, 7), conditional.decode(codes, 8))
    sevens = conditional.generate(3, label="7")
    assert torch.equal(sevens, conditional.generate(3, label=7))
    with pytest.raises(UserError, match="label=77 is not known"):
        conditional.generate(3, label=77)


def test_a_model_that_is_told_paints_in_what_a_mask_marks(run, model, images):
    parts = ["model=mlp", "output=composite", "model.side=true", "noise=mask"]
    told = ae_lab.load(run(*parts, "hidden=[16]", "latent=2", "data.limit=64").path, batch_size=4)
    mask = np.zeros((28, 28), dtype=bool)
    mask[8:20, 6:18] = True
    painted = told.reconstruct(images, side=mask)
    missing = torch.from_numpy(mask).expand_as(images)
    assert torch.equal(painted[~missing], images[~missing])
    hidden = images.where(~missing, 1 - images)
    assert not torch.equal(painted[missing], images[missing])
    assert torch.equal(painted, told.reconstruct(hidden, side=Image.fromarray(mask)))
    assert torch.equal(painted, told.reconstruct(images, side=np.stack([mask[None]] * 10) * 1.0))
    for side, part in ((None, "give side="), ([mask] * 3, "3 sides for 10 images")):
        with pytest.raises(UserError, match=part):
            told.reconstruct(images, side=side)
    with pytest.raises(UserError, match="told nothing of corruptions: leave out side"):
        model.reconstruct(images, side=0.1)


PIXELS = (np.arange(28 * 28).reshape(28, 28) % 256).astype(np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS[None],
        PIXELS[:, :, None],
        PIXELS[None, None] / 255.0,
        torch.from_numpy(PIXELS),
        Image.fromarray(PIXELS),
        [PIXELS],
        (Image.fromarray(PIXELS),),
    ],
    ids=lambda images: f"{type(images).__name__} {getattr(images, 'shape', '')}",
)
def test_the_same_image_of_any_kind_is_the_same(images, tmp_path):
    expected = torch.from_numpy(PIXELS)[None, None] / 255
    torch.testing.assert_close(to_images(images, (1, 28, 28)), expected)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        torch.testing.assert_close(to_images(path, (1, 28, 28)), expected)


def test_a_photograph_is_cut_to_its_middle_and_scaled():
    photo = Image.new("RGB", (300, 100), "red")
    photo.paste("blue", (100, 0, 200, 100))
    pixels = to_images(photo, (3, 16, 16))
    assert pixels.shape == (1, 3, 16, 16)
    middle = pixels[0, :, :, 4:12].mean((1, 2))  # the filter mixes in what lies beyond the edges
    torch.testing.assert_close(middle, torch.tensor([0.0, 0.0, 1.0]), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("images", "part"),
    [
        (np.zeros((3, 32, 32)), "takes images of 1×28×28"),
        (np.full((28, 28), 255.0), "divide by 255"),
        (np.full((28, 28), np.nan), "must lie in"),
        (np.zeros((28, 28), dtype=np.int64), "must be float in"),
        ("nowhere.png", "nowhere.png cannot be read: No such file"),
        (7, "got int"),
        ([], "at least one"),
    ],
)
def test_what_is_no_image_of_the_model_is_refused(images, part):
    with pytest.raises(UserError, match=part):
        to_images(images, (1, 28, 28))


def test_labels_of_any_kind():
    expected = torch.eye(3)[[2, 0]]
    for labels in ([2, 0], ["c", "a"], np.array([2, 0]), torch.tensor([2, 0]), expected):
        assert torch.equal(to_labels(labels, 2, 3, ["a", "b", "c"]), expected)
    assert torch.equal(to_labels("b", 2, 3, ["a", "b", "c"]), torch.eye(3)[[1, 1]])
    assert torch.equal(to_labels(None, 2, 3), torch.zeros(2, 3))
    for labels, part in (([1], "1 labels for 2"), ([3, 0], "label=3"), (torch.eye(3), r"\(2, 3\)")):
        with pytest.raises(UserError, match=part):
            to_labels(labels, 2, 3)
