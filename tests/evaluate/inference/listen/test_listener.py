"""What the page is told: of a file what `make tag` tells, of the microphone what it tells with hop=."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch import Tensor

from evaluate.inference.listen import listener as listener_module
from evaluate.inference.listen.listener import Listener
from evaluate.inference.listen.spectrogram import BANDS
from evaluate.inference.tag.run import TagSettings, run
from shards.errors import UserError
from shards.media.rejects import UnreadableMedia
from tests.evaluate.conftest import RATE
from tests.evaluate.inference.listen.conftest import int16


def tag(listener: Listener, path: Path, folder: Path, **settings: object) -> None:
    """Run `make tag` on a file, over the same base."""
    listener.base.save(folder / "base.json", listener.model.checkpoint)
    run(TagSettings([path], listener.model.path, base=[folder / "base.json"], **settings))  # type: ignore[arg-type]


def test_a_file_is_told_as_tag_tells_it(listener: Listener, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([int16("low", 11.0), int16("high", 8.5)]), RATE)
    first, *named, last = listener.hear_file(path)
    tag(listener, path, tmp_path, top=3, out=tmp_path / "tags.json")
    (expected,) = json.loads((tmp_path / "tags.json").read_text())["files"]
    assert first["seconds"] == 19.5 and first["bands"] == BANDS
    assert len(base64.b64decode(first["levels"])) % BANDS == 0
    assert len(named) == 3  # of 4, 4 and 2 clips
    assert [len(each["parts"]) for each in named] == sorted({len(each["parts"]) for each in named})
    for part, wanted in zip(named[-1]["parts"], expected["parts"], strict=True):
        assert (part["begin"], part["end"]) == pytest.approx((wanted["begin"], wanted["end"]), abs=1e-3)
        assert [tag["name"] for tag in part["tags"]["objects"]] == [tag["name"] for tag in wanted["tags"]["objects"]]
        lifts = [tag["lift"] for tag in wanted["tags"]["objects"]]
        assert [tag["lift"] for tag in part["tags"]["objects"]] == pytest.approx(lifts, abs=1e-3)
    whole = [(tag["name"], tag["lift"]) for tag in expected["whole"]["objects"]]
    found = [(tag["name"], tag["lift"]) for tag in named[-1]["whole"]["tags"]["objects"]]
    assert [name for name, _ in found] == [name for name, _ in whole]
    assert last["done"] and last["similar"][0]["cosine"] >= last["similar"][-1]["cosine"]


def test_a_long_file_is_not_heard_in_one_pass(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, passed = listener.model.network, list[int]()
    features = network.features

    def measured(waveforms: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        passed.append(waveforms.shape[-1])
        return features(waveforms, layers)

    monkeypatch.setattr(network, "features", measured)
    soundfile.write(tmp_path / "a.wav", int16("low", 70.0), RATE)
    list(listener.hear_file(tmp_path / "a.wav"))
    assert len(passed) >= 3 and max(passed) < 25 * RATE


def test_the_microphone_is_told_as_hop_tells_a_file(
    listener: Listener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = np.concatenate([int16("low", 3.0), int16("high", 2.0)])
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    tag(listener, tmp_path / "a.wav", tmp_path, top=3, hop=1.0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for second, line in enumerate(lines, start=1):
        held = sound[max(0, second - 2) * RATE : second * RATE]  # a clip of the tiny network has 2 s
        answer = listener.hear_live(held, RATE, float(second))
        assert {key: answer[key] for key in ("begin", "end", "unnamed")} == {
            key: line[key] for key in ("begin", "end", "unnamed")
        }
        for each, wanted in zip(answer["tags"]["objects"], line["tags"]["objects"], strict=True):
            assert each["name"] == wanted["name"] and each["lift"] == pytest.approx(wanted["lift"], abs=2e-3)
    assert len(lines) == 5


def test_another_rate_gives_the_same_names(listener: Listener) -> None:
    there, here = (listener.hear_live(int16("low", 2.0, rate), rate, 2.0) for rate in (48_000, RATE))
    assert there["tags"]["objects"][0]["name"] == here["tags"]["objects"][0]["name"]
    assert there["end"] == pytest.approx(2.0, abs=0.01)


def test_silence_is_said_and_has_neither_names_nor_neighbours(listener: Listener, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * RATE, np.int16), RATE)
    _, *_, named, last = listener.hear_file(tmp_path / "a.wav")
    assert named["whole"]["unnamed"] == "silent" and named["whole"]["tags"] == {"objects": []}
    assert last == {"done": True, "similar": None}
    live = listener.hear_live(np.zeros(RATE, np.int16), RATE, 1.0)
    assert live["unnamed"] == "silent" and live["similar"] is None
    assert listener.hear_live(int16("low", 0.05), RATE, 0.05)["unnamed"] == "shorter than 0.1 s"


def test_what_cannot_be_heard_is_one_line(listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sound"
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/a.wav\n#EXT-X-ENDLIST\n"  # names another file
    soundfile.write(tmp_path / "a.wav", int16("low", 1.0), RATE)
    for data in (b"", b"RIFF", b"<html>", playlist.encode(), b"ffconcat version 1.0\nfile a.wav\n"):
        path.write_bytes(data)
        with pytest.raises(UnreadableMedia):
            next(listener.hear_file(path))
    soundfile.write(tmp_path / "one.wav", np.ones(1), 2 * RATE)
    with pytest.raises(UnreadableMedia, match="too short"):
        next(listener.hear_file(tmp_path / "one.wav"))
    monkeypatch.setattr(listener_module, "MOST_MINUTES", 0.01)
    with pytest.raises(UserError, match=r"longer than 0.01 minutes: cut it, or use `make tag`"):
        next(listener.hear_file(tmp_path / "a.wav"))
    with pytest.raises(UserError):
        listener.hear_live(np.empty(0, np.int16), RATE, 1.0)


def test_a_neighbour_is_played_as_the_network_hears_it(listener: Listener, sounds: Path) -> None:
    assert listener.similar is not None
    for index, path in enumerate(listener.similar.paths):
        sound = listener.neighbour(index)
        assert sound is not None
        with wave.open(io.BytesIO(sound)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 1, RATE)
            assert file.readframes(RATE) == soundfile.read(path, dtype="int16")[0].astype("<i2").tobytes()
    assert listener.neighbour(4) is None and listener.neighbour(-1) is None
