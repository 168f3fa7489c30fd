"""A model card: what a checkpoint is, what it learned from and how well, how to load it: all from the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from shards.files import write_whole
from shards.format.manifest import TeacherCard
from train.checkpoint.checkpoint import TOP, Checkpoint
from train.model.autoencoder import DEEPEST
from train.model.student import SCALE

LABELS = "labels"  # the architecture of a card whose classes people gave, not a network
RECORDED = ("source", "loss", "start", "batch", "lr", "seed")  # of a checkpoint's config; the rest may name folders

LOAD = """\
From a checkout of this program:

```python
from pathlib import Path

import torch

from shards.media.waveform import read_waveform
from train.checkpoint.checkpoint import load_network
from train.model.student import scaled

network, checkpoint = load_network(Path("{name}"))
waveform = read_waveform(Path("sound.wav"), checkpoint.clip.sample_rate)  # int16 (samples,), any media file
with torch.inference_mode():
    features = network.features(scaled(torch.from_numpy(waveform))[None], ["{layer}"])
print({{layer: tuple(values.shape) for layer, values in features.items()}})
```"""

LOAD_ONNX = """\
Anywhere that onnxruntime runs. The file's own metadata holds the sample rate, the classes and what each output is:

```python
import json

import onnxruntime
import soundfile

session = onnxruntime.InferenceSession("{name}")
facts = session.get_modelmeta().custom_metadata_map
waveform, sample_rate = soundfile.read("sound.wav", dtype="float32", always_2d=True)
assert sample_rate == int(facts["sample_rate"]) and len(waveform) >= int(facts["shortest_samples"])
outputs = [output.name for output in session.get_outputs()]
found = dict(zip(outputs, session.run(outputs, {{"waveform": waveform.mean(axis=1)[None]}})))
for head, classes in json.loads(facts["classes"]).items():
    print(head, classes[found[head][0].mean(axis=1).argmax()])  # log posteriors (classes, steps)
```"""


LOAD_HUB = """\
With this program and its extra `hub` installed; nothing of this folder is executed:

```python
import soundnet

model = soundnet.load("OWNER/{name}")  # or a path to this folder
vector = model.embed(waveform, sample_rate)  # (samples,) or (channels, samples), int16 or float in [-1, 1], any rate
```"""


def write_card(path: Path, checkpoint: Checkpoint, name: str, more: Sequence[tuple[str, str]] = ()) -> None:
    """Write the card of a file called `name`; `more` are rows for what only its maker knows."""
    write_whole(path, card_of(checkpoint, name, more).encode())


def card_of(checkpoint: Checkpoint, name: str, more: Sequence[tuple[str, str]] = (), *, hub: bool = False) -> str:
    """Markdown. With `hub` of a folder there, else of a file."""
    loading = LOAD_HUB if hub else LOAD_ONNX if name.endswith(".onnx") else LOAD
    deepest = checkpoint.spec.layers[-1].name if checkpoint.teachers else DEEPEST
    sections = {
        "What it is": table([("what", ""), *_identity(checkpoint), *more]),
        "What it learned from": _training(checkpoint),
        "How well it does": _results(checkpoint),
        "What it cannot do": "\n".join(f"- {limit}" for limit in _limits(checkpoint)),
        "Licence": LICENCE,
        "How to load it": loading.format(name=name, layer=deepest),
    }
    parts = [f"## {title}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join([f"# {name}", *parts]) + "\n"


LICENCE = (
    "The code is under the MIT license. What licence the weights are under, no file says: they come of videos and "
    "of teachers (above) that have licences of their own, and whoever passes the weights on must know these."
)


def table(rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its first row the head."""
    head, *body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *body])


