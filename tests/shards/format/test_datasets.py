"""`datasets` of Hugging Face reads a shard as a table: a row for each clip, and all of its columns in each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example, MediaAccount
from shards.format.writer import ShardWriter

CLIP = ClipSpec(sample_rate=8_000, seconds=2.0, windows=4)
SIDE = 32  # pixels of a frame


def write(folder: Path) -> list[Example]:
    """Twelve clips. The first five, from which `datasets` takes its columns, are silent and have nothing to tell."""
    random = np.random.default_rng(0)
    made = []
    writer = ShardWriter(folder, "train-000000", sample_rate=CLIP.sample_rate)
    for index in range(12):
        windows, is_plain = (4 if index % 3 else 2), index < 5
        sound = random.integers(-1_000, 1_000, windows * CLIP.window_samples).astype(np.int16)
        strip = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE * windows, 3), np.uint8)).save(strip, "JPEG")
        repaired: dict[str, float] = {} if is_plain else {"gaps_filled": 2, "gap_seconds": 0.25}
        media = MediaAccount(10.0, 8.0 + 2.0 * is_plain, {} if is_plain else {"tail": 2.0}, repaired)
        times = CLIP.frame_times(windows)
        given = {"class": "dog" if index % 2 else "cat"}
        meta = ClipMeta(f"v{index}", "v.mp4", 1, "0" * 64, 0, 0.0, windows / 2, times, times, media=media, given=given)
        posteriors = {"objects": random.dirichlet(np.ones(3), windows).astype(np.float16)}
        made.append(Example(f"v{index}-00000", sound * (not is_plain), posteriors, meta, strip.getvalue()))
        writer.write(made[-1])
    writer.finish()
    return made


def test_every_clip_is_a_row_with_all_of_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets", reason="datasets of Hugging Face is not installed")
    pytest.importorskip("torchcodec", reason="datasets reads sound by torchcodec, which is not installed")
    made = write(tmp_path)
    table = datasets.load_dataset(
        "webdataset", data_files={"train": str(tmp_path / "*.tar")}, split="train", cache_dir=str(tmp_path / "cache")
    )
    table = table.cast_column("wav", datasets.Audio(decode=False))
    assert len(table) == len(made)
    for row, example in zip(table, made, strict=True):
        assert row["__key__"] == example.key
        assert row["frames.jpg"].size == (SIDE * len(example.meta.frame_got), SIDE)
        assert row["wav"]["bytes"][44:] == example.waveform.tobytes()
        np.testing.assert_array_equal(np.array(row["objects.npy"], np.float16), example.posteriors["objects"])
        facts = row["json"]
        assert (facts["peak_db"] == -200) == (not example.waveform.any())
        assert facts["given"] == example.meta.given
        for part in ("left_out", "repaired"):
            assert {name: count for name, count in facts["media"][part].items() if count} == getattr(
                example.meta.media, part
            )
