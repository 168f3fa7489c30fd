"""What is timed: our reader in its modes, a plain full decode, and readers of the peers' kind. All do the same work.

That work: the frame at the centre of every 5 s, short side 256, centre 224 x 224, and all sound as 22,050 Hz mono.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from shards.media.file import MAX_PIXELS, MediaFile
from shards.media.waveform import AudioTrack, read_waveform

SPEC = ClipSpec()
VIEW = ResizeCrop(256, 224)


def exact(path: Path) -> None:
    """Our reader: the frames displayed at those times, one pass."""
    _read(path, "exact")


def tolerance(path: Path) -> None:
    """Our reader: the cheapest frames within half a second of those times."""
    _read(path, "tolerance")


def keyframe(path: Path) -> None:
    """Our reader: the nearest key frames."""
    _read(path, "keyframe")


def sound_alone(path: Path) -> None:
    """Our reader: sound only."""
    read_waveform(path, SPEC.sample_rate)


def full_decode(path: Path) -> None:
    """Every frame decoded in turn, in one pass with the sound."""
    with MediaFile(path) as media:
        picture, voice = media.video_stream(), media.audio_streams()[0]
        resizer, sound, upcoming, last = FrameResizer([VIEW], None, MAX_PIXELS), AudioTrack(SPEC.sample_rate), 2.5, None
        for packet in media.packets(picture, voice):
            if packet.stream_index == voice.index:
                sound.push(media.decoded(voice.codec_context.decode, packet))
                continue
            for frame in media.decoded(picture.codec_context.decode, packet):
                if last is not None and frame.time > upcoming:
                    resizer.pictures(last)
                    upcoming += SPEC.window_seconds
                last = frame
        sound.finish()
        sound.take_ready()


def peers(path: Path) -> None:
    """clip-video-encode's way with pictures (OpenCV grabs every frame, retrieves the wanted), ffmpeg for the sound."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    step = max(round(SPEC.window_seconds * (capture.get(cv2.CAP_PROP_FPS) or 25)), 1)
    index = 0
    while capture.grab():
        if index % step == step // 2:
            _, picture = capture.retrieve()
            scale = VIEW.resize / min(picture.shape[:2])
            picture = cv2.cvtColor(cv2.resize(picture, None, None, scale, scale, cv2.INTER_CUBIC), cv2.COLOR_BGR2RGB)
            top, left = ((length - VIEW.crop) // 2 for length in picture.shape[:2])
            picture[top : top + VIEW.crop, left : left + VIEW.crop].copy()
        index += 1
    capture.release()
    ffmpeg_sound(path)


def ffmpeg_sound(path: Path) -> None:
    """ffmpeg as a child process, samples through a pipe."""
    _ffmpeg("-i", str(path), "-vn", "-ar", str(SPEC.sample_rate), "-ac", "1", "-f", "s16le", "-")


def ffmpeg_sound_file(path: Path) -> None:
    """video2dataset's audio_rate_subsampler: ffmpeg resamples and encodes into a file, which is read."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sound.m4a"
        _ffmpeg("-i", str(path), "-vn", "-ar", str(SPEC.sample_rate), "-f", "mp4", str(target))
        target.read_bytes()


def torchcodec(path: Path) -> None:
    """Its exact mode, which first reads the whole file for an index; frames scaled and cut inside the decoder."""
    decoders, transforms = import_module("torchcodec.decoders"), import_module("torchcodec.transforms")
    size = decoders.VideoDecoder(str(path), seek_mode="approximate").metadata
    scale = VIEW.resize / min(size.height, size.width)
    shape = (round(size.height * scale), round(size.width * scale))
    views = [transforms.Resize(shape), transforms.CenterCrop((VIEW.crop, VIEW.crop))]
    decoder = decoders.VideoDecoder(str(path), num_ffmpeg_threads=1, transforms=views)
    count = int(decoder.metadata.end_stream_seconds / SPEC.window_seconds)
    decoder.get_frames_played_at([(index + 0.5) * SPEC.window_seconds for index in range(count)])
    decoders.AudioDecoder(str(path), sample_rate=SPEC.sample_rate, num_channels=1).get_all_samples()


def ffmpeg_binary() -> str | None:
    """ffmpeg from the PATH, else the one in the imageio-ffmpeg package; None where there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    if find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def lacks(reader: Callable[[Path], None]) -> str | None:
    """What must be installed before this reader can be timed; None if nothing."""
    if reader in (peers, ffmpeg_sound, ffmpeg_sound_file) and ffmpeg_binary() is None:
        return "ffmpeg, or the package imageio-ffmpeg"
    if reader is peers and find_spec("cv2") is None:
        return "opencv-python-headless"
    if reader is torchcodec:
        try:
            import_module("torchcodec.decoders")
        except (ImportError, OSError, RuntimeError):
            return "torchcodec, and the FFmpeg libraries that it looks for"
    return None


def _read(path: Path, sampling: str) -> None:
    for _ in VideoReader(path, SPEC, [VIEW], DecodeSettings(sampling=sampling)).clips():
        pass


def _ffmpeg(*arguments: str) -> bytes:
    return subprocess.run(
        [ffmpeg_binary() or "ffmpeg", "-v", "error", *arguments], capture_output=True, check=True
    ).stdout
