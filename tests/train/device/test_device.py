"""What a run computes in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shards.errors import UserError
from train.device.device import arithmetic, available_device, require_device

CPU = torch.device("cpu")
GETTERS: dict[str, Callable[[], object]] = {
    "matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
    "cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
    "matmul precision": torch.get_float32_matmul_precision,
    "matmul.fp32_precision": lambda: torch.backends.cuda.matmul.fp32_precision,
}


def test_tf32_is_off_under_every_name_that_torch_has_for_it() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    require_device("cpu")
    assert [getter() for getter in GETTERS.values()] == [False, False, "highest", "ieee"]


def test_a_cpu_computes_in_bfloat16_only_where_it_is_asked_to_and_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(precision: str) -> torch.dtype:
        with arithmetic(CPU, precision)():  # type: ignore[arg-type]
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    monkeypatch.setattr("train.device.device.cpu_has_bfloat16", lambda: True)
    assert [computed(each) for each in ("auto", "float32", "bf16")] == [torch.float32, torch.float32, torch.bfloat16]


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert available_device("auto") == available_device("cpu") == "cpu"
    with pytest.raises(UserError, match="there is no GPU"):
        available_device("cuda")
    with pytest.raises(UserError, match="device=gpu is unknown: device=cuda, device=cpu or device=auto"):
        available_device("gpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.set_device", lambda index: None)
    assert available_device("auto") == "cuda"
