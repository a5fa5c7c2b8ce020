"""Layers that learn one after the other: what moves when, errors by hand, schedules, kills."""

from typing import ClassVar

import pytest
import pytorch_lightning as pl
import torch

from ae_lab.core.errors import UserError, root_cause
from ae_lab.core.randomness import generator
from ae_lab.data import Batch
from tests.building import build
from tests.steps import SMALL, check_kills, train_in_child

TINY = ["model=stacked", "hidden=[12,8]", "latent=3"]
RUN = [*TINY, "data.limit=80", "batch_size=16", "epochs=4", "trainer.precision=32-true"]
# What belongs to each phase of TINY with norm=batch, by the beginnings of names.
LAYERS = [
    ("encoder.layers.0.", "encoder.layers.1.", "decoder.to_pixels."),
    ("encoder.layers.3.", "encoder.layers.4.", "decoder.layers.3.", "decoder.layers.4."),
    ("bottleneck.", "decoder.layers.0.", "decoder.layers.1."),
    ("encoder.", "bottleneck.", "decoder."),
]


def batch_of(n: int) -> Batch:
    rng = torch.Generator().manual_seed(0)
    clean, corrupted = torch.rand(2, n, 1, 28, 28, generator=rng)
    return Batch(clean, corrupted, torch.eye(10)[torch.arange(n) % 10], torch.arange(n))


class Moves(pl.Callback):
    """The names of what each step changes, the learning rate, and the steps of each weight."""

    changes: ClassVar[list[set[str]]] = []
    rates: ClassVar[list[float]] = []
    steps: ClassVar[dict[str, int]] = {}

    def on_train_start(self, trainer, module) -> None:
        self.before = {k: v.clone() for k, v in module.state_dict().items()}
        for records in (self.changes, self.rates, self.steps):
            records.clear()

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if not module.is_last_of_update(batch_idx):
            return
        after = {k: v.clone() for k, v in module.state_dict().items()}
        self.changes.append({k for k in after if not torch.equal(after[k], self.before[k])})
        self.before = after
        state = trainer.optimizers[0].state
        self.steps |= {k: int(state[p]["step"]) for k, p in module.named_parameters() if p in state}


CALLBACK = "+callbacks.moves._target_=tests.test_stacked.Moves"


@pytest.mark.parametrize(
    ("words", "phases"),
    [
        (["weight_decay=0.5", "model.pretrain=0.6", "conditional=true"], [4, 4, 4, 8]),
        (["+trainer.accumulate_grad_batches=2", "condition_encoder=true"], [2, 2, 2, 6]),
        (["+trainer.max_steps=13", "noise=gaussian"], [2, 2, 2, 7]),
    ],
    ids=["decay", "accumulation", "max_steps"],
)
def test_each_phase_moves_its_layer_alone_and_phases_make_up_all_steps(words, phases, run):
    run(*RUN, "norm=batch", "scheduler=constant", "gradient_clip=1", CALLBACK, *words)
    expected = [layer for layer, count in enumerate(phases) for _ in range(count)]
    assert len(Moves.changes) == len(expected)
    for changed, layer in zip(Moves.changes, expected, strict=True):
        assert changed
        assert all(name.startswith(LAYERS[layer]) for name in changed)
        assert all(any(name.startswith(part) for name in changed) for part in LAYERS[layer])
    for name, count in Moves.steps.items():  # the optimiser's moments move with the weights
        layer = next(n for n, parts in enumerate(LAYERS) if name.startswith(parts))
        assert count == phases[layer] + phases[-1]


def test_the_learning_rate_begins_anew_in_each_phase(run):
    run(*RUN, "model.pretrain=0.6", "lr=0.1", "scheduler.warmup=0.5", CALLBACK)
    layer = [0.1 / 3, 0.2 / 3, 0.1, 0.05]  # up over two of four steps, down along half a cosine
    assert Moves.rates[:12] == pytest.approx(3 * layer)
    assert Moves.rates[12:16] == pytest.approx([0.02, 0.04, 0.06, 0.08])


