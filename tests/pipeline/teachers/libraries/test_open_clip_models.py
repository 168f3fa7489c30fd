"""Networks of open_clip as teachers, against open_clip's own transform, classifier and posteriors.

No released weights: the smallest network of the package's own configurations (ViT-S-32-alt), its weights random.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.decoder.crop import ResizeCrop
from pipeline.run import run
from pipeline.teachers.cards import cards
from pipeline.teachers.libraries import open_clip_models
from pipeline.teachers.libraries.open_clip_models import build_open_clip, release_file, transform_of_open_clip
from pipeline.teachers.network import load_network
from pipeline.teachers.spec import TeacherSet, TeacherSpec
from pipeline.teachers.teacher import Teacher
from pipeline.teachers.weights import weights_file
from pipeline.teachers.words import WordClassifier, with_text, words_of
from shards.cli.command import compose
from shards.errors import ContractError, UserError
from shards.files import sha256_of
from shards.format.check import check
from shards.format.manifest import Manifest
from shards.format.shard import examples
from shards.format.sidefile import finished

open_clip = pytest.importorskip("open_clip", reason="needs the extra `open_clip`: make setup")

SMALL = "ViT-S-32-alt"
TEMPLATES = ["a photo of a {}.", "{} seen from afar"]
WORDS = ["kitchen", "night club", "Sandkasten", "/a/apartment_building/outdoor", "rock 'n' roll {stage}"]
AS_TOLD = ["kitchen", "night club", "Sandkasten", "apartment building outdoor", "rock 'n' roll {stage}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint as open_clip's training writes it, and a list."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(5)
    network = build_open_clip(f"open_clip/{SMALL}")
    network.logit_scale.data.fill_(math.log(200))  # so that untrained embeddings tell pictures apart
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 1, "name": "small", "state_dict": state}, folder / "small.pt")
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture(scope="module")
def spec(folder):
    return TeacherSpec(
        f"open_clip/{SMALL}", str(folder / "small.pt"), classes=str(folder / "words.txt"), templates=TEMPLATES
    )


@pytest.fixture(scope="module")
def theirs(folder):
    """open_clip's own network of that checkpoint, with its own preprocessing and tokenizer."""
    network, _, preprocess = open_clip.create_model_and_transforms(SMALL, pretrained=str(folder / "small.pt"))
    return network.eval(), preprocess, open_clip.get_tokenizer(SMALL)


def set_of(spec):
    return TeacherSet("words", {"scenes": spec})


def card_of(spec, found=None):
    return with_text(set_of(spec), cards(set_of(spec)), found)["scenes"]


@pytest.fixture(scope="module")
def card(spec):
    return card_of(spec)


def pictures(count=6):
    """Blobs of colour, uint8 (count, 224, 224, 3)."""
    coarse = np.random.default_rng(2).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(56, axis=1).repeat(56, axis=2)


def test_posteriors_are_open_clips_own(spec, card, theirs):
    network, preprocess, tokenizer = theirs
    classifier = open_clip.build_zero_shot_classifier(
        network, tokenizer, AS_TOLD, [lambda word, text=text: text.replace("{}", word) for text in TEMPLATES]
    )
    inputs = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures()])
    with torch.inference_mode():
        cosines = network.encode_image(inputs, normalize=True) @ classifier
        wanted = (network.logit_scale.exp() * cosines).softmax(dim=1).numpy()
    found = Teacher(spec, card, "cpu", "float32").posteriors(pictures())
    assert found.shape == (6, 5) and np.abs(wanted - wanted[0]).max() > 0.05
    assert np.abs(np.log(found) - np.log(wanted)).max() < 0.01  # the card's embedding is rounded to float16
    halved = Teacher(spec, card, "cpu", "bfloat16").posteriors(pictures())
    assert np.sum(wanted * np.log(wanted / halved), axis=1).max() < 0.05


def test_features_are_the_embedding_of_the_picture(spec, card, theirs):
    network, preprocess, _ = theirs
    inputs = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures()])
    with torch.inference_mode():
        wanted = network.encode_image(inputs, normalize=True).numpy()
    assert np.abs(Teacher(spec, card, "cpu").features(pictures()) - wanted).max() < 1e-5


def test_a_card_says_which_words_in_which_sentences(spec, card):
    assert card.classes == tuple(WORDS) and card.text.templates == tuple(TEMPLATES)
    assert card.weights == "small.pt" and card.weights_sha256 == sha256_of(Path(spec.weights))
    other = card_of(replace(spec, templates=TEMPLATES[:1]))
    assert other.text.sha256 != card.text.sha256 == card_of(spec).text.sha256


def test_the_text_is_embedded_once(spec, card, tmp_path, builder, monkeypatch):
    """By a later run it is taken as the first one has it, whatever digits another machine would come to."""
    manifest = replace(builder.manifest, teachers={"scenes": card})
    manifest.save(tmp_path)
    kept = Manifest.load(tmp_path)
    assert kept == manifest
    monkeypatch.setattr("pipeline.teachers.words.tokens_of", None)  # what embedding begins with
    assert card_of(spec, kept) == manifest.teachers["scenes"]
    with pytest.raises(TypeError):
        card_of(replace(spec, templates=TEMPLATES[:1]), kept)


