"""The app: what its tabs compute, and that the page is served. A script uses it in Chromium:
`make test-app`."""

import socket

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

import ae_lab
from ae_lab.browser.compare import compare_models
from ae_lab.browser.explore import CodeSpace, Explorer, from_pixel, to_pixel
from ae_lab.browser.generate import ALL, draw_images, list_samplers
from ae_lab.browser.restore import LEVELS, NOTHING, restore_photo
from ae_lab.core.errors import UserError
from tests.building import TINY, TINY_UNET

PHOTO = Image.fromarray(astronaut()[:60, :90])


@pytest.fixture(scope="module")
def train(outputs):
    """A tiny model: `train(model="vae")`."""

    def _train(*words, **settings):
        settings = settings if "data" in settings else TINY | settings
        return ae_lab.train(*words, **settings, **{"paths.outputs": outputs})

    return _train


def test_directions_are_the_main_ones_of_the_codes():
    codes = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 6)
    space = CodeSpace(codes)
    values, vectors = np.linalg.eigh(np.cov(codes.numpy(), rowvar=False))
    for number in range(5):
        main = vectors[:, 4 - number]
        assert abs(float(space.axes[number] @ torch.tensor(main).float())) == pytest.approx(
            1, abs=1e-4
        )
    np.testing.assert_allclose(space.spread**2, values[::-1], rtol=1e-4)
    place = space.to_place(space.to_code([1.0, -0.5, 0.25, 0.0, 2.0])[0])
    assert place == [1.0, -0.5, 0.25, 0.0, 2.0]
    assert CodeSpace(codes[:, :2]).axes.equal(torch.eye(2))  # the plane itself


def test_a_pixel_of_the_plane_is_a_place():
    assert from_pixel(*to_pixel([1.5, -0.75])) == (1.5, -0.75)
    assert from_pixel(0, 0) == (-3.0, 3.0)
    space = CodeSpace(torch.randn(50, 2), classes=[3] * 50)
    drawn = space.draw_plane([1.5, -0.75])
    x, y = map(round, to_pixel([1.5, -0.75]))
    assert drawn.getpixel((x, y)) == (0, 0, 0)


def test_moving_in_the_plane_decodes_the_code_there(train):
    model = train(model="vae")
    explorer = Explorer(model)
    place = explorer.move_to_pixel([0.0, 0.0], *to_pixel([1.0, -1.0]))
    image, _ = explorer.draw(place, None)
    expected = model.decode(explorer.space.to_code([1.0, -1.0]))[0, 0]
    shown = np.asarray(image.resize((28, 28), Image.Resampling.NEAREST))
    np.testing.assert_allclose(shown / 255, expected, atol=1 / 255)
    batch = explorer.examples.part(slice(4, 5))
    [code] = model.encode(batch.clean)
    near = explorer.space.to_code(explorer.example_place(4))[0]
    torch.testing.assert_close(near, code, atol=0.02 * float(explorer.space.spread.max()), rtol=0)


def test_an_exported_folder_is_explored_by_its_prior(train, command, tmp_path):
    model = train(model="cvae")
    command("export", f"run={model.path}", f"output={tmp_path / 'shared'}")
    explorer = Explorer(ae_lab.load(tmp_path / "shared"))
    assert explorer.examples is None
    assert explorer.classes == [*"0123456789"]
    assert explorer.draw([0.0, 0.0], "3")[0] != explorer.draw([0.0, 0.0], "8")[0]


def test_what_cannot_be_explored_says_so(train):
    with pytest.raises(UserError, match="made of more than a vector"):
        Explorer(train(**TINY_UNET))


@pytest.mark.parametrize("name", LEVELS)
def test_every_corruption_is_offered_and_undone(name, train):
    model, level = train(**TINY_UNET), LEVELS[name]
    for value in (level.low, level.high, level.usual):
        before, after, text = restore_photo(model, PHOTO, name, value)
        assert before.size == after.size
        assert before.width / before.height == 1.5
        assert "90×60" in text
        assert "PSNR" in text


def test_a_photo_is_scaled_to_a_model_of_one_size(train):
    before, after, text = restore_photo(train(model="vae"), PHOTO, NOTHING)
    assert before.size == after.size == (280, 280)
    assert text == "28×28"
    with pytest.raises(UserError, match="drop a photo first"):
        restore_photo(train(model="vae"), None)
    with pytest.raises(UserError, match="takes labels"):
        restore_photo(train(model="cvae"), PHOTO)


def test_samplers_that_the_page_offers_are_those_that_work(train):
    offered = {}
    for name, settings in {
        "vae": {"model": "vae"},
        "mlp": {"model": "mlp"},
        "unet": TINY_UNET,
    }.items():
        model = train(**settings)
        offered[name] = list_samplers(model)
        for sampler in set(offered[name]) - {"flow"}:
            image = draw_images(model, sampler, ALL, 5, 0)
            assert image == draw_images(model, sampler, ALL, 5, 0)
            assert image != draw_images(model, sampler, ALL, 5, 1)
    assert offered["vae"] == ["prior", "normal", "gmm", "flow"]
    assert offered["mlp"] == ["normal", "gmm", "flow"]
    assert offered["unet"] == []


def test_models_are_compared_on_the_same_images(train):
    models = [train(model="vae"), train(model="mlp", noise="gaussian")]
    rows = compare_models(models, start=3, n=5)
    assert [text.partition("mnist5k")[0] for _, text in rows] == ["test images", "", "what ", ""]
    own = models[1].loaded.data.eval_batch("test", 8).part(slice(3, 8))
    error = (models[1].reconstruct(own.corrupted) - own.clean).square().flatten(1).mean(1)
    assert rows[-1][1].endswith(f"{float(-10 * error.log10().mean()):.2f} dB")
    with pytest.raises(UserError, match="other data than the first"):
        compare_models([*models, train(**TINY_UNET)], 0, 3)


def test_the_page_is_served(train):
    pytest.importorskip("gradio")
    from gradio_client import Client

    from ae_lab.browser.app import build_app

    app = build_app([train(model="vae"), train(model="cvae"), train(**TINY_UNET)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, address, _ = app.launch(
        server_name="127.0.0.1", server_port=port, quiet=True, prevent_thread_lock=True
    )
    try:
        client = Client(address, verbose=False)
        made = client.predict("prior", ALL, 4, 1, api_name="/generate")
        with Image.open(made if isinstance(made, str) else made["path"]) as image:
            assert image.size == (280, 280)  # 2×2 digits, enlarged
    finally:
        app.close()


def test_a_taken_port_is_one_line(train, command):
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = train(model="vae").path
        done = command("app", f"run={path}", f"port={port}", "browser=false")
    assert done.returncode == 2
    assert f"port={port} is taken: give another" in done.stderr
