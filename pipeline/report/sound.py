"""A clip's sound for a page: an MP3 to listen to, a spectrogram and a waveform to look at."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
WINDOW = 1_024  # samples of a spectrum
BANDS = 96
LOWEST_HZ = 60.0
RANGE_DB = 70.0  # what lies further below the loudest point is not drawn
COLUMNS = 480  # of either picture
INK = (20, 130, 140)  # reads on white and on near-black


def playable(waveform: NDArray[np.int16], sample_rate: int) -> tuple[str, bytes]:
    """(media type, file) small enough to embed: MP3, or WAV at a rate that MP3 does not know."""
    stream = io.BytesIO()
    if sample_rate not in MP3_RATES:
        soundfile.write(stream, waveform, sample_rate, format="WAV", subtype="PCM_16")
        return "audio/wav", stream.getvalue()
    soundfile.write(stream, waveform, sample_rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.7)
    return "audio/mpeg", stream.getvalue()


def spectrogram(waveform: NDArray[np.int16], sample_rate: int) -> bytes:
    """A PNG of BANDS rows, low to high on a logarithmic axis, at most COLUMNS wide: louder is more opaque."""
    columns = min(COLUMNS, max(len(waveform) // (WINDOW // 4), 1))
    padded = np.pad(waveform.astype(np.float64) / 2**15, (WINDOW // 2, WINDOW))
    starts = np.linspace(0, len(waveform), columns, endpoint=False).astype(int)
    pieces = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)  # (columns, WINDOW)
    power = np.abs(np.fft.rfft(pieces, axis=1)) ** 2
    hertz = np.fft.rfftfreq(WINDOW, 1 / sample_rate)
    centres = np.geomspace(LOWEST_HZ, sample_rate / 2, BANDS)
    # Interpolated, not summed: in the lowest octaves a band is narrower than a bin.
    bands = np.stack([np.interp(centres, hertz, column) for column in power])
    decibels = 10 * np.log10(np.maximum(bands, 1e-12))
    level = np.clip(1 + (decibels - decibels.max()) / RANGE_DB, 0, 1)
    image = Image.fromarray((255 * level.T[::-1]).astype(np.uint8), mode="P")
    image.putpalette([*INK] * 256)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, transparency=bytes(range(256)))
    return stream.getvalue()


def outline(waveform: NDArray[np.int16], *, width: int, height: int) -> str:
    """The waveform as an SVG path within (width, height): the extremes of each of COLUMNS parts, as loud as it gets."""
    parts = np.array_split(waveform.astype(np.float64), min(COLUMNS, len(waveform)))
    peak = max(float(np.abs(waveform.astype(np.int32)).max()), 1.0)
    x = np.linspace(0, width, len(parts))
    above, below = (
        height / 2 * (1 - np.array([extreme(part) for part in parts]) / peak) for extreme in (np.max, np.min)
    )
    points = [*zip(x, above, strict=True), *zip(x[::-1], below[::-1], strict=True)]
    return "M" + "L".join(f"{left:.0f},{top:.1f}" for left, top in points) + "Z"
