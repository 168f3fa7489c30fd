"""Shards for a URL: sent whole, side file last; the working folder is what the URL holds, and no more."""

import json
import threading
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.output.destination import Output
from shards.errors import ContractError, UserError
from shards.format.clip import ClipSpec
from shards.format.manifest import Manifest, TeacherCard


@pytest.fixture(params=["memory", "file"])
def output(request, tmp_path):
    place = f"output-{tmp_path.name}" if request.param == "memory" else f"{tmp_path}/far"
    output = Output.at(f"{request.param}://{place}", tmp_path / "work")
    output.folder.mkdir(parents=True)
    return output


@pytest.fixture
def far(output):
    """The names at the URL, with their bytes."""
    system, root = fsspec.core.url_to_fs(output.location)
    return lambda: {path.rpartition("/")[2]: system.cat_file(path) for path in system.find(root)}


class Side:
    shard = "train-000000"


def made(folder, shard="train-000000"):
    (folder / f"{shard}.tar").write_bytes(b"tar of " + shard.encode())
    (folder / f"{shard}.json").write_text(json.dumps({"shard": shard}))


def test_a_shard_is_sent_and_only_its_side_file_stays(output, far):
    made(output.folder)
    output.deliver(Side)
    assert far() == {"train-000000.tar": b"tar of train-000000", "train-000000.json": b'{"shard": "train-000000"}'}
    assert [path.name for path in output.folder.iterdir()] == ["train-000000.json"]


def test_another_machine_finds_what_is_finished_and_nothing_else(output, far, tmp_path):
    (output.folder / "manifest.json").write_text("{}")
    (output.folder / "plan.jsonl").write_text("rows\n")
    made(output.folder)
    made(output.folder, "train-000001")
    output.push("manifest.json")
    output.push("plan.jsonl")
    output.deliver(Side)
    output.push("train-000001.tar")  # and then it was killed
    other = Output(output.location, tmp_path / "elsewhere")
    other.folder.mkdir()
    other.pull()
    here = {path.name: path.read_bytes() for path in other.folder.iterdir()}
    assert here == {name: far()[name] for name in ("manifest.json", "plan.jsonl", "train-000000.json")}


def test_what_is_no_more_at_the_url_is_no_more_in_the_folder(output):
    made(output.folder, "train-000001")
    (output.folder / "train-000000.json").write_text("{}")
    (output.folder / "manifest.json").write_text("{}")
    (output.folder / "plan.jsonl").write_text("rows\n")
    output.pull()
    assert {path.name for path in output.folder.iterdir()} == {"train-000001.json", "train-000001.tar"}  # on its way
    output.clear(["train-000000"])
    assert len(list(output.folder.iterdir())) == 2
    output.clear(["train-000001"])
    assert list(output.folder.iterdir()) == []


def test_a_side_file_made_anew_elsewhere_is_read_anew(output):
    made(output.folder)
    output.deliver(Side)
    system, root = fsspec.core.url_to_fs(output.location)
    system.pipe_file(f"{root}/train-000000.json", b'{"shard": "train-000000", "other": 1}')
    output.pull()
    assert "other" in (output.folder / "train-000000.json").read_text()


class MeetingFileSystem(MemoryFileSystem):
    """No file is read before as many are asked for as there are."""

    protocol = "meeting"
    together = threading.Barrier(8, timeout=60)
    read = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("meeting:/"))

    def cat_file(self, path, **options):
        self.together.wait()
        MeetingFileSystem.read += 1
        return super().cat_file(path, **options)


def test_side_files_are_fetched_side_by_side_and_before_the_turn(tmp_path):
    fsspec.register_implementation("meeting", MeetingFileSystem, clobber=True)
    far = fsspec.filesystem("memory")
    for number in range(8):
        far.pipe_file(f"/meeting/train-{number:06d}.tar", b"tar")
        far.pipe_file(f"/meeting/train-{number:06d}.json", b"side %d" % number)
    output = Output("meeting://meeting", tmp_path)
    output.fetch()
    output.pull()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        f"train-{number:06d}.json": b"side %d" % number for number in range(8)
    }
    assert MeetingFileSystem.read == 8
    far.rm("/meeting", recursive=True)


def test_a_plan_that_has_become_another_is_seen_and_one_that_has_grown_is_ours(output):
    card = TeacherCard("net", "net.pth", "0" * 64, {}, ("a",))
    manifest = Manifest(ClipSpec(), "set", {"objects": card}, "float32", "wav", "none", "exact", True, 0.1, 0)
    output.agree_on(manifest, "")
    (output.folder / "plan.jsonl").write_text("our rows\n")
    seal = output.seal()
    (output.folder / "plan.jsonl").write_text("our rows\nand more\n")
    output.push("plan.jsonl")
    output.pull()
    output.require_sealed(seal, manifest)
    with pytest.raises(ContractError, match=r'precision: .* has "float32", this run "bfloat16". Two runs began there'):
        output.require_sealed(seal, replace(manifest, precision="bfloat16"))
    (output.folder / "plan.jsonl").write_text("their rows\n")
    with pytest.raises(ContractError, match="another plan now than this run worked by"):
        output.require_sealed(seal, manifest)


def test_a_folder_is_worked_in_directly_and_a_side_file_without_its_tar_goes(tmp_path):
    output = Output.at(str(tmp_path), tmp_path / "work")
    made(tmp_path)
    (tmp_path / "train-000001.json").write_text("{}")
    (tmp_path / "manifest.json").write_text("{}")
    output.pull()
    output.deliver(Side)
    assert output.folder == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"train-000000.tar", "train-000000.json", "manifest.json"}


def test_each_url_has_its_own_working_folder(tmp_path):
    places = ["memory://a/mine", "memory://b/mine", "memory://a/mine/"]
    first, second, third = (Output.at(place, tmp_path).folder for place in places)
    assert first != second and first == third and first.name.startswith("mine-")


def test_a_url_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (tmp_path / "far").write_text("a file, where a folder should be")
    output = Output(f"file://{tmp_path}/far", tmp_path / "work")
    output.folder.mkdir()
    made(output.folder)
    with pytest.raises(UserError, match=r"far: train-000000.tar cannot be written \(3 tries\): "):
        output.deliver(Side)
    assert (output.folder / "train-000000.tar").exists()


def test_a_protocol_whose_package_is_missing_says_so(tmp_path):
    with pytest.raises(UserError, match=r"oci://bucket/mine cannot be opened: .*ocifs"):
        Output.at("oci://bucket/mine", tmp_path)
