"""Convolutional families: any size and colour, what bypasses the code, what that rules out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_lab.core.errors import UserError, root_cause
from ae_lab.data import Batch
from ae_lab.inference import load_run
from ae_lab.models import PSNRLoss
from ae_lab.models.networks.unet import SelfAttention
from tests.building import build

FAMILIES = ("cnn", "cnn_unpool", "cnn_skip", "unet")


def batch_of(n: int, shape=(1, 28, 28), classes: int = 10) -> Batch:
    rng = torch.Generator().manual_seed(0)
    clean, corrupted = torch.rand(2, n, *shape, generator=rng)
    label = torch.eye(classes)[torch.arange(n) % classes]
    return Batch(clean, corrupted, label, torch.arange(n))


@settings(deadline=None, max_examples=20)
@given(
    family=st.sampled_from(FAMILIES),
    channels=st.sampled_from([1, 3]),
    height=st.integers(9, 40),
    width=st.integers(9, 40),
    depth=st.integers(1, 3),
    latent=st.sampled_from([4, 6]),
    activation=st.sampled_from(["relu", "tanh", "gelu"]),
    conditional=st.booleans(),
)
def test_any_size_is_reconstructed_and_every_weight_learns(
    family, channels, height, width, depth, latent, activation, conditional
):
    shape = (channels, height, width)
    model = build(
        f"model={family}",
        f"data.shape={list(shape)}",
        f"depth={depth}",
        f"latent={latent}",
        f"activation={activation}",
        f"conditional={conditional}",
    )
    batch = batch_of(3, shape)
    out = model(batch)
    assert out.reconstruction.shape == batch.clean.shape
    assert out.code.shape[1] == latent
    if family == "unet":  # zero at the start: let gradients through
        torch.nn.init.normal_(model.decoder.to_pixels.weight)
        out = model(batch)
    loss, _ = model.objective(out, model)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_stated_layers():
    """64×64 → 8×8 in three stages, as each family's description has it."""
    shape = "data.shape=[3,64,64]"
    out = build("model=cnn", "latent=16", shape)(batch_of(2, (3, 64, 64)))
    assert (out.code.shape, out.num_decoder_inputs) == ((2, 16), 16)
    out = build("model=cnn_unpool", shape)(batch_of(2, (3, 64, 64)))
    indices = 32 * 32 * 32 + 64 * 16 * 16 + 64 * 8 * 8
    assert (out.code.shape, out.num_decoder_inputs) == ((2, 64, 8, 8), 64 * 8 * 8 + indices)
    out = build("model=cnn_skip", shape)(batch_of(2, (3, 64, 64)))
    skips = 32 * 32 * 32 + 64 * 16 * 16
    assert (out.code.shape, out.num_decoder_inputs) == ((2, 128, 8, 8), 128 * 8 * 8 + skips)


@pytest.mark.parametrize("family", ["cnn_unpool", "cnn_skip", "unet"])
def test_what_bypasses_the_code_reaches_the_decoder(family):
    model = build(f"model={family}").eval()
    if family == "unet":
        torch.nn.init.normal_(model.decoder.to_pixels.weight)
    batch = batch_of(2)
    code, _, bypass = model.encode(batch.corrupted, batch.label)
    other = tuple(part.flip(0) for part in bypass)
    assert not torch.equal(
        model.decode(code, batch.label, bypass), model.decode(code, batch.label, other)
    )


def test_a_unet_starts_by_changing_nothing_and_attention_too():
    batch = batch_of(2)
    assert torch.equal(build("model=unet")(batch).reconstruction, batch.corrupted)
    x = torch.rand(2, 8, 5, 7)
    assert torch.equal(SelfAttention(8)(x), x)


def test_attention_does_not_depend_on_the_order_of_places():
    torch.manual_seed(0)
    attention = SelfAttention(8)
    torch.nn.init.normal_(attention.out.weight)
    x = torch.rand(1, 8, 4, 4)
    order = torch.randperm(16)

    def permute(y):
        return y.flatten(2)[:, :, order].unflatten(2, (4, 4))

    torch.testing.assert_close(attention(permute(x)), permute(attention(x)))


@pytest.mark.parametrize("family", ["cnn_unpool", "cnn_skip", "unet"])
def test_a_model_that_needs_more_than_a_code_refuses_to_generate(family, run):
    loaded = load_run(run(f"model={family}", "data.limit=32"))
    with pytest.raises(UserError, match="cannot generate"):
        loaded.sample_codes(2, None, None, seed=0)


def test_the_psnr_loss_is_minus_the_mean_psnr():
    model = build("model=unet")
    out = model(batch_of(3))
    error = (out.corrupted - out.clean).double().square().flatten(1).mean(1)
    expected = -float((-10 * error.log10()).mean())
    assert float(PSNRLoss()(out, model)) == pytest.approx(expected, abs=1e-4)


def test_gradients_are_clipped_at_any_precision(run):
    for precision in ("32-true", "bf16-mixed"):
        clipped = run("gradient_clip=1e-9", "lr=1e-9", f"trainer.precision={precision}")
        assert clipped.done


def test_only_codes_that_are_vectors_go_to_the_projector(run):
    vector, maps = (run(f"model={family}", "data.limit=32") for family in ("cnn", "cnn_skip"))
    assert list(vector.path.rglob("tensors.tsv"))
    assert not list(maps.path.rglob("tensors.tsv"))


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (
            ["model=cnn", "model.decoder.up=unpool"],
            "the encoder provides nothing, the decoder requires indices",
        ),
        (
            ["model=cnn_skip", "model.decoder.skips=false"],
            "the encoder provides skips, the decoder requires nothing",
        ),
        (["model=cnn_unpool", "model.encoder.skips=true"], "does not go with"),
        (["model=cnn", "hidden=[]"], "has no width"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_training(overrides, hint):
    with pytest.raises(Exception, match=hint) as refused:
        build(*overrides)
    assert isinstance(root_cause(refused.value), UserError)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("latent", [4, 64])
def test_training_starts_where_a_tanh_has_a_gradient(family, latent):
    models = [build(f"model={family}", f"latent={latent}", f"seed={seed}") for seed in range(5)]
    raw = torch.cat([model(batch_of(16)).raw for model in models])
    assert (raw.abs() > 3).float().mean() < 0.001  # tanh' is .01 there
    assert raw.std() < 1