def restore(model, layer: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer makes of its input and its decoder of that, written out for sigmoids."""
    encoder, decoder = (
        [part for part in half.modules() if isinstance(part, torch.nn.Linear)]
        for half in (model.encoder, model.decoder)
    )
    hidden = [*encoder, model.bottleneck.head][layer](x)
    hidden = hidden if layer == 2 else hidden.sigmoid()
    return hidden, decoder[2 - layer](hidden).sigmoid()


@pytest.mark.parametrize("kind", ["stacked", "stacked_denoising"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_error_of_a_layer_is_that_written_out(kind, layer):
    model = build(*TINY, f"model={kind}", "activation=sigmoid", "dropout=0.5", "seed=5")
    model.pretrain_updates, model.num_updates, model.steps = 9, 3 * layer, 7
    batch = batch_of(4)
    clean, corrupted = batch.clean.flatten(1), batch.corrupted.flatten(1)
    for below in range(layer):
        clean, corrupted = restore(model, below, clean)[0], restore(model, below, corrupted)[0]
    if kind == "stacked_denoising":
        u = torch.rand(corrupted.shape, generator=generator(5, "layer", 7, 0))
        corrupted = corrupted * (u >= 0.25)
    expected = (restore(model, layer, corrupted)[1] - clean).square().sum() / 4
    losses = model.compute_losses(batch)
    assert losses.keys() == {"loss", f"layer_{layer + 1}"}
    for value in losses.values():
        torch.testing.assert_close(value, expected)


def test_the_error_of_each_layer_falls_in_its_phase(run):
    words = ["data.limit=400", "epochs=12", "activation=sigmoid", "lr=0.01", "model.pretrain=0.75"]
    history = run(*RUN, *words).history
    for layer in (1, 2, 3):
        errors = [row.get(f"train/layer_{layer}") for row in history]
        place = 3 * (layer - 1)
        assert errors[:place] + errors[place + 3 :] == [None] * 9
        assert errors[place] > errors[place + 1] > errors[place + 2]
        assert [row["train/loss"] for row in history[place : place + 3]] == pytest.approx(
            errors[place : place + 3]
        )
    assert history[-1]["train/loss"] == history[-1]["train/reconstruction"]
    assert history[-1]["val/mse"] < 0.8 * history[0]["val/mse"]


def test_an_epoch_with_a_border_has_the_means_of_both_sides(run):
    history = run(*RUN, "epochs=1", "model.pretrain=1", "scheduler=constant").history
    [row] = history  # 5 steps: phases begin at 0, 2 and 3
    sums = 2 * row["train/layer_1"] + row["train/layer_2"] + 2 * row["train/layer_3"]
    assert row["train/loss"] == pytest.approx(sums / 5)


def test_without_pretraining_it_is_the_plain_model(run):
    stacked, plain = run(*RUN, "model.pretrain=0"), run(*RUN, "model=mlp")
    one, two = (torch.load(r.last, weights_only=True)["state_dict"] for r in (stacked, plain))
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert stacked.path != plain.path


def test_settings_of_pretraining_are_part_of_a_runs_identity(run):
    words = ["data.limit=32", "epochs=1"]
    masked = "noise@model.corruption=mask"
    others = [[], ["model.pretrain=0.25"], [masked], [masked, "model.corruption.share=0.5"]]
    assert len({run(*RUN, *words, *other).path for other in others}) == 4


def test_a_run_that_is_killed_at_the_border_of_a_phase_ends_the_same(tmp_path):
    # Pre-training has 32 of 36 steps, and its second phase begins at 16.
    words = [*SMALL, "model=stacked_denoising", "model.pretrain=0.89"]
    code, undisturbed = train_in_child(words, tmp_path / "undisturbed", None)
    assert code == 0
    phases = ["training", "accumulation"]  # with 14 and with 16 steps done
    assert list(check_kills(words, undisturbed, tmp_path, phases)) == phases


def test_a_run_that_extends_another_pre_trains_no_more(run, command, tmp_path):
    first = run(*RUN)
    extended = command("train", f"extend={first.path}", "epochs=8")
    assert extended.returncode == 0, extended.stderr
    [path] = {path.parent for path in tmp_path.glob("outputs/runs/*/history.csv")} - {first.path}
    rows = type(first)(path).history
    assert len(rows) == 8
    assert not any("layer" in name for row in rows[3:] for name, value in row.items() if value)


def test_early_stopping_waits_until_all_layers_learn(run):
    words = ["early_stopping=1", "lr=1e-9", "epochs=8"]  # nothing gets better, all learn from 20 on
    assert [row["step"] for row in run(*RUN, *words).history] == [5, 10, 15, 20, 25]


def test_other_parts_and_settings(run):
    words = ["objective=elbo", "bottleneck=gaussian", "callbacks=ema", "norm=layer"]
    done = run(*RUN, "model=stacked_denoising", *words, "trainer.precision=bf16-mixed")
    assert done.metrics["test/mse"] < 0.3


REFUSALS = {
    ("body=cnn",): "trains dense layers one by one: take body=mlp",
    ("model.decoder.hidden=[12]",): r"has layers of \[12, 8\] units, the decoder of \[12\]",
    ("model.pretrain=1.5",): "model.pretrain must be a finite number >= 0 and <= 1",
    ("noise@model.corruption=mask", "model.corruption.share=2"): "share must be a finite",
    ("model.side=true",): r"leave out model\.side=true",
}


@pytest.mark.parametrize("words", REFUSALS, ids=" ".join)
def test_what_does_not_fit_is_refused(words):
    with pytest.raises(Exception, match=REFUSALS[words]) as refused:
        build(*TINY, *words)
    assert isinstance(root_cause(refused.value), UserError)
