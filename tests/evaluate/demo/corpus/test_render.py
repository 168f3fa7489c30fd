"""A tiny corpus: decoded back it is as long as asked, split as planned, kept once finished and completed if not."""

import hashlib
import json

import av
import numpy as np
import pytest

from evaluate.demo.corpus import CorpusSettings, render_corpus
from pipeline.videos.keys import key_of, split_of
from shards.errors import UserError

pytest.importorskip("skimage", reason="the photographs of scikit-image come with the demo extra")

TINY = CorpusSettings(
    photographs=("chelsea", "rocket"),
    clips_per_photograph=2,
    validation_share=0.25,
    shortest_seconds=1.0,
    longest_seconds=3.0,
    width=96,
    height=64,
    frame_rate=25,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return folder, render_corpus(folder, TINY, processes=1)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.mp4")}


def test_clips_decode_to_what_was_asked_for(corpus):
    folder, clips = corpus
    assert len(clips) == 4
    for clip in clips:
        with av.open(str(folder / clip.path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 44_100, "stereo")
            pictures = [frame.pts * frame.time_base for frame in container.decode(video)]
        with av.open(str(folder / clip.path)) as container:
            sound = list(container.decode(audio=0))
        np.testing.assert_allclose(np.array(pictures, float), np.arange(round(25 * clip.seconds)) / 25, atol=1e-6)
        assert sound[0].pts == 0
        # AAC comes in blocks of 1,024 samples: the last one may reach beyond the end.
        assert sum(frame.samples for frame in sound) / 44_100 == pytest.approx(clip.seconds, abs=1_024 / 44_100)
        assert 1.0 <= clip.seconds <= 3.0


def test_both_photographs_are_in_both_splits(corpus):
    folder, _ = corpus
    found = [path.relative_to(folder) for path in folder.rglob("*.mp4")]
    drawn = {(path.parts[0], split_of(key_of(str(path)), 0.25, 0)) for path in found}
    assert drawn == {(name, split) for name in TINY.photographs for split in ("train", "validation")}


def test_the_folder_says_that_it_is_synthetic(corpus):
    folder, _ = corpus
    text = (folder / "README.txt").read_text()
    assert "SYNTHETIC" in text.splitlines()[0]
    assert "skimage/data/chelsea.png" in text


def test_a_finished_corpus_is_kept(corpus):
    folder, _ = corpus
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    render_corpus(folder, TINY, rendered=lambda *_: pytest.fail("nothing is left to render"))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_an_unfinished_corpus_is_completed_to_the_same_bytes(corpus, tmp_path):
    finished, _ = corpus

    def killed(done, wanted):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_corpus(tmp_path, TINY, processes=1, rendered=killed)
    assert len(hashes(tmp_path)) == 2
    assert not (tmp_path / "corpus.json").exists()
    (tmp_path / "chelsea" / "torn.mp4.partial").write_bytes(b"left by a kill")
    counted = []
    render_corpus(tmp_path, TINY, processes=2, rendered=lambda done, wanted: counted.append((done, wanted)))
    assert counted == [(1, 2), (2, 2)]
    assert hashes(tmp_path) == hashes(finished)
    assert json.loads((tmp_path / "corpus.json").read_text())["clips_per_photograph"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.json", "README.txt", "chelsea", "rocket"}


def test_another_seed_gives_other_clips_and_is_refused_in_the_same_folder(corpus, tmp_path):
    folder, _ = corpus
    other = CorpusSettings(**{**vars(TINY), "photographs": ("chelsea",), "seed": 1})
    render_corpus(tmp_path, other, processes=1)
    assert not set(hashes(tmp_path).values()) & set(hashes(folder).values())
    with pytest.raises(UserError, match=r"photographs.*seed.*Delete"):
        render_corpus(folder, other)
