"""`make embed`: the features of one pass; what is done is not done again, what is damaged is recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import evaluate.inference.embed.run as embed
from evaluate.inference.embed.run import EmbedSettings, run
from shards.errors import UserError
from tests.faults.commands import wait_until
from tests.forked import Forked
from train.checkpoint.checkpoint import load_network
from train.model.student import scaled

RATE = 8000


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Three sounds of 1, 2 and 3 s."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for seconds in (1, 2, 3):
        generator = np.random.default_rng(seconds)
        soundfile.write(folder / f"{seconds}.wav", generator.uniform(-0.5, 0.5, seconds * RATE), RATE)
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose features were computed."""
    names: list[str] = []
    stream_sound = embed.stream_sound

    def counted(path: Path, sample_rate: int) -> Iterator[NDArray[np.int16]]:
        names.append(path.name)
        return stream_sound(path, sample_rate)

    monkeypatch.setattr(embed, "stream_sound", counted)
    return names


def one_pass(checkpoint: Path, path: Path, layer: str) -> NDArray[np.float32]:
    """(steps, channels)."""
    waveform = torch.from_numpy(soundfile.read(path, dtype="int16")[0])
    with torch.no_grad():
        return load_network(checkpoint)[0].features(scaled(waveform)[None], [layer])[layer][0].T.numpy()


