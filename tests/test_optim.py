"""The optimiser is torch's, to the bit."""

import copy

import pytest
import torch

from ae_lab.training.optimizers import adamw


def train(make_optimizer, steps: int, before=lambda step, net, optimizer: None):
    """A small network and its optimiser after some steps; `before` is called before each."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 5))
    optimizer = make_optimizer(net.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=steps)
    for step in range(steps):
        before(step, net, optimizer)
        optimizer.zero_grad()
        images = torch.rand(8, 5)

        def closure(images=images):
            loss = (net(images) - images).square().mean()
            loss.backward()
            return loss

        assert optimizer.step(closure) is not None
        schedule.step()
    return net, optimizer


def our_adamw(parameters):
    return adamw(parameters, lr=1e-2, weight_decay=0.1, betas=(0.8, 0.95))


def torch_adamw(parameters):
    return torch.optim.AdamW(parameters, 1e-2, (0.8, 0.95), weight_decay=0.1, fused=True)


def freeze(step, net, optimizer):
    """A layer that has no gradient for some steps, from the start or later."""
    net[0].requires_grad_(step % 7 > 2)


def restart(step, net, optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.parametrize("before", [lambda *_: None, freeze, restart])
def test_each_step_is_that_of_torch(before):
    net, optimizer = train(our_adamw, 30, before)
    reference, other = train(torch_adamw, 30, before)
    for a, b in zip(net.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a, b)
        assert optimizer.state[a].keys() == other.state[b].keys()
        assert all(
            torch.equal(optimizer.state[a][key], other.state[b][key]) for key in other.state[b]
        )


def test_gradients_become_none_or_zero():
    net, optimizer = train(our_adamw, 2)
    optimizer.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in net.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_hooks_and_the_profiler_notice_a_step():
    _, optimizer = train(our_adamw, 2)
    steps = []
    handle = optimizer.register_step_post_hook(lambda *_: steps.append("step"))
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert steps == ["step"]
    with torch.profiler.profile() as profiler:
        optimizer.step()
    assert any("Optimizer.step#FastAdamW" in event.key for event in profiler.key_averages())


def test_a_scaler_that_found_infinity_skips_the_step():
    """The interface by which torch's GradScaler tells a fused optimiser what it found."""
    net, optimizer = train(our_adamw, 2)
    before = copy.deepcopy(net.state_dict())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(1.0)
    optimizer.step()
    assert all(torch.equal(values, before[name]) for name, values in net.state_dict().items())
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert not any(torch.equal(values, before[name]) for name, values in net.state_dict().items())
