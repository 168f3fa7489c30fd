"""Stage one from videos to shards, on real files and processes, with a small real network."""

import collections
import dataclasses
import json
import shutil
import time

import av
import numpy as np
import pytest
import torch

from pipeline.decoder.settings import DecodeSettings
from pipeline.executor.teacher_worker import TeacherWorker
from pipeline.output.folder_lock import FolderLease, Rank
from pipeline.relabel.run import run as relabel
from pipeline.run import run
from pipeline.teachers.cards import cards
from pipeline.teachers.spec import TeacherSet
from pipeline.teachers.teacher import Teacher
from pipeline.videos.plan import Size
from shards.errors import ContractError, UserError
from shards.format.check import check
from shards.format.clip import ClipSpec
from shards.format.manifest import Manifest
from shards.format.shard import examples
from shards.format.sidefile import finished
from tests.faults.commands import finish, python, wait_until
from tests.forked import Forked
from tests.pipeline.conftest import tars

CLIP = ClipSpec(sample_rate=22_050, seconds=2.0, windows=4)


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    """Ten inputs: the first in the plan's order by far the longest, one broken, one a copy of another."""
    folder = tmp_path_factory.mktemp("videos")
    render_video(folder / "00.mp4", 7.3, seed=0, size=(320, 240))
    for number in range(1, 9):
        render_video(folder / f"{number:02d}.mp4", 1.0 + 0.4 * number, seed=number)
    (folder / "05.mp4").write_bytes(b"<html>not found</html>")
    (folder / "copy of 3.mp4").write_bytes((folder / "03.mp4").read_bytes())
    return folder


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(settings(folder))
    return folder


def all_examples(folder):
    return [example for side in finished(folder) for example in examples(folder, side, CLIP.sample_rate)]


def test_every_input_is_accounted_for(undisturbed):
    found = all_examples(undisturbed)
    rejects = [json.loads(line) for line in (undisturbed / "rejects.jsonl").read_text().splitlines()]
    assert [(reject["path"], reject["reason"]) for reject in rejects] == [("05.mp4", "not_media")]
    assert {example.meta.path for example in found} == {f"0{number}.mp4" for number in (0, 1, 2, 3, 4, 6, 7, 8)}
    assert check(undisturbed).clips == len(found)
    assert not list(undisturbed.glob("*.partial"))


def test_clips_tile_a_video_in_whole_windows(undisturbed, videos):
    by_video = collections.defaultdict(list)
    for example in all_examples(undisturbed):
        by_video[example.meta.path].append(example)
    for path, clips in by_video.items():
        with av.open(str(videos / path)) as container:
            seconds = float(container.duration / av.time_base)
        kept = sum(len(clip.waveform) for clip in clips) / CLIP.sample_rate
        media = clips[0].meta.media
        assert media.in_clips == pytest.approx(kept, abs=1e-3)
        assert media.seconds == pytest.approx(media.in_clips + sum(media.left_out.values()), abs=0.003)
        assert media.seconds == pytest.approx(seconds, abs=0.15)  # AAC pads its last frame
        assert media.left_out.get("tail", 0.0) < CLIP.window_seconds
        assert all(len(clip.waveform) == CLIP.samples for clip in clips[:-1])
        for clip in clips:
            assert np.allclose(
                np.subtract(clip.meta.frame_asked, clip.meta.start), CLIP.frame_times(len(clip.meta.frame_got))
            )
            assert (
                np.abs(np.subtract(clip.meta.frame_got, clip.meta.frame_asked)).max() <= 0.1 + 1e-6
            )  # a frame at 10 fps


def test_labels_are_the_networks_own_on_frames_decoded_another_way(undisturbed, videos, small_teachers):
    """Every frame decoded in sequence, the one on screen at the asked time, through the same network by itself."""
    card = cards(small_teachers)["objects"]
    teacher = Teacher(small_teachers.heads["objects"], card, "cpu", "float32")
    clip = next(example for example in all_examples(undisturbed) if example.meta.path == "02.mp4")
    with av.open(str(videos / "02.mp4")) as container:
        frames = [(frame.time, frame) for frame in container.decode(video=0)]
    for row, asked in zip(clip.posteriors["objects"], clip.meta.frame_asked, strict=True):
        _, frame = max((pair for pair in frames if pair[0] <= asked + 1e-6), key=lambda pair: pair[0])
        picture = frame.reformat(53, 40, "rgb24", interpolation="BICUBIC").to_ndarray()  # short side 40, 4:3
        left = round((picture.shape[1] - 32) / 2)
        expected = teacher.posteriors(np.ascontiguousarray(picture[4:36, left : left + 32])[None])[0]
        assert np.allclose(row, expected, atol=2e-3)
    assert clip.posteriors["objects"].std() > 0.01  # and the network does tell pictures apart


