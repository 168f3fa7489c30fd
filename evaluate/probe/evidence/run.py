"""`make evidence`: is there anything in the sound of these films that the teachers' labels depend on?

Features of a frozen network, a linear map to the teachers' posteriors, and what such maps find where there is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.model import EvaluatedModel
from evaluate.probe.evidence.drawing import draw_findings
from evaluate.probe.evidence.examples import examples_of, read_clips, some, sources_of
from evaluate.probe.evidence.findings import FEWEST_VIDEOS, Finding
from evaluate.probe.evidence.measure import level_for, measure
from evaluate.probe.evidence.splits import FOLDS, Split, folds, halves
from evaluate.probe.evidence.tilt import Part
from evaluate.probe.untrained import STATISTICS_RECORDINGS, RandomInit, estimated
from shards.cli.words import amount
from shards.errors import ContractError, UserError
from shards.files import writable_folder, write_whole
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.keep import Keep
from shards.loader.order import sample
from shards.loader.streaming import Streaming
from train.device.device import available_device
from train.model.student import Trunk

LEAST_SOURCES = 2 * FOLDS  # with fewer, folds inside folds would be empty


@dataclass
class EvidenceSettings:
    """conf/evidence.yaml. Sample rate and layers come with the checkpoint, heads and classes with the shards."""

    shards: str  # a folder of `make teacher-shards`, or any fsspec URL of one
    checkpoint: Path  # whose features of the sound are looked at: of `make train` or `make published`
    layer: str = "pool5"  # its mean and deviation over time are the features
    learn_from: list[str] | None = None  # heads to look at, as [objects]; null: all
    teacher_set: str | None = None  # a set that `make relabel` added; null: the one the shards were made with
    keep: Keep = field(default_factory=Keep)
    components: int = 24  # principal components of the features, which the map is learned on
    clips: int = 4000  # clips of each split at most, whole videos
    shuffles: int = 99  # maps of shuffled pairs; what is found must gain more than these
    seeds: int = 2  # random networks of the same shape
    device: str = "auto"  # cpu, cuda, or auto (the GPU where there is one)
    streaming: Streaming = field(default_factory=Streaming)
    out: Path | None = None  # folder of evidence.json and evidence.png; null: one in outputs/evidence

    def __post_init__(self) -> None:
        if min(self.components, self.clips, self.shuffles) < 1 or self.seeds < 0:
            raise ValueError("components, clips and shuffles are at least 1, seeds at least 0")
        if self.streaming.reader != "direct":
            raise ValueError("evidence reads shards with streaming.reader=direct alone")


def run(settings: EvidenceSettings) -> None:
    """Measure every head, say in words what the numbers allow, and keep both with a picture."""
    settings.device = available_device(settings.device)
    model = EvaluatedModel.load(settings.checkpoint, settings.device)
    catalogs = [open_split(settings, split, model) for split in ("train", "validation")]
    level = level_for(len(catalogs[0].cards), settings.shuffles)
    deal(settings, model, [[*map(str, each.keys)] for each in catalogs])  # refused before any sound is read
    name = f"{Path(settings.shards).name}-{model.checkpoint.spec.name}-{model.sha256[:8]}-{settings.layer}"
    out = writable_folder(settings.out or Path("outputs/evidence") / name)
    networks = [model.network, *random_networks(settings, model, catalogs[0])]
    read = [examples_of(networks, settings.layer, each, settings.streaming) for each in catalogs if each.clips]
    sources, splits, how = deal(settings, model, [each.keys for each in read])
    print(f"{amount(len(sources), 'clip')} of {amount(int(sources.max()) + 1, 'video')}; {how}", flush=True)
    parts = [
        [Part.of(np.concatenate(features), split, settings.components) for split in splits]
        for features in zip(*(each.features for each in read), strict=True)
    ]
    findings = []
    for head, card in catalogs[0].cards.items():
        posteriors = np.concatenate([each.posteriors[head] for each in read])
        shuffles = settings.shuffles
        findings.append(measure(head, card.classes, posteriors, parts, sources, shuffles=shuffles, level=level))
        print(table(findings[-1], settings.layer), *findings[-1].sentences(settings.layer), sep="\n", flush=True)
    print(save(out, settings, model, how, findings))


def open_split(settings: EvidenceSettings, split: str, model: EvaluatedModel) -> Catalog:
    """At most settings.clips clips of a split. Raises UserError where they are no food for the network."""
    catalog = load_catalog(
        settings.shards,
        split,
        learn_from=settings.learn_from,
        teacher_set=settings.teacher_set,
        keep=settings.keep,
        skipping=settings.streaming.on_bad_shard == "skip",
    )
    if catalog.clip.sample_rate != model.network.sample_rate:
        raise ContractError(
            f"{settings.shards} has {catalog.clip.sample_rate} Hz, {settings.checkpoint} wants "
            f"{model.network.sample_rate} Hz: give a checkpoint of that rate, or make the shards again"
        )
    if split == "train" and not catalog.clips:
        raise UserError(f"{settings.shards} holds no clip to learn from: see `make check-shards`")
    return some(catalog, settings.clips) if catalog.clips else catalog


def random_networks(settings: EvidenceSettings, model: EvaluatedModel, catalog: Catalog) -> list[Trunk]:
    """Untrained siblings of the checkpoint's network, normalised on some clips of the training split."""
    few = catalog.part(sample(catalog.clips, STATISTICS_RECORDINGS))
    waveforms = [batch.waveforms for batch in read_clips(few, settings.streaming)] if settings.seeds else []
    inits = [RandomInit(model.checkpoint.spec, model.checkpoint.heads, seed) for seed in range(settings.seeds)]
    return [estimated(init, waveforms, model.network.sample_rate, settings.device) for init in inits]


