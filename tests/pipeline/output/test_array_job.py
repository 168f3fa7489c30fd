"""Stage one as ranks of one world, in one folder and behind a URL: real processes, one of them killed."""

import dataclasses
import json
import os
import signal

import fsspec
import numpy as np
import pytest

from pipeline.relabel.run import run as relabel
from pipeline.run import run
from pipeline.videos.plan import Size
from shards.errors import UserError
from shards.format.check import check
from shards.format.shard import examples
from shards.format.sidefile import side_files
from tests.faults.commands import finish, wait_until
from tests.forked import Forked
from tests.pipeline.conftest import tars


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    """Six inputs, of which one is broken and one repeats another: five shards."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        render_video(folder / f"{number}.mp4", 1.5 + 0.5 * number, seed=number)
    (folder / "broken.mp4").write_text("<html>")
    (folder / "repeat of 2.mp4").write_bytes((folder / "2.mp4").read_bytes())
    return folder


@pytest.fixture(scope="module")
def settings(settings):
    """One decoder, shards of one video."""
    return lambda shards, **fields: settings(shards, **{"decoders": 1, "shard_size": Size(videos=1)} | fields)


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    """What one run makes of the videos."""
    folder = tmp_path_factory.mktemp("alone")
    run(settings(folder))
    return folder


@pytest.fixture
def begin(videos, words_of):
    """Start a run as a process."""
    processes = []

    def begin(shards, **fields):
        processes.append(Forked("pipeline", *words_of(videos=videos, shards=shards, **fields)))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def planned(folder, rank):
    lock = folder / ".ranks" / f"teacher-shards-{rank}-of-2"
    return lock.exists() and '"inputs"' in lock.read_text()


def test_two_ranks_at_once_and_a_kill_give_the_bytes_of_one_run(begin, alone, tmp_path):
    first = begin(tmp_path, rank=0, world=2)
    second = begin(tmp_path, rank=1, world=2)
    wait_until(lambda: planned(tmp_path, 1), second)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    again = begin(tmp_path, rank=1, world=2)
    finish(first)
    finish(again)
    assert tars(tmp_path) == tars(alone)
    assert (tmp_path / "rejects.jsonl").read_bytes() == (alone / "rejects.jsonl").read_bytes()
    assert check(tmp_path) == check(alone)
    assert (tmp_path / "report.html").is_file()
    logs = [(tmp_path / f"pipeline-{rank}-of-2.log").read_text() for rank in range(2)]
    assert any("6 inputs = 4 accepted + 1 rejected + 1 duplicate;" in log for log in logs)  # none is waiting
    assert not list(tmp_path.glob("*.partial"))


def test_a_rank_does_its_part_and_says_what_waits_and_one_run_does_the_rest(settings, alone, tmp_path, caplog):
    run(settings(tmp_path, rank=1, world=2))
    order = [json.loads(line) for line in (alone / "plan.jsonl").read_text().splitlines()]
    part = [f"{row['shard']}.tar" for row in order if "shard" in row][1::2]
    assert tars(tmp_path).items() <= tars(alone).items() and list(tars(tmp_path)) == sorted(part)
    assert "3 waiting" in (tmp_path / "pipeline-1-of-2.log").read_text()
    (tmp_path / f"{order[0]['shard']}.tar.x.partial").touch()  # of a rank that was killed and is not run again
    run(settings(tmp_path, rank=1, world=2))
    assert list(tmp_path.glob("*.partial"))  # another rank's are let be
    run(settings(tmp_path))
    assert tars(tmp_path) == tars(alone)
    assert not list(tmp_path.glob("*.partial"))


def test_a_retry_is_planned_by_one_run_alone(settings, tmp_path):
    with pytest.raises(ValueError, match="retry_rejected=true adds to the plan, so it must run with world=1"):
        settings(tmp_path, retry_rejected=True, world=2)


@pytest.fixture(scope="module")
def remote(settings, videos, tmp_path_factory):
    """The videos in fsspec's memory, and the shards made of them at a URL that all processes see."""
    memory, folder = fsspec.filesystem("memory"), tmp_path_factory.mktemp("remote")
    memory.put(f"{videos}/", f"/{folder.name}/videos/", recursive=True)
    values = settings(f"file://{folder}/mine", videos=f"memory://{folder.name}/videos", work=folder / "work")
    run(values)
    yield values
    memory.rm(f"/{folder.name}", recursive=True)


