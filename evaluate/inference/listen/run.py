"""`make listen`: a page that listens, on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from evaluate.inference.listen.listener import Listener
from evaluate.inference.listen.server import ListenServer
from evaluate.inference.listen.similar import SimilarSounds
from evaluate.inference.sound_model import SoundModel
from evaluate.inference.tag.run import required_base
from evaluate.model import EvaluatedModel
from train.device.device import available_device


@dataclass
class ListenSettings:
    """conf/listen.yaml. Heads, class names, sample rate and clip length come with the checkpoint."""

    # a checkpoint of `make published`, `make train` or `make finetune`, or OWNER/NAME[@REVISION] on Hugging Face
    checkpoint: Path = Path("data/published/soundnet8.pt")
    similar: list[Path] | None = None  # sounds of yours, a folder or a .txt list: the page shows the most similar ones
    out: Path = Path("outputs/listen")  # a folder that keeps the vectors of those sounds for the next time
    # what lift is over: sounds, or a .json of `make tag save_base=...`; null: the checkpoint's own mean
    base: list[Path] | None = None
    top: int = 5  # names for each head and part of a sound, at most
    host: str = "127.0.0.1"  # the address to answer on; 0.0.0.0 lets in whoever reaches this machine
    port: int = 7860  # the port to answer on; 0: any that is free
    device: str = "auto"  # cpu, cuda, or auto (the GPU where there is one)

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top is at least 1, not {self.top}")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port={self.port}: ports are 1 to 65535, and 0 is any that is free")


def run(settings: ListenSettings) -> None:
    """Answer until Ctrl-C. Raises UserError."""
    model = EvaluatedModel.load(settings.checkpoint, available_device(settings.device), heads=True)
    with ListenServer(settings.host, settings.port) as server:  # a port in use is said before anything is computed
        similar = None
        if settings.similar is not None:
            similar = SimilarSounds.embedded(model, SoundModel(model).layer, settings.similar, settings.out)
        base = required_base(settings.base, model)
        # Requests run side by side, each in one thread: threads that share a small network wait for each other.
        torch.set_num_threads(1)
        server.listener = Listener(model, base, similar, settings.top)
        print(f"open {server.url} in a browser; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()  # behind the terminal's ^C
