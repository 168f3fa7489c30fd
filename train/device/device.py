"""What a run computes on: the device, the precision of the arithmetic, and torch.compile where it works."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch

from shards.allocator import keep_freed_memory
from shards.errors import UserError

Precision = Literal["auto", "bf16", "float32"]
Compile = bool | Literal["auto"]
Compiler = Callable[[Any], Any]  # a module or function -> the same, only faster


def require_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name (cuda, cpu). Under torchrun each rank takes its own GPU. Raises UserError.

    A process that computes on the CPU keeps the memory that it frees.
    """
    full_float32()
    if name not in ("cuda", "cpu"):
        raise UserError(f"device={name} is unknown: device=cuda or device=cpu")
    if name == "cpu":
        keep_freed_memory()
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("device=cuda, but there is no GPU that PyTorch can use here: say device=cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"rank {local_rank} of this machine has no GPU, there are {torch.cuda.device_count()}: "
            f"torchrun --nproc-per-node {torch.cuda.device_count()}"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def available_device(name: str) -> str:
    """The same for what may run on either: `auto` is cuda where there is a GPU, else cpu. Raises UserError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name not in ("cuda", "cpu"):
        raise UserError(f"device={name} is unknown: device=cuda, device=cpu or device=auto")
    require_device(name)
    return name


def arithmetic(
    device: torch.device, precision: Precision, *, deterministic: bool = False
) -> Callable[[], AbstractContextManager[object]]:
    """What the forward pass runs in: bfloat16 autocast on a GPU, float32 on a CPU or where it is asked for.

    `deterministic` makes a GPU give the same bits each time, more slowly; a CPU does in any case. Raises UserError.
    """
    if device.type == "cpu":
        if precision == "bf16" and not cpu_has_bfloat16():
            raise UserError("precision=bf16, but this CPU has no instructions for bfloat16: leave precision=auto")
        return partial(torch.autocast, "cpu", torch.bfloat16) if precision == "bf16" else nullcontext
    torch.backends.cudnn.benchmark = not deterministic  # one batch shape for the whole run
    torch.use_deterministic_algorithms(deterministic)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    return nullcontext if precision == "float32" else partial(torch.autocast, device.type, torch.bfloat16)


def cpu_has_bfloat16() -> bool:
    # Not every torch of our range can tell.
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def full_float32() -> None:
    """On a GPU float32 is float32: TF32, which convolutions take unasked, has 10 bits of mantissa where it has 23.

    Set by the older names: those and the newer ones can all be read afterwards, which is not so the other way round.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def compiler(choice: Compile, device: torch.device) -> Compiler:
    """What to compile networks and losses with: torch.compile for one fixed shape, or nothing.

    `auto` tries a small function first and says in one line why it stays eager. Raises UserError where the
    compiler was asked for and does not work.
    """
    if choice is False:
        return lambda function: function
    if device.type == "cpu":  # its search for a CUDA toolkit is of no interest then
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch.compiler.reset()  # a sweep's jobs share a process; another job's graphs would count against the limit
    try:
        torch.compile(lambda value: value * 2 + 1, dynamic=False)(torch.ones(8, device=device))
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if not line.endswith("raised:")]  # of torch's own wrapping
        reason = next(iter(lines), type(error).__name__)
        if choice is True:
            raise UserError(f"compile=true, but the compiler does not work: {reason}") from None
        print(f"training without torch.compile, it does not work here: {reason}", file=sys.stderr)
        return lambda function: function
    return partial(torch.compile, dynamic=False)
