"""`make test-machines` plays the machines it names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.commands import python
from tests.project.machines import COMPUTING, CUSTOM, MACHINES


def test_the_rooms_are_there(root: Path) -> None:
    assert [room for room in COMPUTING if not (root / "tests" / room).exists()] == []


@pytest.mark.faults  # slow: torch in processes of its own
@pytest.mark.parametrize("name", ["a CPU with AVX2", "a CPU with bfloat16"])
def test_torch_and_the_teachers_believe_it(root: Path, tmp_path: Path, name: str) -> None:
    told, bfloat16 = MACHINES[name]
    (tmp_path / "sitecustomize.py").write_text(CUSTOM.format(bfloat16=bfloat16))
    program = "import sys; assert 'torch' not in sys.modules; from pipeline.teachers.precision import *; import torch"
    program += "; print(fastest_precision('cpu'), torch.backends.cpu.get_cpu_capability())"
    done = python("-c", program, **told, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    precision, capability = done.stdout.split()
    assert precision == ("bfloat16" if bfloat16 else "float32")
    assert not told or capability == "AVX2" or sys.platform != "linux"
