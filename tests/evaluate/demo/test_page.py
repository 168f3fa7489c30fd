"""The demo's page on made-up artifacts: every number is on it, names cannot break it, and it needs nothing else."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluate.demo.page import write_page
from evaluate.probe.scores import Score, Scores, wilson
from pipeline.videos.keys import key_of
from shards.errors import UserError
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example, clip_key
from shards.format.manifest import Manifest, TeacherCard
from shards.format.writer import ShardWriter
from train.checkpoint.checkpoint import load, save
from train.runfolder import RunFolder

CLIP = ClipSpec(sample_rate=8_000, seconds=2.0, windows=1)
HOSTILE = "<script>alert(1)</script>&'.mp4"
CLASSES = ("tabby", "<b>tiger</b>", "espresso")


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(stream, kind)
    return stream.getvalue()


def write_shards(folder: Path) -> None:
    """One video with a hostile name to train on, one held out; noise in both."""
    card = TeacherCard("resnet18", "r18.pth", "ab" * 32, {"resize": 256}, CLASSES)
    folder.mkdir(parents=True)
    Manifest(CLIP, "first", {"objects": card}, "float32", "wav", "none", "exact", True, 0.25, 0).save(folder)
    rng = np.random.default_rng(0)
    plan = []
    for name, path in (("train-000000", HOSTILE), ("validation-000000", "held/out.mp4")):
        writer = ShardWriter(folder, name, sample_rate=CLIP.sample_rate)
        meta = ClipMeta(key_of(path), path, 9, "00", 0, 0.0, 2.0, [1.0], [1.0], still=False)
        waveform = rng.integers(-9_999, 9_999, CLIP.window_samples).astype(np.int16)
        posteriors = {"objects": rng.dirichlet(np.ones(3), 1).astype(np.float16)}
        writer.write(Example(clip_key(key_of(path), 0), waveform, posteriors, meta, picture("JPEG")))
        writer.finish(rejects=[], dropped=[])
        plan.append({"shard": name, "videos": [{"key": key_of(path), "path": path, "bytes": 9}]})
    (folder / "plan.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plan))
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
    run.curves.write_bytes(picture("PNG"))


def write_scores(folder: Path) -> None:
    confusion = [[7, 3], [0, 10]]
    scores = [
        Score(
            "folder",
            features,
            "linear SVM",
            "conv2",
            seed,
            share,
            wilson(round(share * 20), 20),
            {},
            {},
            confusion,
            {},
            True,
            {},
            1.0,
        )
        for features, seed, share in (("checkpoint", None, 0.85), ("random network", 0, 0.65))
    ]
    Scores("folder", "", ["low", "<i>high</i>"], None, scores).save(folder)


@pytest.fixture
def write(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    torch.set_num_threads(1)
    for module in ("evaluate.demo.page", "evaluate.reproduce.figures"):
        monkeypatch.setattr(f"{module}.LAYER", "conv2")  # the tiny student has no conv7
    write_shards(tmp_path / "shards")
    write_run(tmp_path / "run", checkpoint)
    write_scores(tmp_path / "scores")

    def written() -> str:
        places = {name: tmp_path / name for name in ("shards", "run", "scores")}
        return write_page(tmp_path / "index.html", **places, head="objects", origin="SYNTHETIC & small").read_text()

    return written


def test_every_number_of_the_artifacts_is_on_the_page(write: Callable[[], str]) -> None:
    page = write()
    assert "SYNTHETIC &amp; small" in page
    for value in ("0.12", "1.57", "3.25", "85 %", "65 %", "50 %", "640 clips in 80 steps"):
        assert value in page, value
    assert page.count("data:audio/") == 2 + 2 * 4  # two clips; four units, each with both of them
    assert 'href="shards/report.html"' in page


def test_names_cannot_break_it_and_it_needs_nothing_else(write: Callable[[], str]) -> None:
    page = write()
    assert "<script" not in page and "<b>tiger" not in page and "<i>high" not in page
    assert "&lt;script&gt;alert(1)" in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert addresses and all(address.startswith(("data:", "#", "shards/report.html")) for address in addresses)
    assert "default-src 'none'" in page


def test_a_missing_artifact_is_named(write: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "scores" / "scores.json").unlink()
    with pytest.raises(UserError, match=r"scores\.json"):
        write()
