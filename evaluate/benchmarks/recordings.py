"""The waveforms of a benchmark, read as stage one reads them, and the hash that says which recordings they were."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.benchmarks.benchmark import Benchmark, Recording
from shards.errors import UserError
from shards.files import sha256_of
from shards.media.rejects import UnreadableMedia
from shards.media.wave import read_header
from shards.media.waveform import RESAMPLER, read_waveform


class Recordings:
    """All recordings of a benchmark at one rate, decoded when first asked for; their hash needs only the files."""

    def __init__(self, benchmark: Benchmark, sample_rate: int) -> None:
        self.benchmark, self.sample_rate = benchmark, sample_rate

    @cached_property
    def waveforms(self) -> list[NDArray[np.int16]]:
        """int16 (samples,) each, as long as its file. Raises UserError, naming the file that is damaged."""
        return [self._read(recording) for recording in self.benchmark.recordings]

    @cached_property
    def digests(self) -> list[str]:
        """The sha256 of each file's bytes."""
        return [sha256_of(recording.path) for recording in self.benchmark.recordings]

    @cached_property
    def sha256(self) -> str:
        """Of every file's bytes with its name, class and fold, of the rate and of the resampler."""
        digest = hashlib.sha256(f"{self.sample_rate} {RESAMPLER}".encode())
        for recording, file_digest in zip(self.benchmark.recordings, self.digests, strict=True):
            category = ",".join(self.benchmark.classes[label] for label in (recording.label, *recording.others))
            digest.update(f"\n{recording.name} {category} {recording.fold} {file_digest}".encode())
        return digest.hexdigest()

    @property
    def samples(self) -> int:
        """Samples of the length that every recording is brought to, if it is shorter."""
        return round(self.benchmark.spec.seconds * self.sample_rate)

    def longer_than(self, seconds: float) -> list[int]:
        """Which recordings are, as indices."""
        return [index for index, each in enumerate(self.waveforms) if len(each) > seconds * self.sample_rate]

    def repeated(self, index: int) -> NDArray[np.int16]:
        """Recording `index`, repeated in a circle to the benchmark's length as the authors do, if it is shorter."""
        waveform = self.waveforms[index]
        return np.resize(waveform, max(self.samples, len(waveform)))

    def _read(self, recording: Recording) -> NDArray[np.int16]:
        spec = self.benchmark.spec
        try:
            require_whole(recording.path)
            waveform = read_waveform(recording.path, self.sample_rate)
        except UnreadableMedia as error:
            raise UserError(f"{recording.path} cannot be read ({error}): get this file of {spec.name} again") from None
        seconds = len(waveform) / self.sample_rate
        if seconds < spec.min_seconds:
            raise UserError(
                f"{recording.path} has {seconds:.2f} s of sound, the recordings of {spec.name} have "
                f"{spec.seconds:g} s: get this file again"
            )
        return waveform


def require_whole(path: Path) -> None:
    """Raise UnreadableMedia for a file that ends before its header says: FFmpeg would read what is there."""
    header = read_header(path)
    if header and header.shortfall:
        raise UnreadableMedia("damaged", str(header.shortfall))
