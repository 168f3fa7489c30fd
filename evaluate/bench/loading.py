"""How fast clips reach the training loop: our reader, the stock WebDataset pipeline, the bare reads as the floor, and
SPDL's pipeline where it is installed (`pip install spdl-core`).

Run as `python -m evaluate.bench.loading`. Shards are made on the spot and lie in the page cache. The contestants take
turns and ratios are medians over the rounds, so that what else the machine does weighs on all of them alike. What
reading takes over the floor is counted in CPU seconds, of all threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import webdataset
from numpy.typing import NDArray

from shards.cli.pipes import ending_quietly
from shards.format.clip import ClipSpec
from shards.format.example import ClipMeta, Example, clip_key
from shards.format.manifest import Manifest, TeacherCard
from shards.format.members import WAV_HEADER_BYTES
from shards.format.sidefile import shard_name
from shards.format.writer import ShardWriter
from shards.loader.batch import Batch, allocate
from shards.loader.catalog import Catalog, load_catalog
from shards.loader.order import Order
from shards.loader.streaming import Streaming, training_reader

HEADS = {"objects": 1000, "scenes": 365}  # ImageNet and Places365, as the paper's teachers
STOCK_TARGET = 3.0  # times the stock pipeline
FLOOR_TARGET = 1.3  # times the floor's CPU seconds


@dataclass(frozen=True)
class Load:
    """What is read in one measurement."""

    catalog: Catalog
    batch: int
    batches: int
    workers: int


@dataclass(frozen=True)
class Speed:
    """Of one contestant in one round."""

    clips_per_second: float
    cpu_seconds: float  # a clip, of this process; stock's workers are others


def make_shards(folder: Path, *, clips: int, shards: int) -> None:
    """Shards of noise, 20 s a clip, with labels of every head."""
    random, spec = np.random.default_rng(0), ClipSpec()
    cards = {head: TeacherCard("none", "none", "", {}, tuple(map(str, range(size)))) for head, size in HEADS.items()}
    Manifest(spec, "none", cards, "float32", "wav", "none", "exact", False, 0.0, 0).save(folder)
    for shard in range(shards):
        writer = ShardWriter(folder, shard_name("train", shard), sample_rate=spec.sample_rate)
        for clip in range(shard, clips, shards):
            waveform = random.integers(-(2**15), 2**15, spec.samples, dtype=np.int16)
            posteriors = {
                head: random.dirichlet(np.ones(size), spec.windows).astype(np.float16) for head, size in HEADS.items()
            }
            meta = ClipMeta("noise", "noise", 0, "", clip, 0.0, spec.seconds, [], [])
            writer.write(Example(clip_key("noise", clip), waveform, posteriors, meta))
        writer.finish()


def ours(load: Load) -> Speed:
    """Our reader: shuffled, verified headers, threads."""
    settings = Streaming(threads=load.workers)
    ring = [allocate(load.batch, load.catalog.clip, load.catalog.classes) for _ in range(settings.prefetch)]
    with training_reader(load.catalog, ring, settings, seed=0, batch=load.batch) as reader:

        def draw() -> None:
            reader.release(next(reader))

        return _speed(draw, load)


def stock(load: Load) -> Speed:
    """Stock WebDataset: unshuffled, unverified, with worker processes."""
    names = ["wav", *(f"{head}.npy" for head in HEADS)]
    tars = [tar.location for tar in load.catalog.sounds]
    dataset = webdataset.WebDataset(tars, shardshuffle=False).repeat().decode(_view_wav).to_tuple(*names)
    loader = webdataset.WebLoader(dataset.batched(load.batch), batch_size=None, num_workers=load.workers)
    batches: Iterator[Any] = iter(loader)
    return _speed(lambda: next(batches), load)


def floor(load: Load) -> Speed:
    """The same bytes, in the same order, read into one batch by as many threads and nothing else."""
    catalog = load.catalog
    descriptors = [os.open(tar.location, os.O_RDONLY) for tar in catalog.sounds]
    batch = allocate(load.batch, catalog.clip, catalog.classes)
    order, position = Order(catalog.shard_clips, seed=0), 0
    with ThreadPoolExecutor(load.workers) as pool:

        def draw() -> None:
            nonlocal position
            clips = order.take(position, load.batch).tolist()
            position += load.batch
            parts = [range(part, load.batch, load.workers) for part in range(load.workers)]
            list(pool.map(lambda rows: _read_bare(descriptors, catalog, batch, clips, rows), parts))

        speed = _speed(draw, load)
    for descriptor in descriptors:
        os.close(descriptor)
    return speed


def spdl(load: Load) -> Speed:
    """SPDL's pipeline: shuffled, unverified, as many threads that read a clip each; arrays are joined to batches."""
    from spdl.pipeline import PipelineBuilder

    catalog = load.catalog
    descriptors = [os.open(tar.location, os.O_RDONLY) for tar in catalog.sounds]
    order = Order(catalog.shard_clips, seed=0)

    def clips() -> Iterator[int]:
        for position in itertools.count(0, load.batch):
            yield from order.take(position, load.batch).tolist()

    def read(clip: int) -> list[NDArray[Any]]:
        one = allocate(1, catalog.clip, catalog.classes)
        _read_bare(descriptors, catalog, one, [clip], range(1))
        return [one.waveform, *one.posteriors.values()]

    def joined(rows: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
        return [np.concatenate(each) for each in zip(*rows, strict=True)]

    steps = PipelineBuilder().add_source(clips()).pipe(read, concurrency=load.workers).aggregate(load.batch)
    pipeline = steps.pipe(joined).add_sink(2).build(num_threads=load.workers)
    with pipeline.auto_stop():
        batches = pipeline.get_iterator()
        speed = _speed(lambda: next(batches), load)
    for descriptor in descriptors:
        os.close(descriptor)
    return speed


CONTESTANTS: dict[str, Callable[[Load], Speed]] = {"ours": ours, "stock WebDataset": stock, "floor": floor}
if importlib.util.find_spec("spdl"):
    CONTESTANTS["SPDL"] = spdl


def compare(load: Load, rounds: int) -> dict[str, list[Speed]]:
    """Each contestant in each round, turn and turn about."""
    speeds: dict[str, list[Speed]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, contestant in CONTESTANTS.items():
            speeds[name].append(contestant(load))
    return speeds


def report(speeds: dict[str, list[Speed]]) -> str:
    """A table of the rates, and the two ratios beside their targets."""
    lines = []
    for name, found in speeds.items():
        rates = [speed.clips_per_second for speed in found]
        lines.append(f"{name:22}{median(rates):8.0f} clips/s  ({min(rates):.0f}-{max(rates):.0f})")
    rounds = [dict(zip(speeds, each, strict=True)) for each in zip(*speeds.values(), strict=True)]
    over_stock = median(each["ours"].clips_per_second / each["stock WebDataset"].clips_per_second for each in rounds)
    over_floor = median(each["ours"].cpu_seconds / each["floor"].cpu_seconds for each in rounds)
    lines.append(f"ours over stock       {over_stock:8.2f} times  (target: at least {STOCK_TARGET:g})")
    lines.append(f"CPU seconds over floor{over_floor:8.2f} times  (target: at most {FLOOR_TARGET:g})")
    return "\n".join(lines)


def _speed(draw: Callable[[], object], load: Load) -> Speed:
    for _ in range(WARM_UP):
        draw()
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(load.batches):
        draw()
    clips = load.batches * load.batch
    return Speed(clips / (time.perf_counter() - start), (time.process_time() - cpu) / clips)


WARM_UP = 12  # batches; more than any contestant reads ahead, so that what is measured is the steady state


def _view_wav(key: str, data: bytes) -> NDArray[np.int16] | None:
    # Arrays: tensors, which travel through shared memory, were slower here, where each batch takes fresh pages of it.
    return np.frombuffer(data, np.int16, offset=WAV_HEADER_BYTES) if key.endswith(".wav") else None


def _read_bare(descriptors: list[int], catalog: Catalog, batch: Batch, clips: list[int], rows: range) -> int:
    count = 0
    for row in rows:
        clip = clips[row]
        descriptor = descriptors[catalog.shard[clip]]
        count += os.preadv(descriptor, [batch.waveform[row].data], int(catalog.sound_places[clip, 0]))
        for head, places in catalog.posterior_places.items():
            count += os.preadv(descriptor, [batch.posteriors[head][row].data], int(places[clip, 0]))
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=512, help="clips to make (0.9 MB each)")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=24, help="batches a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads, or stock's processes"
    )
    parser.add_argument("--folder", type=Path, help="where to make the shards; a temporary folder if not given")
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.folder) as folder:
        make_shards(Path(folder), clips=given.clips, shards=given.shards)
        load = Load(load_catalog(folder, "train"), given.batch, given.batches, given.workers)
        print(f"{given.workers} workers, batches of {given.batch} clips of 20 s, {given.rounds} rounds", flush=True)
        print(report(compare(load, given.rounds)))


if __name__ == "__main__":
    with ending_quietly():
        main()