def fetched(location, folder):
    """A copy of all that is at a URL."""
    system, root = fsspec.core.url_to_fs(location)
    system.get(f"{root}/", f"{folder}/", recursive=True)
    return folder


def test_from_a_url_to_a_url_the_bytes_are_the_same(alone, remote, tmp_path):
    mine = fetched(remote.shards, tmp_path / "mine")
    assert tars(mine) == tars(alone)
    names = {path.name for path in alone.glob("[!.]*")} - {"pipeline.log"}
    assert {path.name for path in mine.iterdir() if path.is_file()} == names
    assert check(mine) == check(alone)
    assert "<audio" in (mine / "report.html").read_text()
    assert not list(remote.output.folder.glob("*.tar"))
    with pytest.raises(UserError, match=r"validation_share: file://.* has 0.3, this run 0.1"):
        run(dataclasses.replace(remote, validation_share=0.1, work=tmp_path / "elsewhere"))


def test_rows_of_a_list_may_be_urls_and_one_that_leads_nowhere_is_a_reject(settings, alone, videos, tmp_path):
    rows = [f"file://{videos}/1.mp4", f"file://{videos}/none.mp4", f"file://{videos}/broken.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(rows))
    run(settings(tmp_path / "shards", videos=str(tmp_path / "list.txt"), max_reject_share=0.9))
    rejects = [json.loads(line) for line in (tmp_path / "shards" / "rejects.jsonl").read_text().splitlines()]
    assert {(reject["path"], reject["reason"]) for reject in rejects} == {
        (rows[1], "not_found"),
        (rows[2], "not_media"),
    }
    (mine,) = sounds(tmp_path / "shards", rows[0])
    assert mine == sounds(alone, "1.mp4")[0]


def sounds(folder, path):
    return [
        clip.waveform.tobytes()
        for side in side_files(folder)
        for clip in examples(folder, side, 22_050)
        if clip.meta.path == path
    ]


@pytest.mark.faults
def test_a_run_killed_while_it_sends_is_gone_on_with_from_another_machine(begin, alone, tmp_path):
    far, url = tmp_path / "far", f"file://{tmp_path}/far"
    killed = begin(url, work=tmp_path / "here")
    wait_until(lambda: list(far.glob("*-0*.json")), killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {path: path.stat().st_mtime_ns for path in far.glob("*-0*.json")}
    finish(begin(url, work=tmp_path / "there"))
    assert tars(far) == tars(alone) and check(far) == check(alone)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what was whole is not made again
    assert not [path for path in far.iterdir() if "partial" in path.name or "tmp" in path.name]


def test_shards_behind_a_url_are_relabelled_there(remote, again, tmp_path):
    """The same network under another name, read again at the stored times, must say the same."""
    again = again(remote.shards, videos=remote.videos, work=tmp_path / "work", precision="float32")
    relabel(again)
    far = fetched(remote.shards, tmp_path / "far")
    sides = {side.shard: side for side in side_files(far / "teachers" / "again")}
    for side in side_files(far):
        if side.keys:
            assert sides[side.shard].keys == side.keys
            assert np.allclose(sides[side.shard].posterior_sums["objects"], side.posterior_sums["objects"], atol=1e-3)
    assert check(far).clips and len(sides) == 4
    assert not list(tmp_path.glob("work/**/*.tar"))
    assert "again" in (far / "report.html").read_text()
    relabel(dataclasses.replace(again, work=tmp_path / "elsewhere"))
    assert tars(fetched(remote.shards, tmp_path / "later") / "teachers" / "again") == tars(far / "teachers" / "again")