def test_an_embedding_that_was_changed_is_refused(spec, card):
    with pytest.raises(ContractError, match="has not the sha256 that its card says"):
        Teacher(spec, replace(card, text=replace(card.text, values="AAAA" + card.text.values[4:])), "cpu")


@pytest.mark.faults  # slow: stage one three times
def test_videos_are_labelled_with_words(spec, tmp_path, settings, videos):
    """Through all of stage one, a resumed run, and a run with another list."""
    run(settings(tmp_path / "shards", teachers=set_of(spec)))
    manifest = Manifest.load(tmp_path / "shards")
    assert check(tmp_path / "shards").clips > 0
    (side, *_) = finished(tmp_path / "shards")
    example = next(examples(tmp_path / "shards", side, manifest.clip.sample_rate))
    row = example.posteriors["scenes"].astype(np.float64)
    assert row.shape[1] == 5 and np.abs(row.sum(axis=1) - 1).max() < 4e-4
    run(settings(tmp_path / "shards", teachers=set_of(spec)))
    (tmp_path / "others.txt").write_text("kitchen\nnight club\n")
    other = replace(spec, classes=str(tmp_path / "others.txt"))
    with pytest.raises(ContractError, match=r"teachers: .* this run .*Use the settings the shards were made with"):
        run(settings(tmp_path / "shards", teachers=set_of(other)))


@pytest.fixture(scope="module")
def videos(tmp_path_factory, render_video):
    folder = tmp_path_factory.mktemp("videos")
    for seed in (1, 2):
        render_video(folder / f"{seed}.mp4", 2.2, seed=seed, size=(320, 240))
    return folder


@pytest.mark.parametrize(
    ("name", "release"),
    [(SMALL, ""), ("ViT-B-32", "laion2b_s34b_b79k"), ("RN50-quickgelu", "openai"), ("MobileCLIP2-S0", "dfndr2b")],
)
def test_the_transform_is_that_of_open_clips_release(name, release, monkeypatch):
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: "")
    with torch.device("meta"):  # no weight is drawn
        _, _, own = open_clip.create_model_and_transforms(
            name, pretrained=release or None, load_weights=False, device="meta"
        )
    found = transform_of_open_clip(f"open_clip/{name}" + f":{release}" * bool(release))
    by_kind = {type(step).__name__: step for step in own.transforms}
    resize, crop, normalise = by_kind["Resize"], by_kind["CenterCrop"], by_kind["Normalize"]
    assert (found.resize, (found.crop, found.crop)) == (resize.size, tuple(crop.size))
    assert found.interpolation == resize.interpolation.value
    np.testing.assert_allclose(found.mean, [255 * value for value in normalise.mean], rtol=1e-6)
    np.testing.assert_allclose(found.std, [255 * value for value in normalise.std], rtol=1e-6)


def test_the_shipped_set_wants_a_release_and_a_list(tmp_path, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise FileNotFoundError("Failed to download file (x). Last error: no route to host")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    monkeypatch.chdir(tmp_path)
    shipped = compose(TeacherSet, "teachers/open_clip")
    page = r"scenes: the file of https://huggingface\.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    with pytest.raises(
        UserError, match=page + r" \(it is downloaded then\)\n  scenes: data/teachers/categories_places365"
    ):
        cards(shipped)
    (tmp_path / "data/teachers").mkdir(parents=True)
    (tmp_path / "data/teachers/categories_places365.txt").write_text("/a/airfield 0\n")
    with pytest.raises(
        UserError, match=page + r" \(the download failed: .* no route to host\); .*teachers\.heads\.scenes\.weights=<"
    ):
        cards(shipped)
    assert shipped.active["scenes"].transform is None
    assert transform_of_open_clip(shipped.active["scenes"].architecture).view == ResizeCrop(224, 224)


def test_a_release_is_the_file_that_open_clip_downloaded(folder, spec, tmp_path, monkeypatch):
    """Its own download leaves .safetensors in the cache of huggingface_hub, and is asked where it is not there."""
    state = torch.load(folder / "small.pt", weights_only=True)["state_dict"]
    cached = tmp_path / "open_clip_model.safetensors"
    asked = []

    def download(record):
        asked.append(record)
        save_file({name.removeprefix("module."): tensor for name, tensor in state.items()}, cached)

    record = {"hf_hub": "someone/small/", "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear"}
    record |= {"resize_mode": "shortest"}
    monkeypatch.setattr(open_clip.pretrained, "_PRETRAINED", {SMALL: {"test": record}})
    monkeypatch.setattr(open_clip, "download_pretrained", download)
    found = {("someone/small", cached.name): str(cached)}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *file: found.get(file) if asked else None)
    released = replace(spec, architecture=f"open_clip/{SMALL}:test", weights="open_clip")
    assert weights_file(released).path is None
    card = card_of(released)
    assert asked == [record] and release_file(released.architecture)[0] == cached
    assert card.weights == cached.name and card.weights_sha256 == sha256_of(cached)
    assert card.transform["mean"] == [127.5] * 3 and card.transform["interpolation"] == "bilinear"
    assert len(load_file(cached)) == len(state)


