"""The executor on one machine: the order of what comes out, and what a greedy video costs."""

import os
import signal
from dataclasses import replace

import pytest

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.job import DecodeTask
from pipeline.executor.local import LocalExecutor
from pipeline.executor.resources import Resources, heads_of
from pipeline.executor.teacher_worker import TeacherWorker
from pipeline.output.writing import require_room
from pipeline.teachers.cards import cards
from pipeline.videos.keys import key_of
from shards.errors import UserError
from shards.format.clip import ClipSpec

CLIP = ClipSpec(seconds=2.0, windows=4)
ASSIGN = LocalExecutor._assign


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        render_video(folder / f"{number}.mp4", 2.0 + number, seed=number)
    render_video(folder / "wide.mp4", 2.0, size=(3840, 2160), fps=1)
    return folder


@pytest.fixture
def executor(videos, small_teachers, tmp_path):
    def start(**resources):
        return Resources(**{"device": "cpu", "teacher_processes": 1, "batch_clips": 2} | resources).start(
            root=str(videos),
            spool=tmp_path,
            clip=CLIP,
            heads=heads_of(small_teachers, cards(small_teachers)),
            reading=DecodeSettings(),
            audio="wav",
            keep_frames=False,
            precision="float32",
        )

    return start


def tasks(*names):
    return [DecodeTask("train-000000", name, key_of(name), number) for number, name in enumerate(names)]


SMALL = [f"{number}.mp4" for number in range(6)]


def test_videos_come_out_in_the_order_they_went_in_however_long_they_are(executor):
    names = [*reversed(SMALL), *SMALL]
    with executor(decoders=3) as running:
        assert [job.task.path for job in running.label(tasks(*names))] == names


def test_a_greedy_video_is_rejected_and_the_others_are_not(executor):
    """Frames of 3840x2160 want more than the 30 MB allowed beyond what a worker starts with."""
    with executor(decoders=1, memory_gigabytes=0.03) as running:
        reasons = {job.task.path: job.result.reason for job in running.label(tasks("0.mp4", "wide.mp4", "1.mp4"))}
    # Python's own failed allocations are named out_of_memory; FFmpeg may report one as frames that did not decode.
    assert reasons["wide.mp4"] in ("out_of_memory", "damaged", "no_frames")
    assert reasons["0.mp4"] is None and reasons["1.mp4"] is None


def test_a_full_disk_while_sound_is_spooled_is_one_line_and_no_fault_of_the_video(executor, tmp_path):
    (tmp_path / "000000001.members").symlink_to("/dev/full")
    with executor(decoders=1) as running:
        first, full, last = (job.result for job in running.label(tasks("0.mp4", "1.mp4", "2.mp4")))
    assert first.reason is None and last.reason is None
    with pytest.raises(UserError, match="No space left on device: make room and run the same command again"):
        require_room(full)


@pytest.mark.parametrize("resources", [{"decoders": 1}, {"decoders": 3, "spool_gigabytes": 1e-5}])
def test_decoders_that_are_killed_once_cost_nothing(executor, monkeypatch, resources):
    """Two fail behind their first clip; with the second try, the batches are those of a run that nothing befalls."""
    videos = tasks("5.mp4", "0.mp4", "4.mp4", "1.mp4", "2.mp4", "3.mp4")
    videos = [replace(task, shard=f"train-00000{task.number // 4}") for task in videos]
    with executor(decoders=2) as running:
        expected = list(running.label(videos))
    began = []

    def assign(running):
        for decoder in running._decoders:
            job = decoder.job
            if job and job.task.path in ("5.mp4", "4.mp4") and job.tries == 1 and job.clips:
                began.append(job.task.path)
                decoder.process.kill()
                decoder.process.join()
        ASSIGN(running)

    monkeypatch.setattr(LocalExecutor, "_assign", assign)
    with executor(**resources) as running:
        found = list(running.label(videos))
    assert sorted(set(began)) == ["4.mp4", "5.mp4"]
    assert [(job.task, job.result) for job in found] == [(job.task, job.result) for job in expected]
    for job, other in zip(found, expected, strict=True):
        for clip, undisturbed in zip(job.clips, other.clips, strict=True):
            assert clip.record == undisturbed.record
            assert clip.posteriors["objects"].tobytes() == undisturbed.posteriors["objects"].tobytes()


def deal(names, videos_a_shard):
    return [replace(task, shard=f"train-{task.number // videos_a_shard:06d}") for task in tasks(*names)]


def stop_first(monkeypatch, until):
    """Stop the decoder of the first video until `until(executor)`; what it was then is the list's only entry."""
    stopped, gone_on = [], []

    def assign(running):
        ASSIGN(running)
        if not stopped:
            first = next(decoder for decoder in running._decoders if decoder.job is running._order[0])
            os.kill(first.process.pid, signal.SIGSTOP)
            stopped.append(first.process.pid)
        elif not gone_on and (found := until(running)):
            gone_on.append(found)
            os.kill(stopped[0], signal.SIGCONT)

    monkeypatch.setattr(LocalExecutor, "_assign", assign)
    return gone_on


def test_videos_behind_a_long_one_are_decoded_and_later_shards_labelled(executor, monkeypatch):
    names = ["5.mp4", *SMALL, *SMALL]  # 27 clips in two shards

    def all_others_are_done(running):
        others = list(running._order)[1:]
        decoded = len(others) == len(names) - 1 and all(job.result for job in others)
        return decoded and all(job.complete for job in others if job.task.shard == "train-000001")

    gone_on = stop_first(monkeypatch, all_others_are_done)
    with executor(decoders=2, stall_seconds=3600) as running:
        assert [job.task.path for job in running.label(deal(names, 7))] == names
    assert gone_on == [True]


def test_no_more_than_the_spool_holds_is_decoded_ahead(executor, monkeypatch):
    names = ["5.mp4", *SMALL, *SMALL]

    def others_are_held(running):
        others = [decoder for decoder in running._decoders if decoder.job is not running._order[0]]
        return all(decoder.held.value for decoder in others) and len(running._order)

    gone_on = stop_first(monkeypatch, others_are_held)
    with executor(decoders=2, stall_seconds=3600, spool_gigabytes=1e-5) as running:
        assert [job.task.path for job in running.label(deal(names, 7))] == names
    assert gone_on[0] < len(names)


@pytest.mark.parametrize("does", ["loaded", "labelled a batch"])
def test_a_teacher_that_hangs_ends_the_run_in_one_line(executor, monkeypatch, does):
    require = TeacherWorker.require_progress
    monkeypatch.setattr(TeacherWorker, "require_progress", lambda teacher, _: require(teacher, 0.5))
    with executor(decoders=1) as running:
        (teacher,) = running._teachers
        while does == "labelled a batch" and not teacher.ready:
            teacher.receive()
        os.kill(teacher.process.pid, signal.SIGSTOP)
        with pytest.raises(UserError, match=rf"has made no progress for 0\.5 s while it {does}: .*stall_seconds"):
            list(running.label(tasks(*SMALL)))
