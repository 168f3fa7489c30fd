"""What the README shows runs: its example reads a shard of ours with stock webdataset, its make targets are there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from shards.format.example import ClipMeta, Example
from shards.format.writer import ShardWriter

EXAMPLE_FOLDER = "outputs/shards/mine"


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "README.md").read_text()


def test_the_webdataset_example_reads_a_shard(readme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = ClipMeta("v", "v.mp4", 1, "0", clip=2, start=40.0, seconds=20.0, frame_asked=[], frame_got=[])
    posteriors = {"objects": np.full((4, 10), 0.1, np.float16)}
    writer = ShardWriter(tmp_path, "train-000000", sample_rate=22_050)
    writer.write(Example("v-00002", np.arange(441_000).astype(np.int16), posteriors, meta))
    writer.finish()

    (source,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert EXAMPLE_FOLDER in source
    exec(source.replace(EXAMPLE_FOLDER, str(tmp_path)), {})
    assert capsys.readouterr().out == "v-00002 (441000,) 22050 (4, 10) 40.0\n"


def test_every_make_target_named_is_there(readme: str, root: Path) -> None:
    named = set(
        re.findall(r"\bmake ([a-z][a-z0-9-]+)\b(?!=)", " ".join(re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)))
    )
    rules = set(re.findall(r"^([a-z0-9-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "teacher-shards"} <= named <= rules


def test_ci_runs_what_the_readme_gives(readme: str, root: Path) -> None:
    ran = re.findall(r"^make .*$", (root / ".ci" / "run").read_text(), re.MULTILINE)
    assert ran == ["make lint", "make types", "make test", "make test-machines", "make test-faults"]
    assert all(re.search(rf"^{line}( |$)", readme, re.MULTILINE) for line in ran)
