"""The arithmetic that the teachers label in: float32 or bfloat16, which halves time and memory where it is native."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from shards.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]


def fastest_precision(device: str) -> str:
    """What `auto` chooses: bfloat16 where the device computes it natively, else float32."""
    kind = torch.device(device).type
    native = (kind == "cuda" and cuda_has_bfloat16()) or (kind == "cpu" and cpu_has_bfloat16())
    return "bfloat16" if native else "float32"


def require_precision(precision: str, device: str) -> None:
    """Raise UserError where torch has no bfloat16 for the device. A CPU without the instructions has it, slowly."""
    if precision == "float32":
        return
    try:
        picture = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16, device=device)
        torch.nn.functional.conv2d(picture, picture)
    except (RuntimeError, TypeError) as error:  # CUDA and CPU raise the first, MPS the second
        message = str(error).strip().partition("\n")[0]
        raise UserError(
            f"device={device} of this machine cannot compute in {precision}, the precision of these labels ({message}):"
            " use another device or machine, or label with precision=float32 into another folder"
        ) from None


def cuda_has_bfloat16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def cpu_has_bfloat16() -> bool:
    # Not every torch of our range can tell. ARM is left out, where torch may be built without kernels for them.
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
