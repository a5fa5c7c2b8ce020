"""What makes steps on a CPU cheaper, and changes no bit of a result: `fast_path=true`.

All that is here for speed alone, private names of torch included, is in this file. It gains more
than 2 % of a small network's step; tests/README.md has the table, and what gained less and went.
On other devices torch's own path is taken: there it could not be tested.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


class FastAdamW(torch.optim.AdamW):
    """torch's AdamW, to the bit, by its fused kernel and without its checks at every step.

    torch asks at every step whether an accelerator is capturing a graph, which opens a driver each
    time where there is none, and notes every step and `zero_grad` for its profiler, whether that
    runs or not.
    """

    @staticmethod
    def profile_hook_step(step: Callable) -> Callable:
        """What torch wraps `step` in: here only where a hook or its profiler would know of it."""
        recorded = torch.optim.AdamW.profile_hook_step(step)

        @functools.wraps(step)
        def wrapped(self, *args, **kwargs):
            hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
            is_observed = hooks or torch.autograd.profiler._is_profiler_enabled
            return (recorded if is_observed else step)(self, *args, **kwargs)

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
        on_cpu = all(p.device.type == "cpu" for part in trained for p, _ in part)
        scaled = getattr(self, "found_inf", None) is not None  # by 16-bit training
        if scaled or not on_cpu or not all(state for part in trained for _, state in part):
            super().step()  # which makes the state
            return loss
        with torch.no_grad():
            for group, part in zip(self.param_groups, trained, strict=True):
                update_fused(group, part)
        return loss


def update_fused(group: dict, trained: list[tuple[Tensor, dict[str, Tensor]]]) -> None:
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
