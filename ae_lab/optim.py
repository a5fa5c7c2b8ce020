"""Optimiser and learning-rate schedules, as functions that a configuration completes."""

import functools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ae_lab.errors import real


class AdamW(torch.optim.AdamW):
    """torch's AdamW, to the bit, by its fused kernel and without its checks at every step.

    torch asks at every step whether an accelerator is capturing a graph, which opens a driver each
    time where there is none, and notes every step and `zero_grad` for its profiler, whether that
    runs or not: together a tenth of a small network's step on a CPU.

    Source: Loshchilov & Hutter, ICLR 2019.
    """

    @staticmethod
    def profile_hook_step(step: Callable) -> Callable:
        """What torch wraps `step` in: here only where a hook or its profiler would know of it."""
        noted = torch.optim.AdamW.profile_hook_step(step)

        @functools.wraps(step)
        def wrapped(self, *args, **kwargs):
            hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
            heard = hooks or torch.autograd.profiler._is_profiler_enabled
            return (noted if heard else step)(self, *args, **kwargs)

        return wrapped

    def zero_grad(self, set_to_none: bool = True) -> None:
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        trained = [
            [(p, self.state[p]) for p in group["params"] if p.grad is not None]
            for group in self.param_groups
        ]
        scaled = getattr(self, "found_inf", None) is not None  # by 16-bit training on a GPU
        if scaled or not all(state for part in trained for _, state in part):
            super().step()  # which makes the state
            return loss
        with torch.no_grad():
            for group, part in zip(self.param_groups, trained, strict=True):
                update(group, part)
        return loss


def update(group: dict, trained: list[tuple[Tensor, dict[str, Tensor]]]) -> None:
    """One step of parameters of one device and type, with gradients and with states."""
    if not trained:
        return
    states = [state for _, state in trained]
    steps = [state["step"] for state in states]
    torch._foreach_add_(steps, torch.ones(()), alpha=1)  # a plain 1 would be made for each anew
    torch._fused_adamw_(
        [parameter for parameter, _ in trained],
        [parameter.grad for parameter, _ in trained],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def adamw(
    parameters: Iterable, lr: float, weight_decay: float, betas: tuple[float, float]
) -> AdamW:
    """AdamW with its update fused into one kernel.

    Raises:
        UserError: lr is not above 0 and finite, or weight_decay is negative.
    """
    return AdamW(
        parameters,
        lr=real("lr", lr, above=True),
        weight_decay=real("weight_decay", weight_decay),
        betas=tuple(betas),
        fused=True,
    )


def warmup_cosine(optimizer, total_steps: int, warmup: float) -> LambdaLR:
    """Up linearly over the first share `warmup` of all steps, then down to 0 along half a cosine.

    With w = warmup·T of T steps, step s has lr·(s + 1)/(w + 1) while s < w, and
    lr·½(1 + cos(π(s - w)/(T - w))) after.

    Source: Loshchilov & Hutter, ICLR 2017 (the cosine); Goyal et al., 2017 (the warm-up).

    Raises:
        UserError: warmup is not between 0 and 1.
    """
    rise = real("scheduler.warmup", warmup, high=1.0) * total_steps

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return (1 + math.cos(math.pi * min(1, (step - rise) / max(1e-9, total_steps - rise)))) / 2

    return LambdaLR(optimizer, factor)


def constant(optimizer, total_steps: int) -> LambdaLR:
    """The learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)