def test_the_sound_is_the_videos_own(undisturbed):
    """Each video hums at its own pitch, which survives decoding, mixing and resampling."""
    for example in all_examples(undisturbed):
        number = int(example.meta.path[:2])
        spectrum = np.abs(np.fft.rfft(example.waveform * np.hanning(len(example.waveform))))
        pitch = spectrum.argmax() * CLIP.sample_rate / len(example.waveform)
        assert abs(pitch - (200 + 40 * number)) < 2


@pytest.mark.parametrize(
    "fields",
    [
        {"decoders": 4, "teacher_processes": 2},
        {"decoders": 3, "spool_gigabytes": 1e-5},  # less than a clip, and the first video is the slowest and longest
    ],
)
def test_the_bytes_do_not_depend_on_how_much_of_the_machine_is_used(settings, undisturbed, tmp_path, fields):
    run(settings(tmp_path, **fields))
    assert tars(tmp_path) == tars(undisturbed)


def test_several_shard_processes_write_the_same_bytes(settings, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.executor.resources.DECODERS_A_WRITER", 1)
    run(settings(tmp_path, decoders=2))
    assert tars(tmp_path) == tars(undisturbed)


def test_what_writes_and_what_decodes_imports_no_torch():
    """A process of either kind would hold some hundred megabytes more."""
    modules = "pipeline.executor.decode_worker, pipeline.executor.shard_worker, pipeline.output.writing"
    done = python("-c", f"import sys, {modules}; sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_kill_9_anywhere_then_the_same_command_gives_the_same_bytes(words_of, videos, undisturbed, tmp_path):
    places = {"videos": videos, "shards": tmp_path / "shards"}
    words = words_of(**places, **{"decoders": 2, "shard_size.videos": 3})
    finished_at = []
    for patience in (0.1, 0.3, 0.6, None):  # of a second that it takes
        process = Forked("pipeline", *words)
        if patience is None:
            finish(process)
        else:
            wait_until((tmp_path / "shards" / "plan.jsonl").exists, process)
            time.sleep(patience)
            process.kill()
            process.communicate()
            finished_at.append(tars(tmp_path / "shards"))
    assert tars(tmp_path / "shards") == tars(undisturbed)
    assert all(before.items() <= tars(undisturbed).items() for before in finished_at)


def test_new_videos_become_new_shards_and_a_retry_recovers(settings, undisturbed, tmp_path, videos, render_video):
    mine = tmp_path / "videos"
    mine.mkdir()
    for path in sorted(videos.iterdir())[:6]:
        (mine / path.name).write_bytes(path.read_bytes())
    shards = tmp_path / "shards"
    run(settings(shards, videos=str(mine)))
    before = tars(shards)
    render_video(mine / "05.mp4", 2.0, seed=5)  # the broken one, mended
    render_video(mine / "new.mp4", 2.0, seed=9)
    run(settings(shards, videos=str(mine)))
    added = tars(shards)
    assert before.items() < added.items()
    assert "05.mp4" not in {example.meta.path for example in all_examples(shards)}
    run(settings(shards, videos=str(mine), retry_rejected=True))
    assert added.items() < tars(shards).items()
    assert {"05.mp4", "new.mp4"} <= {example.meta.path for example in all_examples(shards)}
    assert (shards / "rejects.jsonl").read_text() == ""
    check(shards)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clip": dataclasses.replace(CLIP, seconds=4.0)}, r'"seconds": 2.0.* this run .*"seconds": 4.0'),
        ({"validation_share": 0.1}, "validation_share: .* has 0.3, this run 0.1"),
        ({"keep_frames": False}, "keep_frames: .* has true, this run false"),
        ({"precision": "bfloat16"}, 'precision: .* has "float32", this run "bfloat16"'),
    ],
)
def test_changed_settings_are_refused_with_both_sides(settings, undisturbed, fields, message):
    with pytest.raises(ContractError, match=message):
        run(settings(undisturbed, **fields))


def test_frames_that_no_jpeg_can_hold_are_refused_before_anything_is_written(settings, tmp_path):
    clip = dataclasses.replace(CLIP, frames_per_window=512)  # 4 windows, crops of 32 pixels: 65,536
    shards = tmp_path / "shards"
    with pytest.raises(UserError, match=r"the 2048 frames of a clip .* are 65536 pixels wide.*keep_frames=false"):
        run(settings(shards, clip=clip))
    assert not list(shards.glob("*.json*"))


