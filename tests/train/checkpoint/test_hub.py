"""A folder for Hugging Face and back, from disk and from a server with its endpoints; hostile ones are a line."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from flask import Flask, Response, jsonify, request
from safetensors.torch import load_file, save_file
from werkzeug.serving import make_server

from shards.errors import UserError
from tests.forked import python
from tests.train.checkpoint.test_export import PLAIN, checkpoint
from train.checkpoint.checkpoint import load, load_student, save
from train.checkpoint.export import ExportSettings, run
from train.checkpoint.hub import CARD, CONFIG, WEIGHTS, checkpoint_file, write_folder

COMMIT, EARLIER = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1.0": EARLIER, "by/somebody": EARLIER, EARLIER: EARLIER}
LOAD = (
    "import sys; from pathlib import Path; from train.checkpoint.hub import checkpoint_file\n"
    "from train.checkpoint.checkpoint import load; from shards.errors import UserError\n"
    "try: [print(load(checkpoint_file(Path(name))).network_sha256, flush=True) for name in sys.argv[1:]]\n"
    "except UserError as error: sys.exit(f'error: {error}')"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "net.pt", checkpoint(PLAIN))
    run(ExportSettings(tmp_path / "net.pt", "hub"))
    return tmp_path / "net"


def test_a_folder_holds_what_the_checkpoint_says(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, CONFIG, CARD])
    expected = checkpoint(PLAIN)
    tensors = load_file(folder / WEIGHTS)
    assert tensors.keys() >= {f"network/{name}" for name in expected.network}
    assert all(torch.equal(tensors[f"network/{name}"], tensor) for name, tensor in expected.network.items())
    config = json.loads((folder / CONFIG).read_text())
    assert config["model_type"] == "soundnet" and config["clip"]["sample_rate"] == 1_000
    assert (
        config["teachers"]["scenes"]["classes"] == ["beach", "office"] and config["spec"]["layers"][2]["filters"] == 6
    )
    student, loaded = load_student(checkpoint_file(folder))
    waveform = torch.randn(1, 2_000, generator=torch.Generator().manual_seed(0))
    before, _ = load_student(folder.with_suffix(".pt"))
    assert all(torch.equal(logits, before(waveform)[head]) for head, logits in student(waveform).items())
    assert loaded.training_mean is not None and loaded.teachers == expected.teachers
    assert checkpoint_file(folder / WEIGHTS) == folder / WEIGHTS  # a checkpoint itself


def test_its_card_has_metadata_and_no_folder_of_this_machine(folder: Path) -> None:
    _, metadata, card = (folder / CARD).read_text().split("---\n", 2)
    facts = yaml.safe_load(metadata)
    assert (facts["library_name"], facts["pipeline_tag"]) == ("soundnet", "audio-classification")
    assert isinstance(facts["license"], str) and "soundnet" in facts["tags"]
    assert card.startswith("\n# net\n") and 'load("OWNER/net")' in card
    for path in folder.iterdir():
        assert b"/home/somebody" not in path.read_bytes(), path.name  # of the checkpoint's settings


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The folder as anybody/net of a hub, and what was asked of it; evil files stand beside the two.

    An earlier revision has the weights of another network.
    """
    other = checkpoint(PLAIN)
    other.network = {
        name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in other.network.items()
    }
    write_folder(folder.with_name("earlier"), other, [])
    folders = {COMMIT: folder, EARLIER: folder.with_name("earlier")}
    app, asked = Flask("hub"), list[str]()
    (folder / "net.py").write_text("raise SystemExit('executed')")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(print))

    def names() -> list[str]:
        return [*sorted(path.name for path in folder.iterdir()), "../../../escaped.txt", f"../{WEIGHTS}"]

    def listed(name: str, commit: str) -> dict[str, object]:
        data = (folders[commit] / name).read_bytes() if (folders[commit] / name).is_file() else b""
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    @app.before_request
    def note() -> None:
        asked.append(request.path)

    @app.get("/api/models/anybody/net/revision/<path:revision>")
    def info(revision: str) -> Response:
        if revision not in REVISIONS:
            return Response("{}", 404, headers={"X-Error-Code": "RevisionNotFound"})
        return jsonify(id="anybody/net", sha=REVISIONS[revision], siblings=[{"rfilename": name} for name in names()])

    @app.get("/api/models/anybody/net/tree/<commit>")
    def tree(commit: str) -> Response:
        return jsonify([listed(name, commit) for name in names()])

    @app.route("/anybody/net/resolve/<commit>/<path:name>", methods=["GET", "HEAD"])
    def file(commit: str, name: str) -> Response:
        data = (folders[commit] / name).read_bytes()
        tag = f'"{hashlib.sha1(data).hexdigest()}"'
        return Response(data, headers={"X-Repo-Commit": commit, "ETag": tag})

    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.mark.faults