def _identity(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    spec, clip = checkpoint.spec, checkpoint.clip
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    weights = sum(tensor.numel() for name, tensor in checkpoint.network.items() if not name.endswith(statistics))
    heads = ", ".join(f"{head} ({classes} classes)" for head, classes in checkpoint.heads.items())
    needed = spec.min_samples(None if checkpoint.teachers else DEEPEST)
    return [
        ("network", f"{spec.name} ({spec.kind}), {weights:,} trainable numbers"),
        ("hears", f"one channel at {clip.sample_rate:,} Hz, scaled to [-{SCALE:g}, {SCALE:g}]"),
        ("trained on", f"clips of {clip.seconds:g} s; it takes no sound below {needed / clip.sample_rate:.2f} s"),
        ("says", heads or "nothing: an autoencoder has features and no heads"),
    ]


def _training(checkpoint: Checkpoint) -> str:
    seen = "How many clips it has heard, this checkpoint does not say."
    if checkpoint.position is not None:
        steps, clips = checkpoint.position["step"], checkpoint.position["consumed"]
        hours = clips * checkpoint.clip.seconds / 3600
        seen = f"{clips:,} clips in {steps:,} steps, which is {hours:,.1f} h of sound, repetitions counted."
    settings = [f"`{name}={checkpoint.config[name]}`" for name in RECORDED if checkpoint.config.get(name) is not None]
    texts = [seen, *([f"Settings: {', '.join(settings)}."] if settings else [])]
    rows = [("head", "teacher", "weights", "sha256 of the weights", "classes")]
    for head, card in checkpoint.teachers.items():
        count = len(card.classes)
        names = "; ".join(card.classes[:3])
        teacher, what = card.architecture, ""
        if _is_labelled(card):
            teacher, what = f"{LABELS} of {count} classes, given by people", "sha256 of the recordings: "
        classes = names if count <= 3 else f"{count}: {names} ..."
        rows.append((head, teacher, card.weights, f"{what}{card.weights_sha256 or 'not known'}", classes))
    return "\n\n".join([*texts, *([table(rows)] if checkpoint.teachers else [])])


def _is_labelled(card: TeacherCard) -> bool:
    return card.architecture == LABELS


def _results(checkpoint: Checkpoint) -> str:
    """The latest validation, each number beside what needs no sound."""
    held_out = checkpoint.held_out
    if held_out is None:
        return "Not known: this checkpoint holds no validation. `make eval-esc50` and its like say what it is good for."
    mean, clips = held_out["mean"], held_out["clips"]
    if "mse" in mean:
        return (
            f"Mean squared error on {clips} held-out clips: {mean['mse']:.4f}; silence has {mean['mse_silence']:.4f}."
        )
    parts = []
    with_teacher = [head for head in checkpoint.teachers if f"{head}/kl" in mean]
    if with_teacher:
        rows: list[Sequence[str]] = [
            ("head", "KL from the teacher, nats", "the training mean", "the uniform guess", "top-1", f"top-{TOP}")
        ]
        rows += [
            (head, *(f"{mean[f'{head}/{name}']:.3f}" for name in ("kl", "kl_mean", "kl_uniform")),
             *(f"{mean[f'{head}/{name}']:.1%} (training mean {mean[f'{head}/{name}_mean']:.1%})"
               for name in ("top1", f"top{TOP}")))
            for head in with_teacher
        ]  # fmt: skip
        parts.append(f"On {clips} held-out clips, after step {held_out['step']:,}:\n\n{table(rows)}")
    parts += [
        f"It names {mean[f'{head}/top1']:.1%} of {clips} held-out recordings rightly ({head}). Always to say the most "
        f"frequent class is right for {mean[f'{head}/top1_mean']:.1%}."
        for head in checkpoint.teachers
        if head not in with_teacher and f"{head}/top1" in mean
    ]
    return "\n\n".join(parts)


def _limits(checkpoint: Checkpoint) -> list[str]:
    if not checkpoint.teachers:
        return ["It rebuilds sounds and names nothing."]
    if all(_is_labelled(card) for card in checkpoint.teachers.values()):
        return [
            "It knows the classes above and no other: any sound at all is given to one of them.",
            "The numbers above are of recordings like those it learned from; others may be harder.",
        ]
    seconds = f"{checkpoint.clip.seconds:g} s"
    return [
        "It says what a vision network would see, not what is heard: most of the classes make no sound.",
        "Its posteriors are flat. Read them as lift, divided by their mean over the training set or over many sounds.",
        f"Ask its heads about {seconds} at a time, as it was trained: other lengths reach steps that it never used.",
        "The teachers' mistakes, and what their photographs and the videos had too much or too little of, are its own.",
    ]
