"""Films to time readers on where no videos are given: textures that pan and cut, with grain, in H.264 and AAC."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from shards.files import replacing

FPS, SOUND_RATE = 25, 44_100


def render_film(path: Path, height: int, seconds: float) -> None:
    """16:9, encoded with x264's defaults in one thread; a new scene every 2 to 10 s. The same film each time."""
    random = np.random.default_rng(height)
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        video = container.add_stream("libx264", FPS, options={"crf": "23"})
        video.width, video.height, video.pix_fmt = height * 16 // 9 // 2 * 2, height, "yuv420p"
        sound = container.add_stream("aac", SOUND_RATE, layout="stereo", options={"b": "128000"})
        assert isinstance(video, av.VideoStream) and isinstance(sound, av.AudioStream)
        video.codec_context.thread_count = 1  # the same bytes on any machine
        for index, picture in enumerate(_scenes(random, height, video.width, round(seconds * FPS))):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
            if index % FPS == 0:
                container.mux(sound.encode(_second_of_sound(random, index // FPS)))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def _scenes(random: np.random.Generator, height: int, width: int, frames: int) -> Iterator[NDArray[np.uint8]]:
    """uint8 RGB (height, width, 3): a window that slides over a texture, and a square that crosses it."""
    grain = random.integers(-3, 4, (8, height, width, 1)).astype(np.int16)
    cut, begin = 0, 0
    for index in range(frames):
        if index == cut:
            begin, cut = index, index + int(random.integers(2 * FPS, 10 * FPS))
            texture = _texture(random, height * 3 // 2, width * 3 // 2)
            corner, speed = random.uniform(0.3, 0.7, 2), random.uniform(-1, 1, 2)
        room = np.array([height // 2, width // 2])
        top, left = np.clip(room * corner + speed * (index - begin), 0, room).astype(int)
        picture = texture[top : top + height, left : left + width].copy()
        side, across = height // 4, 3 * (index - begin) % (width - height // 4)
        picture[height // 3 : height // 3 + side, across : across + side] = texture[:side, :side]
        yield np.clip(picture + grain[index % len(grain)], 0, 255).astype(np.uint8)


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[np.int16]:
    """int16 (height, width, 3) in 0-255: noise of six octaves."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 8):
        small = random.normal(size=(2**octave * height // width + 2, 2**octave + 2, 3)).astype(np.float32)
        rows, columns = (
            np.linspace(0, length - 1.001, size) for length, size in zip(small.shape, (height, width), strict=False)
        )
        row, column = rows.astype(int), columns.astype(int)
        down, along = (rows - row)[:, None, None], (columns - column)[None, :, None]
        upper = small[row][:, column] * (1 - along) + small[row][:, column + 1] * along
        lower = small[row + 1][:, column] * (1 - along) + small[row + 1][:, column + 1] * along
        total += (upper * (1 - down) + lower * down) / octave**0.5
    scaled: NDArray[np.int16] = ((total - total.min()) / np.ptp(total) * 255).astype(np.int16)
    return scaled


def _second_of_sound(random: np.random.Generator, second: int) -> av.AudioFrame:
    time = np.arange(SOUND_RATE) / SOUND_RATE
    tones = np.stack([np.sin(2 * np.pi * (hertz + second) * time) for hertz in (200, 300)])
    waveform = 0.3 * tones + 0.05 * random.normal(size=tones.shape)
    frame = av.AudioFrame.from_ndarray(waveform.astype(np.float32), "fltp", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, second * SOUND_RATE, Fraction(1, SOUND_RATE)
    return frame