def test_the_precision_that_the_first_machine_chose_is_that_of_all_labels(
    settings, again, tmp_path, render_video, monkeypatch
):
    """The first machine has bfloat16 and the second has not; a teacher set beside the shards begins on the second."""

    def machine(*, bfloat16):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16}, raising=False)

    videos, shards, alike = tmp_path / "videos", tmp_path / "shards", tmp_path / "alike"
    values = {"videos": str(videos), "validation_share": 0.0, "shard_size": Size(videos=1)}
    videos.mkdir()
    render_video(videos / "a.mp4", 2.0, seed=1)
    machine(bfloat16=True)
    run(settings(shards, **values, precision="auto"))
    render_video(videos / "b.mp4", 2.0, seed=2)
    machine(bfloat16=False)
    run(settings(shards, **values, precision="auto"))
    assert Manifest.load(shards).precision == "bfloat16"
    assert "it takes longer" in (shards / "pipeline.log").read_text()
    run(settings(alike, **values, precision="bfloat16"))
    assert len(tars(shards)) == 2 and tars(shards) == tars(alike)
    beside = again(shards, videos=str(videos))
    relabel(beside)
    machine(bfloat16=True)
    relabel(beside)
    assert Manifest.load(shards / "teachers" / "again").precision == "float32"
    with pytest.raises(ContractError, match=r'precision: .* has "float32", this run "bfloat16". Delete .*again to'):
        relabel(dataclasses.replace(beside, precision="bfloat16"))


def test_another_teacher_set_is_sent_to_relabel(settings, undisturbed, small_spec):
    with pytest.raises(ContractError, match=r"teachers=small, this run has teachers=other.*make relabel"):
        run(settings(undisturbed, teachers=TeacherSet("other", {"objects": small_spec})))


def test_too_many_rejects_stop_the_run_and_keep_the_work(settings, tmp_path, videos, render_video):
    mine = tmp_path / "videos"
    mine.mkdir()
    render_video(mine / "good.mp4", 2.0)
    for number in range(3):
        (mine / f"bad{number}.mp4").write_text(f"no video {number}")
    with pytest.raises(UserError, match=r"3 of 4 inputs are rejected, max_reject_share=0\.5"):
        run(settings(tmp_path / "shards", videos=str(mine)))
    assert len(all_examples(tmp_path / "shards")) == 1


def test_relabel_adds_a_set_beside_the_shards(again, undisturbed, tmp_path):
    """The same network under another name, read again at the stored times, must say the same."""
    shards = tmp_path / "shards"
    shutil.copytree(undisturbed, shards)
    before = tars(shards)
    relabel(again(shards, precision="float32"))
    assert tars(shards) == before
    sides = {side.shard: side for side in finished(shards / "teachers" / "again")}
    for side in finished(shards):
        other = sides[side.shard]
        assert (other.keys, other.windows) == (side.keys, side.windows)
        assert np.allclose(other.posterior_sums["objects"], side.posterior_sums["objects"], atol=1e-3)
    check(shards)
    first = tars(shards / "teachers" / "again")
    relabel(again(shards, precision="float32"))
    assert tars(shards / "teachers" / "again") == first


def test_relabel_goes_on_past_videos_that_changed_or_are_gone_and_names_them(
    settings, again, tmp_path, videos, render_video
):
    """Four shards of one video each. What lacks labels gets them once the very file is back."""
    mine, shards = tmp_path / "videos", tmp_path / "shards"
    mine.mkdir()
    for number in (1, 2, 3, 4):
        (mine / f"{number}.mp4").write_bytes((videos / f"0{number}.mp4").read_bytes())
    run(settings(shards, videos=str(mine), shard_size=Size(videos=1), validation_share=0.0))
    again = again(shards, videos=str(mine), decoders=2)
    render_video(mine / "1.mp4", 2.0, seed=8)
    (mine / "3.mp4").unlink()
    message = r"lacks labels of 2 shards: train-000000 .'1.mp4': changed: .*, train-000002 .'3.mp4': not_found: "
    for written in range(2):  # the second run finds the same
        with pytest.raises(UserError, match=message):
            relabel(dataclasses.replace(again, max_reject_share=0.5 + written / 2))
        labels = shards / "teachers" / "again"
        assert list(tars(labels)) == ["train-000001.tar", "train-000003.tar"] and not list(labels.glob("*.partial"))
    assert (shards / "report.html").stat().st_mtime_ns > (labels / "train-000003.json").stat().st_mtime_ns
    assert "train-000002: its labels are not written" in (shards / "pipeline.log").read_text()
    for number in (1, 3):
        (mine / f"{number}.mp4").write_bytes((videos / f"0{number}.mp4").read_bytes())
    relabel(again)
    assert len(tars(labels)) == 4
    check(shards)


