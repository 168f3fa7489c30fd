"""The demo's page on made-up artifacts: every number is on it, names cannot break it, and it needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluate.demo.page import write_page
from evaluate.probe.scores import ScoredRecording, Scores
from pipeline.videos.keys import key_of
from shards.errors import UserError
from tests.evaluate.conftest import score_of
from tests.evaluate.demo.test_results import write_evidence
from tests.pipeline.conftest import HOSTILE, Builder, strip
from train.checkpoint.checkpoint import load, save
from train.runfolder import RunFolder


def write_shards(folder: Path) -> None:
    """One video with a hostile name to train on, one held out; noise in both."""
    builder = Builder(folder)
    builder.shard("train-000000", {HOSTILE: [4]})
    builder.shard("validation-000000", {"held/out.mp4": [4]})
    (folder / "report.html").write_text("a page")


def write_run(folder: Path, checkpoint: Path) -> None:
    run = RunFolder(folder)
    folder.mkdir()
    trained = load(checkpoint)
    trained.position = {"step": 80, "consumed": 640}
    save(run.last, trained)
    measures = {"objects/kl": 0.1234, "objects/kl_mean": 1.5678, "objects/kl_uniform": 3.25}
    found = {"step": 80, "clips": 1, "mean": measures, "videos": [{"video": key_of(HOSTILE), "clips": 1, **measures}]}
    run.validation.write_text(json.dumps(found))
    run.curves.write_bytes(strip(1))


def write_scores(folder: Path) -> None:
    scores = [score_of("checkpoint", [[7, 3], [0, 10]], layer="conv2")]
    scores += [score_of("random network", [[4, 6], [1, 9]], seed=0, layer="conv2")]
    recordings = [ScoredRecording(str(index), str(index), "test", int(index >= 10)) for index in range(20)]
    Scores("folder", "", ["low", "<i>high</i>"], None, recordings, scores).save(folder)


@pytest.fixture
def write(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    for module in ("evaluate.demo.page", "evaluate.reproduce.figures"):
        monkeypatch.setattr(f"{module}.LAYER", "conv2")  # the tiny student has no conv7
    write_shards(tmp_path / "shards")
    write_run(tmp_path / "run", checkpoint)
    write_scores(tmp_path / "scores")
    write_evidence(tmp_path / "evidence", "abc")

    def written() -> str:
        places = {name: tmp_path / name for name in ("shards", "run", "scores", "evidence")}
        words = {"origin": "SYNTHETIC & small", "took": "It took 80 s"}
        return write_page(tmp_path / "index.html", **places, head="objects", **words).read_text()

    return written


def test_every_number_of_the_artifacts_is_on_the_page(write: Callable[[], str]) -> None:
    page = write()
    assert "SYNTHETIC &amp; small" in page and "It took 80 s" in page
    for value in ("0.12", "1.57", "3.25", "85 %", "65 %", "50 %", "640 clips in 80 steps"):
        assert value in page, value
    assert page.count("data:audio/") == 2 + 2 * 4  # two clips; four units, each with both of them
    assert 'href="shards/report.html"' in page
    assert "NOTHING FOUND: &lt;b&gt;x" in page and "objects: so it is." in page


def test_names_cannot_break_it_and_it_needs_nothing_else(write: Callable[[], str]) -> None:
    page = write()
    assert "<script" not in page and "<b>" not in page and "<i>high" not in page
    assert "&lt;script&gt;alert(" in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert addresses and all(address.startswith(("data:", "#", "shards/report.html")) for address in addresses)
    assert "default-src 'none'" in page


def test_a_missing_artifact_is_named(write: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "scores" / "scores.json").unlink()
    with pytest.raises(UserError, match=r"scores\.json"):
        write()