def test_a_name_is_fetched_and_nothing_else_of_its_folder(
    served: tuple[str, list[str]], tmp_path: Path, folder: Path
) -> None:
    endpoint, asked = served
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    done = python("-c", LOAD, "anybody/net", **place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [checkpoint(PLAIN).network_sha256]
    resolved = {path.rpartition("/")[2] for path in asked if "/resolve/" in path}
    assert resolved == {WEIGHTS, CONFIG} and not list(tmp_path.rglob("escaped.txt"))
    asked.clear()
    offline = python("-c", LOAD, "anybody/net", **place | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (offline.returncode, offline.stdout, asked) == (0, done.stdout, [])
    absent = python("-c", LOAD, "anybody/other", **place)
    assert absent.returncode == 1 and absent.stdout == ""
    line = absent.stderr.splitlines()[-1]
    assert line.startswith("error: there is no file or folder anybody/other here, and Hugging Face gives no ")
    (folder / CONFIG).unlink()
    bare = python("-c", LOAD, "anybody/net", **place | {"HF_HOME": str(tmp_path / "another")})
    assert bare.returncode == 1 and "has no config.json, so it is no checkpoint" in bare.stderr.splitlines()[-1]


def test_a_revision_is_a_branch_a_tag_or_a_commit(served: tuple[str, list[str]], tmp_path: Path, folder: Path) -> None:
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": served[0], "HF_HUB_DISABLE_XET": "1"}
    given = ["anybody/net", "anybody/net@main", f"anybody/net@{COMMIT}"]
    given += ["anybody/net@v1.0", "anybody/net@by/somebody", f"anybody/net@{EARLIER}", "anybody/net@v2"]
    done = python("-c", LOAD, *given, **place)
    later, earlier = checkpoint(PLAIN).network_sha256, load(folder.with_name("earlier") / WEIGHTS).network_sha256
    assert later != earlier and done.stdout.split() == [later] * 3 + [earlier] * 3
    assert done.stderr.splitlines()[-1] == (
        "error: there is no file or folder anybody/net@v2 here, and anybody/net on Hugging Face has no branch, tag or "
        "commit v2"
    )


@pytest.mark.faults
def test_export_takes_a_name_and_asks_where_to(served: tuple[str, list[str]], tmp_path: Path, folder: Path) -> None:
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": served[0], "HF_HUB_DISABLE_XET": "1"}
    words = ["-m", "train.checkpoint.export", "checkpoint=anybody/net@v1.0", "format=safetensors"]
    asked = python(*words, **place)
    line = "error: checkpoint=anybody/net@v1.0 is on Hugging Face: say where its file goes here, out=..."
    assert (asked.returncode, asked.stderr.splitlines()[-1]) == (1, line)
    done = python(*words, f"out={tmp_path / 'a.safetensors'}", **place)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "a.safetensors").network_sha256 == load(folder.with_name("earlier") / WEIGHTS).network_sha256


def edit_config(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        change(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return edit


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "has no model.safetensors, so it is no checkpoint"),
        (lambda folder: (folder / CONFIG).unlink(), "has no config.json"),
        (lambda folder: (folder / CONFIG).write_text("{"), "is no checkpoint of this program"),
        (lambda folder: (folder / CONFIG).write_text("[" * 10**6), "is no checkpoint of this program"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "is not a JSON object"),
        (lambda folder: (folder / CONFIG).write_bytes(bytes(2**24 + 1)), "is too large to be ours"),
        (edit_config(lambda config: config.update(model_type="bert")), 'has "bert", model.safetensors "soundnet"'),
        (edit_config(lambda config: config["spec"].update(name="other")), "spec: "),  # type: ignore[attr-defined]
        (edit_config(lambda config: config.pop("clip")), "clip: .* has null"),
        (edit_config(lambda config: config.update(auto_map="net.py")), 'auto_map: .* has "net.py"'),
        (lambda folder: (folder / WEIGHTS).write_bytes(pickle.dumps({})), "is no checkpoint of this program"),
        (lambda folder: save_file({"a": torch.zeros(1)}, folder / WEIGHTS), "its header has no entry soundnet"),
        (lambda folder: save_file({}, folder / WEIGHTS, {"soundnet": "[]"}), "is no list of fields"),
        (
            lambda folder: [(folder / WEIGHTS).unlink(), (folder / WEIGHTS).symlink_to("/etc/passwd")],
            "is no checkpoint of this program",
        ),
    ],
)
def test_a_hostile_folder_is_one_line(folder: Path, harm: Callable[[Path], object], line: str) -> None:
    harm(folder)
    with pytest.raises(UserError, match=line) as caught:
        checkpoint_file(folder)
    assert "\n" not in str(caught.value) and "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("../a/b", "a/../b", "/a/b", "a/b/c", "a", "a/b?x=1", "http://a/b", "a/b.pt", "a/b.safetensors", "ä/b"),
        *("a/b@", "a/b@../c", "a/b@c/../d", "a/b@/c", "a/b@c@d", "a/b@c:d", "a@b/c", "a/b@-c"),
    ],
)
def test_what_is_no_name_is_never_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr("train.checkpoint.hub._fetched", asked)
    assert checkpoint_file(Path(name)) == Path(name)
    with pytest.raises(AssertionError, match="asked"):
        checkpoint_file(Path("owner/name.v2"))


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"no file or folder owner/name@v1 here; .* pip install .soundnet\[hub\]"):
        checkpoint_file(Path("owner/name@v1"))


def test_a_folder_is_not_written_over_a_file(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileExistsError, match=CARD):
        run(ExportSettings(tmp_path / "net.pt", "hub", folder / CARD))
    shutil.copytree(folder, tmp_path / "copy")
    run(ExportSettings(tmp_path / "net.pt", "hub", tmp_path / "copy"))  # the same again
    assert checkpoint_file(tmp_path / "copy") == tmp_path / "copy" / WEIGHTS