def test_pooled_features_are_the_means_of_one_pass(checkpoint: Path, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "features.npz"
    run(EmbedSettings([sounds], checkpoint, out, "conv2"))
    with np.load(out, allow_pickle=False) as found:
        assert found["files"].tolist() == [str(sounds / f"{seconds}.wav") for seconds in (1, 2, 3)]
        expected = [one_pass(checkpoint, Path(path), "conv2").mean(axis=0) for path in found["files"]]
        np.testing.assert_allclose(found["features"], expected, rtol=1e-4, atol=1e-5)
        assert found["features"].dtype == np.float32 and str(found["layer"]) == "conv2"
        assert {"times", "file"}.isdisjoint(found) and len(found["unreadable"]) == 0


def test_over_time_every_step_has_its_file_and_its_time(checkpoint: Path, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    run(EmbedSettings([sounds], checkpoint, out, "pool1", over_time=True))
    with np.load(out, allow_pickle=False) as found:
        for index, path in enumerate(found["files"]):
            own = found["file"] == index
            expected = one_pass(checkpoint, Path(path), "pool1")
            np.testing.assert_allclose(found["features"][own], expected, rtol=1e-4, atol=1e-5)
            # pool1's first step pools 8 of conv1's, whose first is centred at -8 + 7.5 samples, 4 samples apart.
            first = (-8 + 7.5 + 4 * 3.5) / RATE
            np.testing.assert_allclose(found["times"][own], first + np.arange(len(expected)) * 32 / RATE)


def test_the_output_layer_gives_log_posteriors_clip_by_clip(checkpoint: Path, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    run(EmbedSettings([sounds / "2.wav"], checkpoint, out, "conv3", over_time=True))
    with np.load(out, allow_pickle=False) as found:  # 2 s are one clip of this student's
        np.testing.assert_allclose(found["features"], one_pass(checkpoint, sounds / "2.wav", "conv3"), atol=1e-4)
        np.testing.assert_allclose(found["times"], (np.arange(len(found["times"])) + 0.5) * 2 / len(found["times"]))


def test_what_is_there_is_not_computed_again_and_what_changed_is(
    checkpoint: Path, sounds: Path, tmp_path: Path, computed: list[str]
) -> None:
    settings = EmbedSettings([sounds], checkpoint, tmp_path / "features.npz", "conv2")
    run(settings)
    first = dict(np.load(settings.out))
    run(settings)
    assert computed == ["1.wav", "2.wav", "3.wav"]
    soundfile.write(sounds / "2.wav", np.zeros(RATE), RATE)
    soundfile.write(sounds / "4.wav", np.zeros(RATE), RATE)
    run(settings)
    assert computed[3:] == ["2.wav", "4.wav"]
    again = dict(np.load(settings.out))
    assert np.array_equal(again["features"][[0, 2]], first["features"][[0, 2]])
    np.testing.assert_allclose(again["features"][1], again["features"][3])


def test_what_is_damaged_is_recorded_tried_again_and_no_hindrance(
    checkpoint: Path, sounds: Path, tmp_path: Path, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (sounds / "2.wav").read_bytes()
    (sounds / "2.wav").write_bytes(b"RIFF" + bytes(5_000))
    settings = EmbedSettings([sounds, tmp_path / "list.txt"], checkpoint, tmp_path / "features.npz", "conv2")
    (tmp_path / "list.txt").write_text("absent.wav\n")
    with pytest.raises(UserError, match=r"2 of 4 files could not be read, .* noted in .*features\.npz\.parts"):
        run(settings)
    assert len(capsys.readouterr().err.splitlines()) == 2
    with np.load(settings.out) as found:
        assert [Path(path).name for path in found["files"]] == ["1.wav", "3.wav"]
        assert [Path(path).name for path in found["unreadable"]] == ["2.wav", "absent.wav"]
        assert [reason.partition(":")[0] for reason in found["reasons"]] == ["not_media", "not_found"]
    records = [json.loads(path.read_text()) for path in settings.folder.glob("2-*.json")]
    assert [record["reason"][:10] for record in records] == ["not_media:"]
    (sounds / "2.wav").write_bytes(whole)
    settings.files.pop()
    computed.clear()
    run(settings)
    assert computed == ["2.wav"] and len(np.load(settings.out)["files"]) == 3


def test_what_is_cut_short_is_read_as_far_as_it_goes_and_said(
    checkpoint: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sounds / "2.wav"
    path.write_bytes(path.read_bytes()[: 44 + 2 * RATE])
    run(EmbedSettings([path], checkpoint, tmp_path / "features.npz", "conv2"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{path}: cut short: its header promises 2.00 s of sound, the file has 1.00 s"


def test_a_folder_as_out_holds_arrays_by_themselves(checkpoint: Path, sounds: Path, tmp_path: Path) -> None:
    run(EmbedSettings([sounds / "3.wav"], checkpoint, tmp_path / "features", "conv2", over_time=True))
    (values,) = (path for path in (tmp_path / "features").glob("3-*.npy") if not path.name.endswith(".times.npy"))
    np.testing.assert_allclose(np.load(values), one_pass(checkpoint, sounds / "3.wav", "conv2"), rtol=1e-4, atol=1e-5)
    assert len(np.load(values.with_suffix(".times.npy"))) == len(np.load(values))
    assert json.loads(values.with_suffix(".json").read_text())["file"] == str(sounds / "3.wav")


@pytest.mark.parametrize(
    ("changed", "words"), [({"layer": "pool1"}, 'layer: .* has "conv2"'), ({"over_time": True}, "over_time")]
)
def test_other_features_do_not_go_into_the_same_folder(
    checkpoint: Path, sounds: Path, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    settings = {"layer": "conv2", "over_time": False}
    run(EmbedSettings([sounds], checkpoint, tmp_path / "features.npz", **settings))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words):
        run(EmbedSettings([sounds], checkpoint, tmp_path / "features.npz", **settings | changed))  # type: ignore[arg-type]


def test_an_unknown_layer_is_refused_before_anything_is_made(checkpoint: Path, sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tiny has no layer pool9: choose among conv1, pool1, conv2, conv3"):
        run(EmbedSettings([sounds], checkpoint, tmp_path / "features.npz", "pool9"))
    assert not (tmp_path / "features.npz.parts").exists()


@pytest.mark.faults
def test_a_killed_run_goes_on(checkpoint: Path, sounds: Path, tmp_path: Path, computed: list[str]) -> None:
    for index in range(100):
        os.link(sounds / "1.wav", sounds / f"copy{index:02}.wav")
    settings = EmbedSettings([sounds], checkpoint, tmp_path / "features.npz", "conv2")
    words = [f"files={sounds}", f"checkpoint={checkpoint}", f"out={settings.out}", "layer=conv2"]
    process = Forked("evaluate.inference.embed", *words)
    wait_until(lambda: list(settings.folder.glob("copy*.json")), process)
    process.kill()
    process.communicate()
    assert not settings.out.exists()
    made = {path.name.partition("-")[0] for path in settings.folder.glob("*-*.json")}
    run(settings)
    assert {name.removesuffix(".wav") for name in computed} == {path.stem for path in sounds.iterdir()} - made
    with np.load(settings.out) as found:
        assert len(found["files"]) == 103
        np.testing.assert_allclose(found["features"][3:], np.tile(found["features"][0], (100, 1)), rtol=1e-5)


def test_two_runs_do_not_share_a_folder(checkpoint: Path, sounds: Path, tmp_path: Path) -> None:
    import fcntl

    settings = EmbedSettings([sounds], checkpoint, tmp_path / "features.npz", "conv2")
    settings.folder.mkdir()
    with open(settings.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing into"):
            run(settings)


@pytest.mark.parametrize("layer", ["conv2", "conv3"])
@pytest.mark.parametrize("over_time", [False, True])
def test_a_sound_of_one_sample_is_named_and_the_others_are_embedded(
    checkpoint: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: str, over_time: bool
) -> None:
    soundfile.write(sounds / "one.wav", np.ones(1), 2 * RATE)
    out = tmp_path / "features.npz"
    with pytest.raises(UserError, match="1 of 4 files could not be read"):
        run(EmbedSettings([sounds], checkpoint, out, layer=layer, over_time=over_time))
    assert "one.wav cannot be read (no_audio: it is too short" in capsys.readouterr().err
    with np.load(out) as found:
        assert [Path(name).name for name in found["files"]] == ["1.wav", "2.wav", "3.wav"]
        assert [Path(name).name for name in found["unreadable"]] == ["one.wav"] and np.isfinite(found["features"]).all()