def test_ranks_of_a_relabel_share_the_work_and_give_the_bytes_of_one(again, undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "one")
    shutil.copytree(undisturbed, tmp_path / "two")
    relabel(again(tmp_path / "one"))
    expected = tars(tmp_path / "one" / "teachers" / "again")
    found = []
    with FolderLease(tmp_path / "two", Rank(1, 2, job="relabel")):
        relabel(again(tmp_path / "two", rank=0, world=2))
        found.append(tars(tmp_path / "two" / "teachers" / "again"))
    assert "again" not in (tmp_path / "two" / "report.html").read_text()  # the page is of the rank that ends last
    relabel(again(tmp_path / "two", rank=1, world=2))
    assert tars(tmp_path / "two" / "teachers" / "again") == expected
    assert found[0].items() < expected.items() and len(expected) - len(found[0]) == len(expected) // 2
    assert "again" in (tmp_path / "two" / "report.html").read_text()
    for wrong in ({"rank": 2, "world": 2}, {"reading": DecodeSettings(sampling="keyframe")}):
        with pytest.raises(ValueError, match=r"rank counts from 0|leave reading\.sampling at exact"):
            again(tmp_path / "two", **wrong)


def test_relabel_takes_the_limits_of_reading(again, undisturbed, tmp_path):
    """The first video of the plan has more pixels than the others."""
    shutil.copytree(undisturbed, tmp_path / "shards")
    with pytest.raises(UserError, match=r"lacks labels of 1 shard: .*'00\.mp4': too_large: 320x240 is more than"):
        relabel(again(tmp_path / "shards", reading=DecodeSettings(max_pixels=320 * 240 - 1)))


def test_a_decoder_that_stalls_costs_its_video_alone(settings, tmp_path, videos, monkeypatch):
    """With no patience at all, any decoder that takes longer than an instant is killed, and the run goes on."""
    monkeypatch.setattr(TeacherWorker, "require_progress", lambda *_: None)  # a teacher's ends the run
    run(settings(tmp_path, stall_seconds=0.0, max_reject_share=1.0))
    reasons = {json.loads(line)["reason"] for line in (tmp_path / "rejects.jsonl").read_text().splitlines()}
    assert "stalled" in reasons
    assert sum(len(side.rejects) for side in finished(tmp_path)) >= 1


def test_a_machine_without_memory_seals_nothing_and_the_same_command_with_more_goes_on(settings, undisturbed, tmp_path):
    with pytest.raises(UserError, match=r"3 videos of train-000000 in a row failed twice.*run the same command again"):
        run(settings(tmp_path, memory_gigabytes=0.0005))
    assert not list(finished(tmp_path))
    run(settings(tmp_path))
    assert tars(tmp_path) == tars(undisturbed)


def test_a_retry_reaches_what_a_machine_without_memory_has_rejected(settings, tmp_path, render_video):
    mine, shards = tmp_path / "videos", tmp_path / "shards"
    mine.mkdir()
    render_video(mine / "a.mp4", 2.0, seed=1)
    run(settings(shards, videos=str(mine), memory_gigabytes=0.0005, max_reject_share=1.0))
    (side,) = finished(shards)
    assert side.rejects[0].reason in ("out_of_memory", "crashed")
    for memory in (0.0005, 4.0):
        run(settings(shards, videos=str(mine), retry_rejected=True, memory_gigabytes=memory, max_reject_share=1.0))
    assert {example.meta.path for example in all_examples(shards)} == {"a.mp4"}
    assert (shards / "rejects.jsonl").read_text() == "" and len(list(finished(shards))) == 3


def test_missing_weights_stop_before_anything_is_written(settings, tmp_path, small_spec):
    missing = dataclasses.replace(small_spec, weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match=r"nowhere\.pth"):
        run(settings(tmp_path / "shards", teachers=TeacherSet("small", {"objects": missing})))
    assert not (tmp_path / "shards").exists()


@pytest.mark.gpu
def test_a_gpu_labels_what_a_cpu_labels(settings, undisturbed, tmp_path):
    run(settings(tmp_path, device="cuda", precision="float32"))
    for wanted, found in zip(all_examples(undisturbed), all_examples(tmp_path), strict=True):
        assert (found.key, found.waveform.tobytes()) == (wanted.key, wanted.waveform.tobytes())
        for head, posterior in wanted.posteriors.items():
            assert np.allclose(found.posteriors[head], posterior, atol=2e-3)
