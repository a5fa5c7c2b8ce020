"""Optimisers and learning-rate schedules, as functions that a configuration completes."""

import math
from collections.abc import Iterable

import torch
from torch.optim.lr_scheduler import LambdaLR

from ae_lab.core.errors import check_float
from ae_lab.training.fast_path import FastAdamW


def adamw(
    parameters: Iterable,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    fast_path: bool = True,
) -> torch.optim.AdamW:
    """AdamW with its update fused into one kernel.

    Source: Loshchilov & Hutter, ICLR 2019.

    Raises:
        UserError: lr is not above 0 and finite, or weight_decay is negative.
    """
    kind = FastAdamW if fast_path else torch.optim.AdamW
    return kind(
        parameters,
        lr=check_float("lr", lr, exclusive=True),
        weight_decay=check_float("weight_decay", weight_decay),
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
    rise = check_float("scheduler.warmup", warmup, high=1.0) * total_steps

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return (1 + math.cos(math.pi * min(1, (step - rise) / max(1e-9, total_steps - rise)))) / 2

    return LambdaLR(optimizer, factor)


def constant(optimizer, total_steps: int) -> LambdaLR:
    """The learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)
