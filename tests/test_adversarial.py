"""Critics and what learns from them: gradients, closed forms, counters, kills, precisions."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from ae_lab.core import configuration
from ae_lab.core.errors import UserError, root_cause
from ae_lab.core.randomness import reseed
from ae_lab.data import Batch
from ae_lab.data.loaders import TrainLoader
from ae_lab.data.module import load_data
from ae_lab.models import Critic, MLPEncoder
from ae_lab.models.critics import cross_entropy, permute_dimensions
from ae_lab.training.dry_run import check_model
from ae_lab.training.trainer import check_steps
from tests import steps
from tests.building import build, small_family
from tests.steps import check_kills, train_in_child

FAMILIES = ["aae", "vaegan", "factorvae"]
TINY = ["hidden=[16]", "latent=3", "model.critic.network.hidden=[8]"]
SMALL = [*TINY, "data.limit=64", "batch_size=16", "epochs=2", "trainer.precision=32-true"]


def batch_of(n: int) -> Batch:
    clean = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return Batch(clean, clean, torch.eye(10)[torch.arange(n) % 10], torch.arange(n))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_neither_loss_has_a_gradient_in_the_others_weights(family, body):
    model = build(f"model={family}", f"body={body}", *TINY, "norm=none")
    torch.manual_seed(0)
    losses = model.compute_losses(batch_of(6))
    own = {n: p for n, p in model.named_parameters() if not n.startswith("critic.")}
    critic = dict(model.critic.named_parameters())

    def reached(loss: torch.Tensor, weights: dict) -> set[str]:
        gradients = torch.autograd.grad(
            loss, list(weights.values()), retain_graph=True, allow_unused=True
        )
        return {n for n, g in zip(weights, gradients, strict=True) if g is not None}

    assert reached(losses["loss"], own) == set(own)
    assert not reached(losses["loss"], critic)
    assert reached(losses["critic"], critic) == set(critic)
    assert not reached(losses["critic"], own)


def test_what_learns_from_a_critic_of_images_is_the_decoder():
    model = build("model=vaegan", *TINY)
    loss = model.objective.terms["generator"](model(batch_of(6)), model)
    loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.decoder.parameters())


class Steps(pl.Callback):
    """Which weights each step of an optimiser moves."""

    moved: list[tuple[int, set[str]]]

    def on_fit_start(self, trainer, module) -> None:
        Steps.moved = []
        for number, optimizer in enumerate(trainer.optimizers):
            before: dict[str, torch.Tensor] = {}

            def note(optimizer, args, kwargs, before=before) -> None:
                before.update({n: p.detach().clone() for n, p in module.named_parameters()})

            def compare(optimizer, args, kwargs, number=number, before=before) -> None:
                moved = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
                Steps.moved.append((number, moved))

            optimizer.register_step_pre_hook(note)
            optimizer.register_step_post_hook(compare)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_each_optimiser_moves_its_own_weights_alone(family, run):
    done = run(f"model={family}", *SMALL, "+callbacks.s._target_=tests.test_adversarial.Steps")
    names = set(torch.load(done.best, weights_only=True)["state_dict"])
    critic = {name for name in names if name.startswith("critic.")}
    assert [number for number, _ in Steps.moved] == [1, 0] * 8
    for number, moved in Steps.moved:
        assert moved == (critic if number else moved - critic)
        assert moved
    assert done.history[-1]["step"] == 8


def test_permutations_keep_each_dimension_and_break_what_binds_them():
    torch.manual_seed(0)
    codes = torch.randn(5000, 1).expand(-1, 3) * torch.tensor([1.0, 2.0, -3.0])
    permuted = permute_dimensions(codes)
    assert torch.equal(permuted.sort(0).values, codes.sort(0).values)
    assert (permuted.T.corrcoef() - torch.eye(3)).abs().max() < 0.05
    assert not torch.equal(permute_dimensions(codes), permuted)


def train_critic(real, fake, steps: int = 1500) -> Critic:
    """A critic of two samplers of (n, 2)."""
    torch.manual_seed(0)
    critic = Critic((2,), lambda shape: MLPEncoder(shape, hidden=[32, 32]))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = cross_entropy(critic(real(512))[0], 1.0) + cross_entropy(critic(fake(512))[0], 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return critic


def test_a_critic_estimates_total_correlation():
    """0 where dimensions are independent; -½ log(1 - ρ²) of two Gaussians of correlation ρ."""
    rho = 0.8
    bound = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
    free = MultivariateNormal(torch.zeros(2), torch.eye(2))
    for codes, expected in [(bound, -0.5 * math.log(1 - rho**2)), (free, 0.0)]:
        critic = train_critic(
            lambda n, c=codes: c.sample((n,)), lambda n, c=codes: permute_dimensions(c.sample((n,)))
        )
        with torch.no_grad():
            estimate = critic(codes.sample((20_000,)))[0].mean()
        assert float(estimate) == pytest.approx(expected, abs=0.04)


def test_a_critic_of_equal_distributions_loses_two_bits_in_nats():
    critic = train_critic(lambda n: torch.randn(n, 2), lambda n: torch.randn(n, 2), steps=300)
    with torch.no_grad():
        real, fake = (critic(torch.randn(20_000, 2))[0] for _ in range(2))
    loss = cross_entropy(real, 1.0) + cross_entropy(fake, 0.0)
    assert float(loss) == pytest.approx(2 * math.log(2), abs=0.01)


def test_the_best_critic_is_the_log_ratio_of_densities():
    """Its loss at the optimum is 2·log 2 - 2·JS, and the mean of D over real KL(real ‖ fake)."""
    real, fake = Normal(torch.zeros(2), 1.0), Normal(torch.tensor([1.0, 0.0]), 1.0)
    critic = train_critic(lambda n: real.sample((n,)), lambda n: fake.sample((n,)))
    with torch.no_grad():
        logits = critic(real.sample((20_000,)))[0]
    assert float(logits.mean()) == pytest.approx(float(kl_divergence(real, fake).sum()), abs=0.06)


WORDS = [
    ["body=cnn", "noise=gaussian", "conditional=true", "model.critic.network.hidden=[8]"],
    ["trainer.precision=bf16-mixed", "condition_encoder=true", "noise=salt_pepper"],
    ["callbacks=ema", "callbacks.ema.decay=0.9", "early_stopping=1", "compile=false"],
]


@pytest.mark.parametrize("words", WORDS, ids=["cnn", "bf16", "ema"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_trains_with_other_parts(family, words, run):
    done = run(f"model={family}", *SMALL[:-1], *words)
    assert math.isfinite(done.metrics["test/loss"])
    assert done.metrics["test/mse"] < 0.3
    assert math.isfinite(done.history[-1]["train/critic"])


def test_a_run_that_accumulates_and_is_killed_ends_the_same(tmp_path):
    words = [*steps.SMALL, *small_family("factorvae"), "gradient_clip=1", "objective.kl.warmup=0.6"]
    words += ["+trainer.accumulate_grad_batches=4"]
    code, undisturbed = train_in_child(words, tmp_path / "undisturbed", None)
    assert code == 0
    phases = ["training", "validation"]
    assert list(check_kills(words, undisturbed, tmp_path, phases)) == phases


@pytest.mark.parametrize(("family", "accumulation"), [("aae", 1), ("factorvae", 3)])
def test_two_optimisers_step_as_in_a_loop_by_hand(family, accumulation, run):
    """With clipping, accumulation over an odd number of batches, two rates and a schedule."""
    words = [f"model={family}", *SMALL, "data.limit=112", "gradient_clip=0.5", "lr=0.01"]
    words += ["model.critic_optimizer.lr=0.003", f"+trainer.accumulate_grad_batches={accumulation}"]
    done = run(*words)
    config = configuration.compose(["data=mnist5k", *words])
    data, model = load_data(config), build(*words)
    own = [p for n, p in model.named_parameters() if not n.startswith("critic.")]
    groups = [(own, 0.01, (0.9, 0.999)), (list(model.critic.parameters()), 0.003, (0.5, 0.9))]
    optimizers = [torch.optim.AdamW(p, lr, b, weight_decay=0.01) for p, lr, b in groups]
    model.total_updates = 2 * math.ceil(7 / accumulation)
    schedulers = [model.make_scheduler(o, total_steps=model.total_updates) for o in optimizers]
    position, rows = 0, []
    for epoch in range(2):
        loader = TrainLoader(
            data.split("train"), data.noise, 16, 0, position=lambda epoch=epoch: (epoch, 0)
        )
        means: dict[str, float] = {"train/loss": 0.0, "train/critic": 0.0}
        for number, batch in enumerate(loader, start=1):
            reseed(torch.device("cpu"), 0, "step", position, 0)
            losses = model.compute_losses(batch)
            for (weights, *_), name in zip(groups, ("loss", "critic"), strict=True):
                gradients = torch.autograd.grad(losses[name], weights, retain_graph=True)
                for weight, gradient in zip(weights, gradients, strict=True):
                    nothing = torch.zeros_like(weight)
                    weight.grad = (nothing if weight.grad is None else weight.grad) + (
                        gradient / accumulation
                    )
                means[f"train/{name}"] += losses[name].item() / 7
            position += 1
            if number % accumulation and number < 7:
                continue
            for (weights, *_), optimizer in zip(groups, optimizers, strict=True):
                torch.nn.utils.clip_grad_norm_(weights, 0.5)
                optimizer.step()
                optimizer.zero_grad()
            for scheduler in schedulers:
                scheduler.step()
            model.num_updates += 1
        rows.append(means | {"step": model.num_updates, "lr": schedulers[0].get_last_lr()[0]})
    for actual, row in zip(done.history, rows, strict=True):
        assert {name: actual[name] for name in row} == pytest.approx(row, rel=1e-4, abs=1e-7)
    last = torch.load(done.last, weights_only=True)
    assert (last["global_step"], last["progress"]["steps"]) == (model.num_updates, 14)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(last["state_dict"][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("by", ["norm", "value"])
def test_gradients_of_both_are_clipped(by, run):
    Norms.seen = {}
    run(
        *("model=factorvae", *SMALL, "gradient_clip=1e-4"),
        f"+trainer.gradient_clip_algorithm={by}",
        "+callbacks.norms._target_=tests.test_adversarial.Norms",
    )
    assert set(Norms.seen) == {0, 1}
    for largest, norm in Norms.seen.values():
        assert (largest if by == "value" else norm) == pytest.approx(1e-4, rel=1e-3)


class Norms(pl.Callback):
    """The largest gradient, and the norm of all, at the last step of each optimiser."""

    seen: dict[int, tuple[float, float]]

    def on_fit_start(self, trainer, module) -> None:
        for number, optimizer in enumerate(trainer.optimizers):

            def note(optimizer, args, kwargs, number=number) -> None:
                group = optimizer.param_groups[0]["params"]
                every = torch.cat([p.grad.flatten() for p in group])
                Norms.seen[number] = float(every.abs().max()), float(every.norm())

            optimizer.register_step_pre_hook(note)


def test_max_steps_and_validation_within_epochs(run):
    words = ["model=aae", *SMALL, "+trainer.max_steps=5", "+trainer.val_check_interval=0.5"]
    done = run(*words, "trainer.log_every_n_steps=2")
    assert [row["step"] for row in done.history] == [4, 5]
    assert torch.load(done.last, weights_only=True)["global_step"] == 5


def test_what_cannot_be_done_with_two_optimisers_is_refused(run, tmp_path):
    callback = "+callbacks.g._target_=pytorch_lightning.callbacks.GradientAccumulationScheduler"
    with pytest.raises(UserError, match="GradientAccumulationScheduler does not go with a critic"):
        run("model=aae", *SMALL, callback, "+callbacks.g.scheduling={0:2}")
    assert not list(tmp_path.glob("outputs/runs/*"))
    sharded = SimpleNamespace(strategy=FSDPStrategy(), callbacks=[])
    with pytest.raises(UserError, match="FSDPStrategy does not train a critic"):
        check_steps(sharded, build("model=aae", *TINY))


REFUSALS = {
    ("model=mlp", "objective=aae"): "needs a model with a critic: take model=aae",
    ("model=aae", "objective=mse"): "no term of the objective learns from the critic",
    ("model=aae", "objective=factorvae"): "the objective requires kl of the bottleneck",
    ("model=vaegan", "objective=factorvae"): "learns from a PermutationCritic",
    ("model=aae", "model.bottleneck.has_prior=false"): "compares with draws of a prior",
    ("model=vaegan", "output=residual"): "a critic needs a decoder that gets a code of one vector",
    ("model=aae", "body=cnn_skip"): "a critic needs a decoder that gets a code of one vector",
    ("model=aae", "model.critic_optimizer.lr=0"): "lr must be a finite number > 0",
    ("model=aae", "model.critic.network.hidden=[0]"): "hidden must be an integer >= 1",
}


@pytest.mark.parametrize("words", REFUSALS, ids=" ".join)
def test_what_does_not_fit_is_refused(words):
    with pytest.raises(Exception, match=REFUSALS[words]) as refused:
        build(*words)
    assert isinstance(root_cause(refused.value), UserError)


def test_a_mistyped_part_is_refused_by_its_name(run):
    with pytest.raises(UserError, match=r"model has no 'model.seeds': did you mean 'seed'"):
        run("model=aae", "+model.seeds=1")


def test_a_dry_run_looks_at_the_critic():
    words = ["model=vaegan", "+model.critic.network.down=pool", "+model.critic.network.skips=true"]
    with pytest.raises(UserError, match="does not go with max-pooling"):
        check_model(configuration.compose(["data=mnist5k", *words]))


def test_codes_of_an_aae_come_from_its_prior():
    model = build("model=aae", *TINY)
    codes = model.bottleneck.sample(torch.zeros(5000, 10), torch.Generator().manual_seed(0))
    torch.testing.assert_close(codes.T.cov(), torch.eye(3), atol=0.08, rtol=0)
