"""The page for a first GPU, made small on a CPU: every part says something, and what fails or is late is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluate.bench.gpu import check as gpu_check
from evaluate.bench.gpu.check import GpuCheckSettings, outcome, run
from shards.cli.command import compose
from shards.errors import UserError


def broken(check: object) -> dict[str, object]:
    """It breaks."""
    raise RuntimeError("no kernel image\nand a long story")


def test_the_parts_are_on_the_page_and_one_that_breaks_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = (gpu_check.machine, gpu_check.arithmetic, broken, gpu_check.step, gpu_check.share, gpu_check.wall)
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    words = ["student.layers=[{name: conv1, kernel: 64, stride: 64, filters: 2}]", "student.output.kernel=1722"]
    words += ["student.output.stride=1722", "device=cpu", "compile=false", "batch=1", "steps=1", "rounds=1", "clips=2"]
    run(compose(GpuCheckSettings, "gpu_check", [*words, f"out={tmp_path}"]))
    found: dict[str, Any] = json.loads((tmp_path / "check.json").read_text())
    assert found["arithmetic"]["the same again"] == found["arithmetic"]["compiled"] == 0
    assert found["arithmetic"]["folded, bfloat16"] > 0 and found["step"]["bare"] > 0
    assert found["broken"] == {"failed": "RuntimeError: no kernel image"}
    rates = found["wall"]
    least = min(rates[name] for name in ("reading, 4 threads", "copying", "arithmetic"))
    assert rates[rates["the wall"]] == least
    page = (tmp_path / "check.md").read_text()
    assert all(f"## {part.__name__}" in page for part in parts) and page in capsys.readouterr().out.replace(
        "\n\n\n", "\n\n"
    )


def test_a_part_that_the_time_is_up_for_is_said_to_be_not_run() -> None:
    check: Any = type("Late", (), {"settings": compose(GpuCheckSettings, "gpu_check", ["minutes=1"])})
    assert outcome(broken, check, 61.0) == {"not run": "1 minutes were up"}


def test_without_a_gpu_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="device=cpu"):
        run(compose(GpuCheckSettings, "gpu_check", []))
