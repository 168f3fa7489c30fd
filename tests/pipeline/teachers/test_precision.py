"""What `auto` chooses on which device, which machine is turned away, and that the choice belongs to the labels."""

from __future__ import annotations

import pytest
import torch

from pipeline.executor.resources import Resources
from pipeline.teachers import precision
from pipeline.teachers.precision import fastest_precision, require_precision
from shards.errors import UserError


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_auto_takes_bfloat16_where_the_device_has_it(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    for native, chosen in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {flag: native}, raising=False)
        monkeypatch.setattr(precision, "cuda_has_bfloat16", lambda native=native: native)
        assert fastest_precision("cpu") == fastest_precision("cuda:1") == chosen
        assert Resources(device="cpu").precision_of(None) == chosen
        assert Resources(executor="ray", device="cuda").precision_of(None) == chosen  # of this machine's devices
        assert Resources(device="cpu", precision="float32").precision_of(None) == "float32"
    assert fastest_precision("mps") == "float32"


def test_a_device_without_bfloat16_is_refused_in_one_line_and_a_slow_cpu_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    require_precision("bfloat16", "cpu")

    def conv2d(*_: object) -> None:
        raise RuntimeError("no kernel for 'BFloat16'\nand much more")

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    require_precision("float32", "cpu")
    message = r"device=cpu .* cannot compute in bfloat16, .* \(no kernel for 'BFloat16'\): use another .*=float32 into"
    with pytest.raises(UserError, match=message) as refused:
        Resources(device="cpu", precision="bfloat16").precision_of(None)
    assert "\n" not in str(refused.value)
