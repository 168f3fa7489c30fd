"""A student's layers as data, and every length that follows from them: steps, shortest input, receptive field."""

from __future__ import annotations

from dataclasses import dataclass

from shards.errors import UserError, given


@dataclass(frozen=True)
class Layer:
    """One column of the paper's Table 1 or 2: with `filters` a convolution, without a max pool.

    `kind` names another module of blocks.py: `mean` is a pool, `residual` two convolutions with a shortcut. The
    output layer has no `filters` either: it is a convolution per head, with as many as the head has classes.
    """

    name: str  # the layer's name
    kernel: int  # steps of its input that one step of its output sees
    stride: int  # steps of its input from one of its steps to the next
    padding: int = 0  # zeros before and behind its input
    # channels of a convolution; null: a pool, or the output layer, which has as many as the head has classes
    filters: int | None = None
    # another module of train/model/blocks.py: mean or residual; null: a convolution, or without filters a max pool
    kind: str | None = None

    def __post_init__(self) -> None:
        if min(self.kernel, self.stride) < 1 or self.padding < 0 or (self.filters is not None and self.filters < 1):
            values = given(self, "kernel", "stride", "padding", "filters")
            raise ValueError(
                f"layer {self.name}: kernel, stride and filters are above 0, padding at least 0, not {values}"
            )
        if self.kind == "residual" and self.kernel != 2 * self.padding + 1:
            # The second convolution keeps the steps of the first, which the shortcut has too.
            values = given(self, "kernel", "padding")
            raise ValueError(f"layer {self.name} is residual, and its kernel is twice its padding and 1, not {values}")

    @property
    def is_pool(self) -> bool:
        return self.filters is None

    @property
    def span(self) -> int:
        """Steps of its input that one step depends on."""
        return 1 + (self.kernel - 1) * self._reaches

    @property
    def margin(self) -> int:
        """Steps by which the first step reaches out of its input."""
        return self.padding * self._reaches

    @property
    def _reaches(self) -> int:
        # A residual layer's second convolution sees the first one's steps, which are `stride` apart.
        return 1 + self.stride if self.kind == "residual" else 1

    def steps(self, length: int) -> int:
        """Steps out of `length` steps in; incomplete windows at the end are dropped (`floor`), as in Torch7."""
        if length == 0:
            return 0  # padding alone is no sound
        return max(0, (length + 2 * self.margin - self.span) // self.stride + 1)

    def shortest(self, steps: int) -> int:
        """The fewest steps in that give `steps` out."""
        return max(1, (steps - 1) * self.stride + self.span - 2 * self.margin)


@dataclass(frozen=True)
class StudentSpec:
    """A network as conf/student/*.yaml lists it and as a checkpoint carries it.

    `kind` is what is built from the layers: `student` (student.py) or `autoencoder` (autoencoder.py).
    Lengths are in samples; a `layer` of None means the output layer.
    """

    name: str  # the network's name, in checkpoints and tables
    layers: list[Layer]  # its hidden layers, in order
    output: Layer  # its output layer, of which every head has its own
    kind: str = "student"  # what is built from the layers: student or autoencoder

    def __post_init__(self) -> None:
        names = [layer.name for layer in [*self.layers, self.output]]
        if len(set(names)) < len(names):
            raise ValueError(f"student {self.name}: two layers have the same name: {names}")
        if not self.layers or self.layers[0].is_pool:
            raise ValueError(f"student {self.name}: the first layer must be a convolution with filters")

    def through(self, layer: str | None = None) -> list[Layer]:
        """The layers up to and with `layer`. Raises UserError where there is none of that name."""
        layers = [*self.layers, self.output]
        names = [each.name for each in layers]
        if layer is None:
            return layers
        if layer not in names:
            raise UserError(f"{self.name} has no layer {layer}: choose among {', '.join(names)}")
        return layers[: names.index(layer) + 1]

    def steps(self, samples: int, layer: str | None = None) -> int:
        """How many steps `layer` has for that many samples; 0 where it has none."""
        for each in self.through(layer):
            samples = each.steps(samples)
        return samples

    def min_samples(self, layer: str | None = None) -> int:
        """The shortest input that gives `layer` one step."""
        length = 1
        for each in reversed(self.through(layer)):
            length = each.shortest(length)
        return length

    def stride(self, layer: str | None = None) -> int:
        """Samples from one step of `layer` to the next."""
        stride = 1
        for each in self.through(layer):
            stride *= each.stride
        return stride

    def receptive_field(self, layer: str | None = None) -> int:
        """Samples that one step of `layer` depends on (some of them padding at the ends of the sound)."""
        field, stride = 1, 1
        for each in self.through(layer):
            field += (each.span - 1) * stride
            stride *= each.stride
        return field

    def centre(self, step: int, layer: str | None = None) -> float:
        """Sample at the middle of what step number `step` of `layer` sees, from the sound's start."""
        padding, stride = 0, 1
        for each in self.through(layer):
            padding += each.margin * stride
            stride *= each.stride
        return step * stride - padding + (self.receptive_field(layer) - 1) / 2
