"""The command `export`: what each format writes is the model, and hostile folders are refused."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

import ae_lab
from ae_lab.core.errors import UserError
from ae_lab.core.intervals import mean_interval
from ae_lab.inference.exported_folder import ExportedFolder
from ae_lab.inference.safetensors_format import save_weights
from tests.building import FAMILIES, TINY, TINY_UNET, build, compose, small_family
from tests.conftest import REPOSITORY

BODIES = ["cnn", "cnn_skip", "cnn_unpool", "unet"]


@pytest.fixture(scope="module")
def onnxruntime():
    """The package, imported while no test has changed the path: a part of it adds to it."""
    pytest.importorskip("onnxruntime.transformers")
    return pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(model, command, tmp_path):
    """The model as an exported folder."""
    done = command("export", f"run={model.path}", f"output={tmp_path / 'shared'}")
    assert done.returncode == 0, done.stderr
    return tmp_path / "shared"


@pytest.fixture
def images(model):
    return model.loaded.data.eval_batch("test", 7).clean


def write_folder(folder, network, *overrides):
    """An untrained model as an exported folder."""
    config = compose("data=mnist5k", *overrides)
    data = {"name": "mnist5k", "title": "digits", "fingerprint": "f", "shape": [1, 28, 28]}
    content = {
        "format": 1,
        "model": OmegaConf.to_container(config.model, resolve=True),
        "data": data | {"classes": 10, "class_names": [*"0123456789"]},
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    save_weights(network, folder / "model.safetensors")


@pytest.mark.parametrize(
    "overrides",
    [small_family(family) for family in FAMILIES] + [[f"body={body}"] for body in BODIES],
    ids=lambda words: words[0],
)
def test_every_family_and_body_loads_to_the_bit(overrides, tmp_path):
    if overrides[0].startswith("body"):
        overrides = ["model=autoencoder", "bottleneck=identity", *overrides]
    elif "model=autoencoder" in overrides or "model=mlp" in overrides:
        overrides = [*overrides, "norm=batch"]
    overrides = [*overrides, "latent=4", "hidden=[8]"]
    network = build(*overrides)
    rng = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():  # none as it is built
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=rng))
    write_folder(tmp_path, network, *overrides)
    again = ExportedFolder(tmp_path).load_model().state_dict()
    assert again.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert again[name].dtype == value.dtype
        assert torch.equal(again[name], value), name


def test_an_exported_folder_is_the_model_without_run_data_and_configuration(
    model, folder, images, tmp_path
):
    expected = model.encode(images)
    torch.save({"images": images, "codes": expected}, tmp_path / "expected.pt")
    code = (
        "import sys, torch, ae_lab\n"
        "from pathlib import Path\n"
        "from ae_lab.core import configuration\n"
        "configuration.CONF = Path('nowhere')\n"
        "known = torch.load(sys.argv[2])\n"
        "model = ae_lab.load(sys.argv[1])\n"
        "codes = model.encode(known['images'])\n"
        "assert torch.equal(codes, known['codes'])\n"
        "assert model.decode(codes).shape == known['images'].shape\n"
        "assert model.generate(3).shape == (3, 1, 28, 28)\n"
        "assert model.class_names == tuple('0123456789')\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder, elsewhere / "it")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AE_LAB")}
    done = subprocess.run(
        [sys.executable, "-c", code, "it", str(tmp_path / "expected.pt")],
        cwd=elsewhere,
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_sampler_that_needs_training_images_is_refused_where_there_are_none(folder):
    with pytest.raises(UserError, match="has no training images to fit a sampler on"):
        ae_lab.load(folder).generate(3, sampler="normal")


def test_the_card_has_the_runs_own_numbers_and_names_no_folder_of_this_machine(
    model, folder, outputs
):
    card, run = (folder / "README.md").read_text(), model.loaded.run
    assert f"| test PSNR (dB) | {run.metrics['test/psnr']:.2f} |" in card
    assert run.record["data"]["fingerprint"] in card
    assert f"{run.metrics['parameters']:,.0f} parameters" in card
    assert "python -m ae_lab.train model=vae" in card
    everything = card + (folder / "config.yaml").read_text()
    assert str(outputs) not in everything
    assert {f.name for f in (folder / "pictures").iterdir()} == {
        "reconstructions.png",
        "samples.png",
    }
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "vae", **TINY},
        {"model": "cvae", "condition_encoder": True, **TINY},
        {**TINY_UNET, "model.side": True, "noise": "mask"},
    ],
    ids=["vae", "cvae", "unet"],
)
def test_what_the_card_tells_to_run_runs(settings, outputs, command, tmp_path, monkeypatch):
    trained = ae_lab.train(**settings, **{"paths.outputs": outputs})
    command("export", f"run={trained.path}", f"output={tmp_path / 'folder'}")
    [code] = re.findall(
        "```python\n(.*?)```", (tmp_path / "folder" / "README.md").read_text(), re.S
    )
    images = torch.rand(3, *trained.image_shape)
    Image.new("RGB", (70, 50), "teal").save(tmp_path / "photo.jpg")
    Image.new("L", (70, 50), "white").save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    names = {"images": images, "labels": [1, 2, 3], "masks": torch.ones_like(images[:, :1])}
    exec(code, names)
    assert names["images"].shape == images.shape
    assert names.get("photo", Image.new("L", (70, 50))).size == (70, 50)
    assert ("photo" in names) == (settings["model"] == "unet")


def test_the_card_has_an_interval_where_there_are_seeds(model, outputs, command, tmp_path):
    other = ae_lab.train(model="vae", seed=1, **TINY, **{"paths.outputs": outputs})
    command("export", f"run={model.path}", f"output={tmp_path}", "format.license=cc0-1.0")
    card = (tmp_path / "README.md").read_text()
    values = [one.loaded.run.metrics["test/psnr"] for one in (model, other)]
    mean, half = mean_interval(values)
    assert mean == pytest.approx(sum(values) / 2)
    interval = f"{mean:.2f} ± {half:.2f}"
    assert f"| test PSNR (dB) | {values[0]:.2f} | {interval} |" in card
    assert "license: cc0-1.0" in card
    # Student's t of one degree of freedom is 12.7062 at 97.5 %
    assert mean_interval([1.0, 2.0])[1] == pytest.approx(12.7062 * 0.5**0.5 / 2**0.5, rel=1e-4)


def change_config(folder, change):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def set_target(name):
    return lambda folder: change_config(
        folder, lambda config: config["model"]["encoder"].update({"_target_": name})
    )


def pickle_weights(folder):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(folder / "ran"),)

    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil()))


def link_weights(folder):
    outside = folder.parent / "outside.safetensors"
    shutil.move(folder / "model.safetensors", outside)
    (folder / "model.safetensors").symlink_to(outside)


def truncate_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


HOSTILE = {
    "pickle": (pickle_weights, "no safetensors file"),
    "truncated": (truncate_weights, "is damaged"),
    "link": (link_weights, "a link out of its folder"),
    "os.system": (set_target("os.system"), "builds os.system, which is no part of ae_lab"),
    "torch.load": (set_target("torch.load"), "builds torch.load"),
    "through us": (set_target("ae_lab.models.torch.load"), "builds ae_lab.models.torch.load"),
    "no model": (
        lambda f: change_config(
            f, lambda c: c.update(model={"_target_": "ae_lab.data.Corruption", "clip": True})
        ),
        "describes no autoencoder",
    ),
    "a data set": (set_target("ae_lab.data.image_folder"), "which is no part of a model"),
    "a logger": (
        set_target("pytorch_lightning.loggers.WandbLogger"),
        "which is no part of a model",
    ),
    "interpolation": (
        lambda f: change_config(f, lambda c: c["model"].update(seed="${oc.env:HOME}")),
        "has an interpolation",
    ),
    "escaped interpolation": (
        lambda f: (f / "config.yaml").write_text(
            (f / "config.yaml").read_text().replace("seed: 0", 'seed: "\\x24{oc.env:HOME}"', 1)
        ),
        "has an interpolation",
    ),
    "other sizes": (
        lambda f: change_config(f, lambda c: c["model"]["bottleneck"].update(latent=3)),
        "is not of the model",
    ),
    "giant": (
        lambda f: change_config(f, lambda c: c["model"]["bottleneck"].update(latent=10**12)),
        "GB to train, and this machine has",
    ),
    "other keys": (
        lambda f: change_config(f, lambda c: c["model"].update(nope=1)),
        "nope",
    ),
    "no shape": (
        lambda f: change_config(f, lambda c: c["data"].pop("shape")),
        "'shape' is missing",
    ),
    "other format": (lambda f: change_config(f, lambda c: c.update(format=2)), "is of format 2"),
    "no configuration": (lambda f: (f / "config.yaml").unlink(), "config.yaml is missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "is not a run folder"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_damaged_folder_is_refused_in_one_line(name, model, tmp_path):
    folder = tmp_path / "shared"
    write_folder(folder, build("model=vae", "latent=2", "hidden=[16]"), "model=vae", "latent=2")
    change_config(
        folder, lambda c: [c["model"][p].update(hidden=[16]) for p in ("encoder", "decoder")]
    )
    assert ae_lab.load(folder).code_shape == (2,)
    change, part = HOSTILE[name]
    change(folder)
    with pytest.raises(UserError) as refused:
        ae_lab.load(folder)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (folder / "ran").exists()


def run_onnx(onnxruntime, file, **inputs):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return torch.from_numpy(session.run(None, arrays)[0])


def test_onnx_files_are_the_encoder_and_the_decoder(onnxruntime, model, command, images, tmp_path):
    done = command("export", f"run={model.path}", f"output={tmp_path}", "format=onnx")
    assert done.returncode == 0, done.stderr
    for batch in (images, images[:1]):
        codes = run_onnx(onnxruntime, tmp_path / "encoder.onnx", image=batch)
        torch.testing.assert_close(codes, model.encode(batch), atol=1e-4, rtol=1e-4)
        decoded = run_onnx(onnxruntime, tmp_path / "decoder.onnx", code=codes)
        torch.testing.assert_close(decoded, model.decode(codes), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("body", ["mlp", "unet"])
def test_a_graph_takes_the_side(body, onnxruntime, outputs, command, tmp_path):
    unet = {"model.encoder.width": 4, "model.encoder.blocks_per_stage": 1}
    parts = {
        "mlp": {"hidden": [8], "latent": 2},
        "unet": {"model": "unet", "body": "unet", "output": "composite", **unet},
    }
    told = {"noise": "mask", "noise.share": [0.1, 0.9], "model.side": True, "data.limit": 64}
    settings = TINY | {"paths.outputs": outputs} | told | parts[body]
    model = ae_lab.train(**settings)
    done = command("export", f"run={model.path}", f"output={tmp_path}", "format=onnx")
    assert done.returncode == 0, done.stderr
    batch = model.loaded.data.eval_batch("test", 5)
    expected = model.network(batch, draw=False)
    name, values = (
        ("encoder", expected.code) if body == "mlp" else ("autoencoder", expected.reconstruction)
    )
    found = run_onnx(onnxruntime, tmp_path / f"{name}.onnx", image=batch.corrupted, side=batch.side)
    torch.testing.assert_close(found, values.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 2e-3), ("int8", 0.1)])
def test_other_precisions_say_what_they_cost(
    precision, tolerance, onnxruntime, model, command, images, tmp_path
):
    words = ["format=onnx", f"format.precision={precision}"]
    done = command("export", f"run={model.path}", f"output={tmp_path}", *words)
    assert done.returncode == 0, done.stderr
    assert f"{precision} costs " in done.stdout
    decoded = run_onnx(onnxruntime, tmp_path / "decoder.onnx", code=model.encode(images))
    torch.testing.assert_close(decoded, model.reconstruct(images), atol=tolerance, rtol=0)


def test_torch_export_files_are_a_conditional_encoder_and_decoder(outputs, command, tmp_path):
    settings = TINY | {"paths.outputs": outputs, "activation": "gelu", "norm": "batch"}
    model = ae_lab.train(model="cvae", **settings)
    batch = model.loaded.data.eval_batch("test", 5)
    done = command("export", f"run={model.path}", f"output={tmp_path}", "format=torch_export")
    assert done.returncode == 0, done.stderr
    encoder, decoder = (
        torch.export.load(tmp_path / f"{name}.pt2").module() for name in ("encoder", "decoder")
    )
    codes = encoder(batch.clean, batch.label)
    torch.testing.assert_close(codes, model.encode(batch.clean, batch.label))
    expected = model.decode(codes, batch.label)
    torch.testing.assert_close(decoder(codes, batch.label), expected)
    check_page(model, command, tmp_path, batch.label)


def test_a_plane_of_main_directions_is_decoded_in_the_page(outputs, command, tmp_path):
    settings = TINY | {"paths.outputs": outputs, "latent": 3, "activation": "silu", "norm": "layer"}
    check_page(ae_lab.train(model="mlp", **settings), command, tmp_path)


def check_page(model, command, folder, labels=None):
    """The page's own decoder, run by node, against the model's."""
    done = command("export", f"run={model.path}", f"output={folder}", "format=html")
    assert done.returncode == 0, done.stderr
    html = (folder / "explorer.html").read_text()
    assert "http" not in html.replace("http://www.w3.org", "")
    page = json.loads(html.partition('type="application/json">')[2].partition("</script>")[0])
    script = html.partition('<script id="decoder">')[2].partition("</script>")[0]
    if not (node := shutil.which("node")):
        pytest.skip("node is not there to run the page's decoder")
    origin, axes = torch.tensor(page["origin"]), torch.tensor(page["axes"])
    places = torch.tensor(page["places"])[:5]
    codes = origin + places @ axes
    torch.testing.assert_close(axes @ axes.T, torch.eye(2))
    given = codes if labels is None else torch.cat([codes, labels], 1)
    call = (
        f"const decode = buildDecoder({json.dumps(page['decoder'])});"
        f"console.log(JSON.stringify({given.tolist()}.map(code => [...decode(code)])));"
    )
    printed = subprocess.run([node, "-"], input=script + call, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    pixels = torch.tensor(json.loads(printed.stdout))
    expected = model.decode(codes, labels).flatten(1)
    torch.testing.assert_close(pixels, expected, atol=5e-3, rtol=0)


def test_a_decoder_of_convolutions_has_an_atlas(outputs, command, tmp_path):
    settings = TINY | {"paths.outputs": outputs, "body": "cnn", "data.limit": 32}
    model = ae_lab.train(model="mlp", **settings)
    words = ["format=html", "format.directions=[1,0]", "format.n=20"]
    done = command("export", f"run={model.path}", f"output={tmp_path}", *words)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "explorer.html").read_text()
    page = json.loads(html.partition('type="application/json">')[2].partition("</script>")[0])
    assert page["decoder"] is None
    assert page["axes"] == [[0, 1], [1, 0]]
    assert len(page["places"]) == 20
    assert [sheet[:22] for sheet in page["atlas"]["sheets"]] == ["data:image/webp;base64"]


def test_what_has_no_plane_or_no_folder_is_refused_in_one_line(model, command, tmp_path):
    for words, part in (
        (["format=html", "format.directions=[0,2]"], "must lie in 0 ... 1"),
        (["format=html", "format.directions=[0]"], "must be two dimensions of the code"),
        (["format=onnx", "format.precision=int4"], "format.precision=int4 is not known"),
    ):
        done = command("export", f"run={model.path}", f"output={tmp_path / 'x'}", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert part in done.stderr
    assert not (tmp_path / "x").exists()
    refused = command("export", f"run={model.path}", f"output={model.path}")
    assert "is the run's own folder" in refused.stderr
