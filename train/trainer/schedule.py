"""The learning rate, step by step."""

from __future__ import annotations

import math


def learning_rate(step: int, *, lr: float, steps: int, warmup: int, cosine: bool) -> float:
    """After `step` steps: lr (step + 1) / warmup at first; then lr, or lr (1 + cos(pi progress)) / 2 down to 0.

    The paper keeps it constant (section 3.4); the cosine is of Loshchilov and Hutter (2017), equation 5, one cycle.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return lr * (1 + math.cos(math.pi * progress)) / 2 if cosine else lr
