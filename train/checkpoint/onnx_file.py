"""A network as an ONNX file: a waveform in, log posteriors and features out, for any batch and any length of sound."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shards.cli.commands import install
from shards.errors import ContractError, UserError
from train.checkpoint.checkpoint import Checkpoint
from train.model.student import SCALE, Student, Trunk, scaled

EXTRA = install("export")
TOLERANCE = 1e-4  # of an output's largest value: what sums of float32 in another order differ by is a tenth of it
BATCHES = (1, 3, 2)  # of the three sounds that a file is checked with
EXAMPLE = 2  # sounds it is traced with; 1 would be taken for a constant


class Graph(nn.Module):
    """The network as it is traced: float32 (batch, samples) in [-1, 1] -> one tensor per name of `outputs`."""

    def __init__(self, network: Trunk, outputs: Sequence[str]) -> None:
        super().__init__()
        self.outputs = outputs
        self.heads = network.heads if isinstance(network, Student) else nn.ModuleDict()
        names = list(network.blocks)
        deepest = len(names) if set(outputs) & set(self.heads) else 1 + max(map(names.index, outputs))
        self.blocks = nn.ModuleDict({name: traceable(network.blocks[name]) for name in names[:deepest]})

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        found = {}
        hidden = (waveform * SCALE).unsqueeze(1)  # (batch, 1, samples)
        for name, block in self.blocks.items():
            hidden = block(hidden)
            found[name] = hidden
        for head in set(self.outputs) & set(self.heads):
            found[head] = self.heads[head](hidden).log_softmax(dim=1)
        return tuple(found[name] for name in self.outputs)


class FlatPool(nn.Module):
    """MaxPool1d, which torch.export knows for fixed lengths alone, as max_pool2d on an axis of one."""

    def __init__(self, pool: nn.MaxPool1d) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = int(pool.kernel_size), int(pool.stride), int(pool.padding)  # type: ignore[arg-type]

    def forward(self, hidden: Tensor) -> Tensor:
        return F.max_pool2d(hidden.unsqueeze(2), (1, self.kernel), (1, self.stride), (0, self.padding)).squeeze(2)


def traceable(block: nn.Module) -> nn.Module:
    """A copy of a layer that can be exported for any length."""
    return FlatPool(block) if isinstance(block, nn.MaxPool1d) else copy.deepcopy(block)


def choose_outputs(network: Trunk, wanted: Sequence[str] | None) -> list[str]:
    """The layers and heads to give: by default the deepest pool, the deepest hidden layer and all heads.

    Raises UserError for a name that is neither, and for one that is both.
    """
    layers = list(network.blocks)
    heads = list(network.heads) if isinstance(network, Student) else []
    if set(layers) & set(heads):
        raise UserError(
            f"a head and a layer have the same name, {', '.join(set(layers) & set(heads))}: an ONNX output needs one "
            "of its own, use format=safetensors"
        )
    pools = [layer.name for layer in network.spec.layers if layer.is_pool and layer.name in layers]
    outputs = list(wanted) if wanted else list(dict.fromkeys([*pools[-1:], layers[-1], *heads]))
    unknown = [name for name in outputs if name not in (*layers, *heads)]
    if unknown:
        raise UserError(f"outputs={','.join(unknown)}: choose among {', '.join([*layers, *heads])}")
    return outputs


def shortest(network: Trunk, outputs: Sequence[str]) -> int:
    """Samples that every one of the outputs has a step for."""
    return max(network.min_samples(name if name in network.blocks else None) for name in outputs)


def write(path: Path, network: Trunk, outputs: Sequence[str], metadata: Mapping[str, str]) -> None:
    """Trace the network, in eval mode, and write it as one file. Raises UserError without the extra `export`."""
    try:
        import onnxscript  # noqa: F401 - torch's exporter imports it late, with a message of its own
    except ImportError:
        raise UserError(f"format=onnx needs the extra `export`: {EXTRA}") from None
    example = torch.zeros(EXAMPLE, shortest(network, outputs) + network.spec.stride())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter about its own parts
        program = torch.onnx.export(
            Graph(network, outputs).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: "batch", 1: "samples"},),
            input_names=["waveform"],
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def largest_difference(path: Path, network: Trunk, outputs: Sequence[str], longest: int) -> dict[str, float]:
    """{output: largest difference from the eager network, as a share of its largest value} at three lengths.

    The lengths are the shortest possible, `longest` samples, and one between. Raises UserError where onnxruntime
    does not run the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"format=onnx needs the extra `export`: {EXTRA}") from None
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    least = shortest(network, outputs)
    longest = max(longest, least + 2 * network.spec.stride())
    generator = torch.Generator().manual_seed(0)
    found = dict.fromkeys(outputs, 0.0)
    for batch, samples in zip(BATCHES, (least, (least + longest) // 2 + 1, longest), strict=True):
        sound = torch.randn(batch, samples, generator=generator) * 4096  # a fairly loud noise
        waveform = sound.clamp(-32768, 32767).to(torch.int16)
        try:
            given = session.run(list(outputs), {"waveform": (waveform.float() / 32768).numpy()})
        except RuntimeException as error:
            raise UserError(f"onnxruntime does not run {path} on {samples} samples: {error}") from None
        for name, expected in zip(outputs, eager(network, waveform, outputs), strict=True):
            other = torch.from_numpy(given[outputs.index(name)])
            if other.shape != expected.shape:
                raise ContractError(f"{path} gives {name} {tuple(other.shape)}, the network {tuple(expected.shape)}")
            difference = (other - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
            found[name] = max(found[name], float(difference.nan_to_num(torch.inf)))
    return found


def eager(network: Trunk, waveform: Tensor, outputs: Sequence[str]) -> list[Tensor]:
    """The network's own outputs for int16 (batch, samples)."""
    with torch.inference_mode():
        layers = [name for name in outputs if name in network.blocks]
        found = network.features(scaled(waveform), layers) if layers else {}
        if isinstance(network, Student) and len(layers) < len(outputs):
            found |= {head: logits.log_softmax(dim=1) for head, logits in network(scaled(waveform)).items()}
    return [found[name] for name in outputs]


def facts(checkpoint: Checkpoint, network: Trunk, outputs: Sequence[str], sha256: str) -> dict[str, str]:
    """What somebody who has only the file must know, as an ONNX file keeps it: words, and JSON where it is more."""
    shapes: dict[str, Any] = {
        name: "features (batch, channels, steps)"
        if name in network.blocks
        else "natural log of posteriors (batch, classes, steps)"
        for name in outputs
    }
    cards = {
        head: {**asdict(replace(card, text=None)), "classes": len(card.classes)}
        for head, card in checkpoint.teachers.items()
    }
    return {
        "student": checkpoint.spec.name,
        "sample_rate": str(network.sample_rate),
        "waveform": f"float32 (batch, samples), mono, full scale [-1, 1]; the file itself scales it to {SCALE:g}",
        "shortest_samples": str(shortest(network, outputs)),
        "clip_seconds": f"{checkpoint.clip.seconds:g}",
        "outputs": json.dumps(shapes),
        "classes": json.dumps({head: card.classes for head, card in checkpoint.teachers.items() if head in outputs}),
        "teachers": json.dumps(cards),
        "checkpoint_sha256": sha256,
    }
