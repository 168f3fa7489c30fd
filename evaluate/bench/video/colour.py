"""How far a teacher agrees with itself on pictures of a film that are coded in other colours than sRGB.

`make bench-colour videos=FOLDER`: frames of the folder's videos, scaled to 720 lines, are made YCbCr of 10 bits (4:2:0)
of one kind and another by the standards' formulas, read as stage one reads them, and labelled by EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from evaluate.bench.workloads import settings_of
from pipeline.decoder.colour import HLG, HLG_GAMMA, HLG_NITS, PQ, WHITE_NITS
from pipeline.decoder.crop import FrameResizer
from pipeline.executor.resources import heads_of
from pipeline.teachers.cards import cards
from pipeline.teachers.teacher import Teacher
from pipeline.videos.listing import find_videos
from shards.cli.pipes import ending_quietly
from shards.media.file import MAX_PIXELS, MediaFile
from shards.storage import address

HEIGHT = 720
BT709, BT601, BT2020, UNSAID = 1, 6, 9, 2
LUMINANCE = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}  # of red and of blue, H.273 table 4
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
SDR_TAGS = {"colorspace": BT709, "color_primaries": BT709, "color_trc": BT709}
CODINGS = {  # what a row says: (transfer of the pictures, tags that the reader sees)
    "BT.709, tagged": (BT709, SDR_TAGS),
    "BT.709, untagged": (BT709, {}),
    "BT.709, read as BT.601": (BT709, {"colorspace": BT601}),
    "PQ": (PQ, {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": PQ}),
    "PQ, read as SDR": (PQ, SDR_TAGS | {"colorspace": BT2020}),
    "HLG": (HLG, {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": HLG}),
    "HLG, read as SDR": (HLG, SDR_TAGS | {"colorspace": BT2020}),
}
Picture = NDArray[np.uint8]


def masters(path: Path, count: int) -> Iterator[Picture]:
    """uint8 RGB (720, width, 3): `count` frames, evenly among the key frames."""
    with MediaFile(path) as media:
        keys = sum(packet.is_keyframe for packet in media.container.demux(media.video_stream()))
    wanted = set(np.linspace(0, keys - 1, min(count, keys)).astype(int).tolist())
    with MediaFile(path) as media:
        stream = media.video_stream()
        stream.codec_context.skip_frame = "NONKEY"
        frames = [frame for index, frame in enumerate(media.container.decode(stream)) if index in wanted]
    for frame in frames:
        width = round(frame.width * HEIGHT / frame.height / 2) * 2
        yield frame.reformat(width, HEIGHT, "rgb24").to_ndarray().astype(np.uint8, copy=False)


def coded(picture: Picture, transfer: int, tags: dict[str, int]) -> av.VideoFrame:
    """The picture as a frame of YCbCr, limited range; white of HDR at WHITE_NITS."""
    signal = picture / 255
    if transfer != BT709:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4) @ TO_BT2020.T
        signal = _pq(light * WHITE_NITS) if transfer == PQ else _hlg(light * WHITE_NITS)
    red, blue = LUMINANCE[BT709 if transfer == BT709 else BT2020]
    y = signal @ [red, 1 - red - blue, blue]
    cb, cr = (signal[..., 2] - y) / (2 * (1 - blue)), (signal[..., 0] - y) / (2 * (1 - red))
    height, width = y.shape
    halves = [256 + 4 * 224 * half.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) + 256 for half in (cb, cr)]
    codes = np.concatenate([(64 + 4 * 219 * y).ravel(), *(half.ravel() for half in halves)])
    frame = av.VideoFrame.from_ndarray(np.rint(codes).astype(np.uint16).reshape(-1, width), format="yuv420p10le")
    for name, value in ({"colorspace": UNSAID, "color_range": 1} | tags).items():
        setattr(frame, name, value)
    return frame


def _pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, the inverse EOTF."""
    root = (nits.clip(0) / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375)


def _hlg(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: the inverse OOTF of a display of 1,000 nits, then the OETF."""
    display = nits.clip(0) / HLG_NITS
    luminance = (display @ [0.2627, 0.6780, 0.0593]).clip(1e-9)[..., None]
    scene = display * luminance ** (1 / HLG_GAMMA - 1)
    high = 0.17883277 * np.log(12 * scene.clip(1 / 12) - 0.28466892) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def _as_jpeg(picture: Picture, quality: int) -> Picture:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def measure(folder: str, count: int) -> Iterator[tuple[str, float, float]]:
    """(coding, top-1 agreement, mean KL in nats) against the SDR pictures."""
    settings = settings_of(Path(folder), Path("."))
    ((spec, card),) = heads_of(settings.teachers, cards(settings.teachers)).values()
    teacher = Teacher(spec, card, "cpu")
    resizer = FrameResizer([teacher.transform.view], None, MAX_PIXELS)
    listing = find_videos(folder)
    seen = dict[str, list[Picture]]()
    for path in listing.paths:
        for master in masters(Path(address(listing.root, path)), count):
            small = resizer.pictures(av.VideoFrame.from_ndarray(master, format="rgb24"))[0]
            shown = {name: resizer.pictures(coded(master, *coding))[0] for name, coding in CODINGS.items()}
            jpegs = {f"JPEG of quality {quality}": _as_jpeg(small, quality) for quality in (75, 90, 95)}
            for name, picture in {"": small, **shown, **jpegs}.items():
                seen.setdefault(name, []).append(picture)
    truth, *others = (teacher.posteriors(np.stack(pictures)) for pictures in seen.values())
    for name, found in zip(list(seen)[1:], others, strict=True):
        kl = (truth * (np.log(truth.clip(1e-12)) - np.log(found.clip(1e-12)))).sum(1).mean()
        yield f"{name} ({len(truth)} frames)", float((truth.argmax(1) == found.argmax(1)).mean()), float(kl)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluate.bench.video.colour", description=__doc__)
    parser.add_argument("settings", nargs="*", help="videos=FOLDER frames=8 (of each video)")
    settings = dict(word.split("=", 1) for word in parser.parse_args().settings)
    if settings.keys() - {"videos", "frames"} or "videos" not in settings:
        parser.error("takes videos=FOLDER, and frames=8")
    table = Table("coded as", "top-1 agreement", "KL, nats")
    for name, agreement, kl in measure(settings["videos"], int(settings.get("frames", "8"))):
        table.add_row(name, f"{100 * agreement:.1f} %", f"{kl:.3f}")
    Console().print(table)


if __name__ == "__main__":
    with ending_quietly():
        main()
