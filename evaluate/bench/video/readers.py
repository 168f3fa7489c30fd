"""What is timed: our reader in its modes, a plain full decode, and readers of the peers' kind. All do the same work.

That work: the frame at the centre of every 5 s, short side 256, centre 224 x 224, and all sound as 22,050 Hz mono.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av

from pipeline.decoder.crop import FrameResizer, ResizeCrop
from pipeline.decoder.reader import VideoReader
from pipeline.decoder.settings import DecodeSettings
from shards.format.clip import ClipSpec
from shards.media.demux import Demuxer
from shards.media.file import MAX_PIXELS
from shards.media.waveform import AudioTrack, read_waveform

SPEC = ClipSpec()
VIEW = ResizeCrop(256, 224)
REPEATS = 3  # films of one FrameReader of video2numpy, whose processes cost as much to start as a film of 10 s


def exact(path: Path) -> None:
    """Our reader: the frames displayed at those times, one pass."""
    _read(path, "exact")


def decode_all(videos: Path, workers: int) -> None:
    """Every video read by the reader of stage one, in so many processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(exact, sorted(videos.iterdir())))


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
    with Demuxer(path) as media:
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


def torchcodec_blocks(path: Path) -> None:
    """Its packet-level blocks: an index from a scan, a seek where a key frame lies ahead, wanted frames converted."""
    blocks = import_module("torchcodec.decoders")
    functional = import_module("torchvision.transforms.v2.functional")
    demuxer = blocks.Demuxer(str(path), streams="video")
    (stream,) = demuxer.streams
    index, decoder, converter = stream.scan(), stream.make_decoder(), blocks.ColorConverter()
    frames: Iterator[Any] = iter(())
    reached = -1.0  # of the last decoded frame, seconds

    def decoded() -> Iterator[Any]:
        for packet in demuxer:
            yield from decoder.decode(packet)
        yield from decoder.drain()

    for window in range(int(index.end_stream_seconds_from_content / SPEC.window_seconds)):
        wanted = float(index.pts_seconds[index.index_at((window + 0.5) * SPEC.window_seconds)])
        if (key_frame := index.key_frame_seconds_for(wanted)) > reached:
            demuxer.seek(key_frame)
            decoder.reset()
            frames = decoded()
        frame = next(frame for frame in frames if frame.pts_seconds >= wanted)
        reached = frame.pts_seconds
        picture = functional.resize(converter.convert(frame).data, VIEW.resize)
        functional.center_crop(picture, [VIEW.crop, VIEW.crop]).contiguous()
    sound = blocks.Demuxer(str(path), streams="audio")
    voice, resampler = sound.streams[0].make_decoder(), blocks.AudioConverter(SPEC.sample_rate, 1)
    for samples in chain.from_iterable(voice.decode(packet) for packet in sound):
        resampler.convert(samples)
    for samples in voice.drain():
        resampler.convert(samples)
    resampler.drain()


def decord(path: Path) -> None:
    """Frames as one batch by an index that it reads first, scaled inside the decoder; its AudioReader for the sound."""
    library = import_module("decord")
    with av.open(str(path)) as container:
        width, height = container.streams.video[0].width, container.streams.video[0].height
    scale = VIEW.resize / min(width, height)
    size = {"width": round(width * scale), "height": round(height * scale)}
    reader = library.VideoReader(str(path), num_threads=1, **size)
    begins = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    count = int((begins[-1] + 1 / reader.get_avg_fps()) / SPEC.window_seconds)
    centres = [(window + 0.5) * SPEC.window_seconds for window in range(count)]
    pictures = reader.get_batch((begins.searchsorted(centres, "right") - 1).tolist()).asnumpy()
    top, left = ((length - VIEW.crop) // 2 for length in pictures.shape[1:3])
    pictures[:, top : top + VIEW.crop, left : left + VIEW.crop].copy()
    library.AudioReader(str(path), sample_rate=SPEC.sample_rate, mono=True)[:].asnumpy()


def video2numpy(path: Path) -> None:
    """clip-video-encode's own FrameReader, a worker, a frame every 5 s, 3 films a start; ffmpeg for the sound."""
    with av.open(str(path)) as container:
        step = max(round(SPEC.window_seconds * float(container.streams.video[0].average_rate or 25)), 1)
    reading = import_module("video2numpy.frame_reader")
    with redirect_stdout(io.StringIO()):  # it tells of its workers
        films = [str(path)] * REPEATS
        reader = reading.FrameReader(films, take_every_nth=step, resize_size=VIEW.crop, memory_size=0.25)
        reader.start_reading()
        if len([info for _, info in reader]) < REPEATS:
            raise RuntimeError("it returned no frames")
    for _ in range(REPEATS):
        ffmpeg_sound(path)


def ffmpeg_binary() -> str | None:
    """ffmpeg from the PATH, else the one in the imageio-ffmpeg package; None where there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    if find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


Reader = Callable[[Path], None]
NEEDS: dict[Reader, tuple[str, str, list[str]]] = {  # what is imported, what of it, and the packages that bring it
    peers: ("cv2", "VideoCapture", ["opencv-python-headless", "opencv-python"]),
    video2numpy: ("video2numpy.frame_reader", "FrameReader", ["video2numpy"]),  # asks for numpy<2, and does without
    torchcodec: ("torchcodec.decoders", "VideoDecoder", ["torchcodec"]),
    torchcodec_blocks: ("torchcodec.decoders", "Demuxer", ["torchcodec"]),
    decord: ("decord", "AudioReader", ["decord2", "decord"]),
}


def lacks(reader: Reader) -> str | None:
    """What must be installed before this reader can be timed; None if nothing."""
    if reader in (peers, video2numpy, ffmpeg_sound, ffmpeg_sound_file) and ffmpeg_binary() is None:
        return "ffmpeg, or the package imageio-ffmpeg"
    if reader not in NEEDS:
        return None
    module, name, packages = NEEDS[reader]
    try:
        getattr(import_module(module), name)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"{' or '.join(packages)} ({(str(error).splitlines() or [''])[0]})"
    return None


def version(reader: Reader) -> str:
    """The package that a peer is of and its version; empty for a reader that is of none."""
    _, _, packages = NEEDS.get(reader, ("", "", []))
    found = [name for name in packages if any(distributions(name=name))]
    return f"{found[0]} {next(iter(distributions(name=found[0]))).version}" if found else ""


def _read(path: Path, sampling: str) -> None:
    for _ in VideoReader(path, SPEC, [VIEW], DecodeSettings(sampling=sampling)).clips():
        pass


def _ffmpeg(*arguments: str) -> bytes:
    return subprocess.run(
        [ffmpeg_binary() or "ffmpeg", "-v", "error", *arguments], capture_output=True, check=True
    ).stdout