def test_names_that_read_the_same_are_refused():
    assert words_of(WORDS) == AS_TOLD
    for names in (["Dog", "dog"], ["a  cat", "a cat "], ["/b/bus_stop", "bus stop"]):
        with pytest.raises(UserError, match="which read the same: keep one of them"):
            words_of(["first", *names])


def with_list(spec, tmp_path, text):
    (tmp_path / "list.txt").write_bytes(text)
    return replace(spec, classes=str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\n\n", r"list\.txt is empty: it must name one class a line"),
        (b"cat\ndog\ncat\n", "has 'cat' and 'cat', which read the same"),
        (b"\xff\xfec\x00a\x00", r"list\.txt is not a list of class names"),
        (
            b"dog\n" + b"very " * 90 + b"long\n",
            r"'a photo of a very very .* has 9\d tokens, and .* reads 75: use a shorter",
        ),
    ],
)
def test_a_list_that_is_none_is_refused(spec, tmp_path, text, said):
    with pytest.raises(UserError, match=said) as raised:
        cards(set_of(with_list(spec, tmp_path, text)))
    assert "\n" not in str(raised.value)


def test_a_template_has_a_place_for_the_name(spec):
    with pytest.raises(ValueError, match=r"the template 'a photo' has no \{\} where the class's name goes"):
        replace(spec, templates=["a {}", "a photo"])
    with pytest.raises(ValueError, match=r"templates \[\]: networks of open_clip/ need some"):
        replace(spec, templates=[])
    with pytest.raises(ValueError, match=r"timm/resnet18 has templates .* others take none"):
        replace(spec, architecture="timm/resnet18")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "open_clip/ViT-B-33"}, r"no network 'ViT-B-33'\. Near it: \[.*'ViT-B-32'"),
        ({"architecture": "open_clip/ViT-B-32:laion"}, r"no release 'laion' of ViT-B-32, only \[.*'laion2b_s34b_b79k'"),
        ({"architecture": "open_clip/ViT-B-32", "weights": "open_clip"}, "names no release that could be downloaded"),
        (
            {"architecture": "open_clip/ViT-B-32:openai"},
            "QuickGELU: its network is open_clip/ViT-B-32-quickgelu:openai",
        ),
        ({"architecture": "open_clip/ViT-B-16-SigLIP"}, "tokenizer of another package"),
        ({"architecture": "open_clip/roberta-ViT-B-32"}, "tokenizer of another package"),
        ({"architecture": "open_clip/PE-Core-B-16:meta", "weights": "open_clip"}, "224x224, resize mode squash"),
        ({"architecture": "open_clip/ViT-S-16-alt"}, r"small\.pt does not fit the network"),
        ({"weights": "nowhere.pt"}, r"nowhere\.pt \(your own file\)"),
        ({"classes": None}, r"set teachers\.heads\.scenes\.classes to a list file"),
    ],
)
def test_what_cannot_be_a_teacher_of_words_is_refused(spec, changed, said):
    with pytest.raises(UserError, match=said):
        cards(set_of(replace(spec, **changed)))


def test_damaged_weights_are_refused(spec, folder, tmp_path):
    whole = (folder / "small.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.pt cannot be read as a file of weights"):
        cards(set_of(replace(spec, weights=str(tmp_path / "half.pt"))))
    state = torch.load(folder / "small.pt", weights_only=True)["state_dict"]
    state["module.logit_scale"] = torch.tensor(float("nan"))
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(UserError, match="not finite numbers"):
        cards(set_of(replace(spec, weights=str(tmp_path / "nan.pt"))))


def test_the_extra_is_named_and_no_line_of_open_clips_is_told(spec, capfd, monkeypatch):
    load_network(spec.architecture, Path(spec.weights), 5)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    open_clip_models._known.cache_clear()
    with pytest.raises(UserError, match=r"needs the extra `open_clip`: /.* -m pip install 'soundnet\[open_clip\]'"):
        build_open_clip(spec.architecture)


def test_of_a_tower_with_tokens_beside_it_the_embedding_is_taken(spec, card):
    """CoCa's image tower has (embedding, tokens)."""
    network = load_network(spec.architecture, Path(spec.weights), 5)
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = WordClassifier(network, card)(pictures)
        tower = network.visual
        network.visual = torch.nn.Module()
        network.visual.forward = lambda inputs: (tower(inputs), torch.zeros(2, 7, 256))
        assert torch.equal(WordClassifier(network, card)(pictures), plain)
