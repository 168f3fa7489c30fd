"""A vision teacher: a frozen network that turns pictures into posteriors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.teachers.network import input_transform, last_linear, load_network
from pipeline.teachers.precision import require_precision
from pipeline.teachers.spec import TeacherSpec
from pipeline.teachers.weights import existing_weights
from pipeline.teachers.words import WordClassifier
from shards.errors import ContractError, UserError
from shards.files import sha256_of
from shards.format.manifest import TeacherCard


class Teacher:
    """A frozen network on a device.

    `precision` is float32 (no TF32) or bfloat16. With bfloat16 the last linear layer stays in float32, since logits
    rounded to 8 bits are off by percents of a posterior.
    """

    def __init__(self, spec: TeacherSpec, card: TeacherCard, device: str, precision: str = "float32") -> None:
        path = existing_weights(spec)
        found = sha256_of(path)
        if found != card.weights_sha256:
            raise ContractError(
                f"{path} has sha256 {found}, the teacher's card {card.weights_sha256}: put the file back, or write "
                "shards into a new folder"
            )
        require_precision(precision, device)
        self.device = torch.device(device)
        self.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.transform = input_transform(spec)
        self.classes = len(card.classes)
        network = load_network(spec.architecture, path, self.classes)
        if card.text is not None:
            network = WordClassifier(network, card)
        self._network = network.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._last = last_linear(network)
        self._penultimate: Tensor | None = None
        if self._last is not None:
            self._last.float().register_forward_pre_hook(self._keep_penultimate)
        self._mean = torch.tensor(self.transform.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.transform.std, device=self.device).view(1, 3, 1, 1)

    def posteriors(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax over all classes, float32 (n, classes), of RGB pictures uint8 (n, crop, crop, 3)."""
        return torch.softmax(self._logits(pictures).float(), dim=1).cpu().numpy()

    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Inputs of the last linear layer (fc7 of AlexNet and VGG), float32 (n, d), of RGB uint8 (n, crop, crop, 3).

        Raises UserError for a network without a linear layer.
        """
        if self._last is None:
            raise UserError("this network ends in a convolution: it has no penultimate features to give")
        self._logits(pictures)
        assert self._penultimate is not None
        return self._penultimate.cpu().numpy()

    def on_layer(self, touch: Callable[[], None]) -> None:
        """Have `touch` called whenever a layer is computed; on a GPU, when it is queued."""
        for layer in self._network.modules():
            layer.register_forward_hook(lambda *_: touch())

    def _logits(self, pictures: NDArray[np.uint8]) -> Tensor:
        crop = self.transform.crop
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (crop, crop, 3):
            raise ValueError(f"pictures must be uint8 (n, {crop}, {crop}, 3), not {pictures.dtype} {pictures.shape}")
        with torch.inference_mode(), _exact():
            logits: Tensor = self._network(self._normalised(pictures))
        return logits  # (n, classes)

    def _normalised(self, pictures: NDArray[np.uint8]) -> Tensor:
        # (n, crop, crop, 3) permuted is (n, 3, crop, crop) in channels_last order: no byte moves.
        pixels = torch.tensor(np.ascontiguousarray(pictures), device=self.device).permute(0, 3, 1, 2).float()
        if self.transform.channels == "bgr":
            pixels = pixels.flip(1)
        return ((pixels - self._mean) / self._std).to(self.dtype, memory_format=torch.channels_last)

    def _keep_penultimate(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        self._penultimate = inputs[0].float()  # (n, d)
        return (self._penultimate,)


@contextmanager
def _exact() -> Iterator[None]:
    """On CUDA: float32 is float32 (convolutions use TF32 unasked), and the same algorithm is taken on every run.

    What the process has set for its other networks is put back.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = False  # by these names all others can be read too
        cudnn.benchmark, cudnn.deterministic = False, True
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
