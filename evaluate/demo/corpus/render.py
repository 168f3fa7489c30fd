"""Rendering the corpus: H.264 and AAC in mp4, a clip a file, in a few processes; what is already there is kept."""

from __future__ import annotations

import json
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from evaluate.demo.corpus.camera import PHOTOGRAPHS, camera, load_photograph
from evaluate.demo.corpus.catalogue import CorpusClip, CorpusSettings, catalogue
from evaluate.demo.corpus.sounds import soundtrack
from evaluate.demo.corpus.synthesis import SAMPLE_RATE
from shards.errors import require_same
from shards.files import replacing, write_whole

SETTINGS = "corpus.json"  # there once every clip is
UNFINISHED = "corpus.json.unfinished"

README = """\
THIS CORPUS IS SYNTHETIC. It was rendered by evaluate/demo/corpus of this project for `make demo`.

Pictures: slow pans and zooms over {photographs} photographs that ship inside the scikit-learn and scikit-image wheels.
Sounds: computed, not recorded; each photograph has a pair of sounds that follow each other, under others and noise.
{clips} clips, {seconds:.0f} s in all. Of each photograph's {each} clips the pipeline's hash holds out {held_out}.

What a network learns here shows that the program works. It says nothing about natural sound.
Delete this folder to have it rendered again.

Photographs: {sources}.
china.jpg by danielbuechele and flower.jpg by vultilion, both CC BY 2.0; for the others see scikit-image's site.
"""


def render_corpus(
    folder: Path,
    settings: CorpusSettings | None = None,
    *,
    processes: int = 2,
    rendered: Callable[[int, int], None] = lambda done, wanted: None,
) -> list[CorpusClip]:
    """Make the folder hold the whole corpus and nothing else; returns its clips.

    A finished corpus is kept as it is, an unfinished one is completed. `rendered` is called after each new clip.
    Raises UserError where the folder holds a corpus of other settings, or a photograph is not installed.
    """
    settings = settings or CorpusSettings()
    clips = catalogue(settings)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings)
    missing = [clip for clip in clips if not (folder / clip.path).is_file()]
    for done, _ in enumerate(_render_all(folder, missing, settings, processes), start=1):
        rendered(done, len(missing))
    if not (folder / SETTINGS).is_file():
        write_whole(folder / "README.txt", _readme(clips, settings).encode())
        os.replace(folder / UNFINISHED, folder / SETTINGS)
    return clips


def _claim(folder: Path, settings: CorpusSettings) -> None:
    """Write down the settings before the first clip, or require those that are there to be the same."""
    wanted = json.loads(json.dumps(asdict(settings)))
    found = [path for path in (folder / SETTINGS, folder / UNFINISHED) if path.is_file()]
    if found:
        remedy = f"Delete {folder} to have the corpus rendered again."
        require_same(wanted, json.loads(found[0].read_bytes()), str(found[0]), remedy)
    else:
        write_whole(folder / UNFINISHED, json.dumps(wanted, indent=1).encode())


def _render_all(folder: Path, clips: list[CorpusClip], settings: CorpusSettings, processes: int) -> Iterator[None]:
    work = partial(render_clip, folder, settings)
    if processes == 1 or len(clips) < 2:
        yield from map(work, clips)
        return
    # Spawned, not forked: the caller may have threads. The longest first, so that no process is left alone with it.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, sorted(clips, key=lambda clip: -clip.seconds))


def render_clip(folder: Path, settings: CorpusSettings, clip: CorpusClip) -> None:
    """Write one clip, under a temporary name first. Its random numbers depend on the seed and its own name only."""
    rng = np.random.default_rng([settings.seed, zlib.crc32(clip.photograph.encode()), clip.number])
    sound = soundtrack(clip.photograph, clip.seconds, rng)
    frames = round(clip.seconds * settings.frame_rate)
    pictures = camera(load_photograph(clip.photograph), frames, width=settings.width, height=settings.height, rng=rng)
    path = folder / clip.path
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial_path, av.open(str(partial_path), "w", format="mp4") as container:
        _mux(container, pictures, sound, settings)


def _mux(
    container: av.container.OutputContainer,
    pictures: Iterator[av.VideoFrame],
    sound: NDArray[np.float32],
    settings: CorpusSettings,
) -> None:
    """Encode pictures and sound (2, samples) side by side, a second of sound after a second of pictures."""
    video = container.add_stream("libx264", rate=settings.frame_rate)
    video.width, video.height, video.pix_fmt = settings.width, settings.height, "yuv420p"
    video.options = {"preset": "superfast", "crf": "24", "g": str(2 * settings.frame_rate)}
    video.codec_context.thread_count = 1  # the same bytes on any machine, and a process a core anyway
    audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo", bit_rate=128_000)
    audio.options = {"aac_coder": "fast"}
    for index, picture in enumerate(pictures):
        picture.pts, picture.time_base = index, Fraction(1, settings.frame_rate)
        container.mux(video.encode(picture))
        start, end = (at * SAMPLE_RATE // settings.frame_rate for at in (index, index + 1))
        piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[:, start:end]), format="fltp", layout="stereo")
        piece.sample_rate, piece.pts, piece.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        container.mux(audio.encode(piece))
    container.mux(video.encode(None))
    container.mux(audio.encode(None))


def _readme(clips: list[CorpusClip], settings: CorpusSettings) -> str:
    sources = (f"{name} ({'/'.join(PHOTOGRAPHS[name])})" for name in settings.photographs)
    return README.format(
        photographs=len(settings.photographs),
        clips=len(clips),
        seconds=sum(clip.seconds for clip in clips),
        each=settings.clips_per_photograph,
        held_out=settings.held_out,
        sources=", ".join(sources),
    )
