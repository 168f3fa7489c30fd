"""What the page asks: the names, the picture and the neighbours of a file, or of the newest seconds of a microphone."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.inference.array import resampled
from evaluate.inference.features import too_short
from evaluate.inference.inputs import stream_sound
from evaluate.inference.listen.similar import SimilarSounds
from evaluate.inference.listen.spectrogram import spectrogram
from evaluate.inference.posteriors import posteriors_as_they_come
from evaluate.inference.tag.baseline import Baseline
from evaluate.inference.tag.formats import record_of
from evaluate.inference.tag.live import newest, part_samples
from evaluate.inference.tag.tags import Span, tags_of
from evaluate.model import EvaluatedModel
from shards.errors import UserError
from shards.media.waveform import stream_waveform

MOST_MINUTES = 10  # of a file: 26 MB of samples
NEIGHBOURS = 8
PLAYED_SECONDS = 30  # of a neighbour

Answer = dict[str, Any]  # as JSON has it


@dataclass(frozen=True)
class Listener:
    """A network, what its lifts are over, and the sounds that others are compared with, if any."""

    model: EvaluatedModel
    base: Baseline
    similar: SimilarSounds | None
    top: int

    @property
    def facts(self) -> Answer:
        """What the page says of itself."""
        clip = self.model.checkpoint.clip
        return {
            "checkpoint": str(self.model),
            "lift_over": self.base.origin,
            "heads": list(self.model.checkpoint.classes),
            "sample_rate": clip.sample_rate,
            "most_minutes": MOST_MINUTES,
            "clip_seconds": clip.seconds,
            "part_seconds": part_samples(self.model) / clip.sample_rate,
            "similar": None if self.similar is None else len(self.similar.paths),
        }

    def hear_file(self, path: Path) -> Iterator[Answer]:
        """First the picture, then the names so far, every few clips; with the last ones the neighbours.

        Raises UnreadableMedia, and UserError for a sound that is too long, before the first.
        """
        rate, repairs = self.model.checkpoint.clip.sample_rate, list[str]()
        waveform = self._read(stream_waveform(path, rate, repairs.append))
        yield {"seconds": len(waveform) / rate, "repairs": repairs, **_picture(waveform, rate)}
        seconds = np.split(waveform, range(rate, len(waveform), rate))  # in one piece it would go through all at once
        for sound in posteriors_as_they_come(self.model, seconds):
            tags = tags_of(sound, self.base, self.model.checkpoint.classes, top=self.top)
            yield {"whole": record_of(tags.whole), "parts": [record_of(part) for part in tags.parts]}
        yield {"done": True, "similar": self._neighbours(tags.whole, seconds)}

    def hear_live(self, samples: NDArray[np.int16], sample_rate: int, end_seconds: float) -> Answer:
        """The names of the newest part of a sound, and a picture of it: int16 (samples,), the last up to `end_seconds`.

        More than a clip of them is of no use. Raises UserError for what is no sound.
        """
        clip, part = self.model.checkpoint.clip, part_samples(self.model)
        held = np.concatenate(list(resampled(samples, sample_rate, clip.sample_rate)))[-clip.samples :]
        end = max(len(held), round(end_seconds * clip.sample_rate))
        span = newest(self.model, self.base, held, end, top=self.top)
        similar = self._neighbours(span, [held[-part:]])
        return {**record_of(span), **_picture(held, clip.sample_rate), "similar": similar}

    def neighbour(self, index: int) -> bytes | None:
        """The beginning of a sound of `similar` as the network hears it: a WAV file; None where there is none such.

        Raises UnreadableMedia.
        """
        if self.similar is None or not 0 <= index < len(self.similar.paths):
            return None
        rate = self.model.checkpoint.clip.sample_rate
        pieces, left, out = stream_sound(self.similar.paths[index], rate), PLAYED_SECONDS * rate, io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            for piece in pieces:
                file.writeframes(piece[:left].astype("<i2").tobytes())
                left -= len(piece)
                if left <= 0:
                    break
        return out.getvalue()

    def _read(self, pieces: Iterator[NDArray[np.int16]]) -> NDArray[np.int16]:
        most = MOST_MINUTES * 60 * self.model.checkpoint.clip.sample_rate
        held, samples = list[NDArray[np.int16]](), 0
        for piece in pieces:
            held.append(piece)
            samples += len(piece)
            if samples > most:
                raise UserError(
                    f"it is longer than {MOST_MINUTES} minutes: cut it, or use `make tag`, which takes any length"
                )
        if not samples:
            raise too_short()
        return np.concatenate(held)

    def _neighbours(self, span: Span, pieces: list[NDArray[np.int16]]) -> list[Answer] | None:
        if self.similar is None or span.unnamed is not None:
            return None
        return [
            {"index": index, "name": _text(self.similar.paths[index]), "cosine": round(cosine, 3)}
            for index, cosine in self.similar.nearest(pieces, NEIGHBOURS)
        ]


def _picture(waveform: NDArray[np.int16], sample_rate: int) -> Answer:
    levels, seconds = spectrogram(waveform, sample_rate)
    return {
        "levels": base64.b64encode(levels.tobytes()).decode(),
        "bands": levels.shape[1],
        "column_seconds": seconds,
    }


def _text(path: Path) -> str:
    return path.name.encode(errors="replace").decode()
