"""The page for a first GPU, made small on a CPU: every part says something, and what fails or is late is said."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluate.bench.gpu import check as gpu_check
from evaluate.bench.gpu.check import GpuCheckSettings, outcome, run
from shards.cli.command import compose
from shards.errors import UserError

HANG = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".partial", "w") as stream:
    stream.write(str(child.pid))
os.rename(stream.name, sys.argv[1])
time.sleep(600)
"""


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


def check_until(seconds: float) -> Any:
    """What `outcome` and `finished` look at, `seconds` before the time is up."""
    settings = compose(GpuCheckSettings, "gpu_check", ["minutes=1"])
    return SimpleNamespace(settings=settings, deadline=time.monotonic() + seconds)


def test_a_part_that_the_time_is_up_for_is_said_to_be_not_run() -> None:
    assert outcome(broken, check_until(-1)) == {"not run": "1 minutes were up"}


def test_a_program_that_hangs_ends_with_all_that_it_started_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hang.py").write_text(HANG)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pid = tmp_path / "pid"
    for seconds in (2, 8, 32, 128):  # until there was time to begin
        found = outcome(lambda check: vars(gpu_check.finished(check, "hang", str(pid))), check_until(seconds))
        assert found == {"failed": "not at its end when 1 minutes were up"}
        if pid.exists():
            break
    with suppress(FileNotFoundError, ProcessLookupError):
        while "State:\tZ" not in Path("/proc", pid.read_text(), "status").read_text():
            time.sleep(0.01)  # a process takes a moment to go


def test_without_a_gpu_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="device=cpu"):
        run(compose(GpuCheckSettings, "gpu_check", []))
