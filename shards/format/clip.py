"""The clip: how many samples of sound, and which label windows, make one training example."""

from __future__ import annotations

from dataclasses import dataclass

from shards.errors import given


@dataclass(frozen=True)
class ClipSpec:
    """Length and label grid of one example (paper section 2 and 3.2; one label per 5 s in the authors' code).

    Everything else about lengths is derived here and nowhere set a second time.
    """

    sample_rate: int = 22_050  # samples a second
    seconds: float = 20.0  # length of a clip
    windows: int = 4  # labels of a clip, each of an equal part of it
    frames_per_window: int = 1  # frames that a label is the mean over

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.seconds <= 0 or self.windows < 1 or self.frames_per_window < 1:
            values = given(self, "sample_rate", "seconds", "windows", "frames_per_window")
            raise ValueError(f"a clip needs sample_rate, seconds, windows and frames_per_window above 0, not {values}")
        samples = self.sample_rate * self.seconds
        if samples != int(samples) or int(samples) % self.windows:
            raise ValueError(
                f"{self.seconds} s at {self.sample_rate} Hz are {samples:g} samples, which do not divide into "
                f"{self.windows} label windows of whole samples: change clip.seconds or clip.windows"
            )

    @property
    def samples(self) -> int:
        return int(self.sample_rate * self.seconds)

    @property
    def window_samples(self) -> int:
        return self.samples // self.windows

    @property
    def window_seconds(self) -> float:
        return self.seconds / self.windows

    @property
    def frames(self) -> int:
        """Frames a full clip is labelled by."""
        return self.windows * self.frames_per_window

    def frame_times(self, windows: int, window_seconds: float | None = None) -> list[float]:
        """Seconds from the clip's start at which frames are taken: centres of equal parts of each window.

        A video shorter than one window passes its own length as `window_seconds`.
        """
        part = (self.window_seconds if window_seconds is None else window_seconds) / self.frames_per_window
        return [(index + 0.5) * part for index in range(windows * self.frames_per_window)]
