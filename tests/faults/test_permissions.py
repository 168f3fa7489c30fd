"""A folder that may not be written is one line that names it, in both stages and in evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.conftest import ESC10, checkpoint, esc_root, tiny
from tests.faults.commands import finish, labelling, obey_permissions, one_line, start, training

__all__ = ["checkpoint", "esc_root", "tiny"]


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("module", "folder"), [("pipeline", "labels"), ("train", "run"), ("evaluate", "out"), ("evaluate", "cache")]
)
def test_a_folder_that_may_not_be_written_is_one_line(
    request: pytest.FixtureRequest, tmp_path: Path, module: str, folder: str
) -> None:
    made = request.getfixturevalue
    if module == "pipeline":
        words = labelling(made("videos"), tmp_path / "labels", made("network_folder"))
    elif module == "train":
        words = training(made("shards"), tmp_path / "run")
    else:
        words = [*ESC10, f"root={made('esc_root')}", f"checkpoint={made('checkpoint')}"]
        words += [f"{name}={tmp_path / name}" for name in ("out", "cache")]
    (tmp_path / folder).mkdir(mode=0o555)
    line = one_line(finish(start(module, *words, before=obey_permissions), 1))
    assert "Permission denied" in line and str(tmp_path / folder) in line
    assert not any((tmp_path / folder).iterdir())
