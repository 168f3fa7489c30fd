"""Evaluation under faults: a folder that may not be written is one line, as in both stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.conftest import checkpoint, esc_root, tiny
from tests.faults.commands import finish, obey_permissions, one_line, start

__all__ = ["checkpoint", "esc_root", "tiny"]


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("folder", ["out", "cache"])
def test_a_folder_that_may_not_be_written_is_one_line(
    esc_root: Path, checkpoint: Path, tmp_path: Path, folder: str
) -> None:
    words = ["benchmark=esc10", "benchmark.classes=[low,middle,high]", "benchmark.folds=['1','2','3']"]
    words += ["benchmark.per_class=2", "benchmark.seconds=1", "benchmark.window_seconds=0.4", f"root={esc_root}"]
    words += [f"checkpoint={checkpoint}", "layer=conv2", "C=0.01"]
    (tmp_path / folder).mkdir(mode=0o555)
    process = start(
        "evaluate", *words, f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'out'}", before=obey_permissions
    )
    line = one_line(finish(process, 1))
    assert "Permission denied" in line and str(tmp_path / folder) in line
    assert not any((tmp_path / folder).iterdir())