def deal(
    settings: EvidenceSettings, model: EvaluatedModel, keys: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int64], list[Split], str]:
    """Each clip's source by number, what is learned from and what tested, and that in words. Raises UserError.

    `keys` are those of the training split and of the held-out one. These splits are taken where the second is large
    enough, else folds of both; but a student that was trained is tested on held-out clips alone, for on others its
    features may know their labels by heart.
    """
    _, sources = np.unique(sources_of([key for each in keys for key in each], settings.shards), return_inverse=True)
    held_out = np.arange(len(sources)) >= len(keys[0])
    learned, tested = np.unique(sources[~held_out]), np.unique(sources[held_out])
    if len(both := np.intersect1d(learned, tested)):
        raise ContractError(
            f"{amount(len(both), 'video has', many='videos have')} clips in both splits of these shards, so nothing is "
            "held out: make the shards again"
        )
    own = f"the shards' own splits, {amount(len(learned), 'video')} to learn from and {len(tested)} to test on"
    is_trained = model.checkpoint.position is not None
    if is_trained and not len(tested):
        raise UserError(
            f"no video of these shards is held out, and {model.path} may have learned from all of them: make shards "
            "with validation_share above 0"
        )
    if len(tested) < FEWEST_VIDEOS and not is_trained:
        learned = np.union1d(learned, tested)
        own = f"{FOLDS} folds of all videos, as no more than {len(tested)} are held out"
        held_out = np.zeros_like(held_out)
    if len(learned) < LEAST_SOURCES:
        raise UserError(
            f"{amount(len(learned), 'video is', many='videos are')} there to learn from, which is too few: at least "
            f"{LEAST_SOURCES} are needed"
        )
    return sources, halves(sources, held_out) if held_out.any() else folds(sources), own


def table(finding: Finding, layer: str) -> str:
    """The distances, a line each."""
    shuffled = finding.shuffled_distances
    low, middle, high = min(shuffled), float(np.mean(shuffled)), max(shuffled)
    rows = [
        ("uniform", finding.uniform),
        ("mean posterior", finding.mean_posterior),
        (f"shuffled, {amount(len(shuffled), 'seed')}", f"{middle:.3f} ({low:.3f} to {high:.3f}, lowest to highest)"),
        *((f"random network {seed}", mean) for seed, mean in enumerate(finding.random)),
        (layer, finding.features),
    ]
    title = f"\n{finding.head}, {finding.classes} classes: KL from the teacher in nats (95 % over videos)"
    return "\n".join([title, *(f"  {name:22}{mean}" for name, mean in rows)])


def save(out: Path, settings: EvidenceSettings, model: EvaluatedModel, how: str, findings: list[Finding]) -> str:
    """evidence.json and evidence.png; returns where, in a line."""
    heads = [
        asdict(each) | {"p": each.p, "verdict": each.verdict, "sentences": each.sentences(settings.layer)}
        for each in findings
    ]
    record = {"checkpoint": model.record, "layer": settings.layer, "splits": how, "heads": heads}
    names = ("learn_from", "teacher_set", "components", "clips", "shuffles", "seeds")
    record |= {"shards": settings.shards, "keep": settings.keep.chosen}
    record |= {name: getattr(settings, name) for name in names}
    write_whole(out / "evidence.json", json.dumps(record, indent=1).encode())
    write_whole(out / "evidence.png", draw_findings(findings, settings.layer))
    return f"{out}: evidence.json, evidence.png"
