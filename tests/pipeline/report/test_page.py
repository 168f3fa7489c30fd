"""The page holds every count, shows hostile names as text, and asks nothing of the network."""

import re
from html.parser import HTMLParser

import pytest

from pipeline.report import write_report
from pipeline.report.page import in_bytes, in_percent, in_time, readable
from shards.errors import UserError


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.addresses, self.handlers = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data", "poster")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text))


def page_of(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    return Page(html), html


def tile(html, name):
    return re.search(rf"<dt>{name}</dt><dd>([^<]*)</dd>", html).group(1)


def test_every_count_is_there(full):
    page, html = page_of(full.folder)
    tiles = ("Inputs", "Accepted", "Rejected", "Duplicates", "Waiting", "Clips", "Sound")
    assert [tile(html, name) for name in tiles] == ["8", "4", "1", "2", "1", "6", "9 s"]
    total = sum(tar.stat().st_size for tar in full.folder.glob("*.tar"))
    assert tile(html, "On disk") == f"{total / 1000:.3g} kB"
    assert "8 inputs = 4 accepted + 1 rejected + 2 duplicates + 1 waiting" in page.words
    assert re.search(r">train</th><td>3</td><td>5</td><td>7 s</td>", html)
    assert re.search(r">validation</th><td>1</td><td>1</td><td>2 s</td>", html)
    assert "no_sound 1 video" in page.words
    assert "dropped 3 clips" in page.words
    assert "copy 1.mp4" in page.words


def test_every_clip_of_a_small_folder_is_shown(full):
    page, html = page_of(full.folder)
    assert html.count("<audio ") == len(full.examples) == 6
    assert html.count('class="sound"') == 6
    frames = sum(len(example.meta.frame_got) for example in full.examples.values())
    assert page.tags.count("img") == frames + 6  # a spectrogram each
    windows = {"first": 0, "second": 0}
    for example in full.examples.values():
        windows["first"] += len(example.posteriors["objects"])
        windows["second"] += len(example.posteriors["objects"]) * (example.meta.path not in ("c.mp4", "broken/a.mp4"))
    assert page.tags.count("h5") == sum(windows.values())


def test_the_likeliest_class_stands_first_with_its_share(full):
    page, _ = page_of(full.folder)
    example = next(iter(full.examples.values()))
    posterior = example.posteriors["objects"][0].astype(float)
    name = full.manifest.teachers["objects"].classes[posterior.argmax()]
    assert f"0\N{EN DASH}0.5 s {name} {in_percent(posterior.max())}" in page.words


def test_hostile_names_stay_text(full):
    page, html = page_of(full.folder)
    assert full.hostile in page.words
    assert "script" not in page.tags
    assert page.handlers == []
    assert r"line\nbreak \u202egpj caf\udce9.mp4" in page.words
    assert "\u202e" not in html
    assert full.manifest.teachers["objects"].classes[1] in page.words


def test_nothing_is_asked_of_the_network(full):
    page, html = page_of(full.folder)
    assert page.addresses
    assert all(re.match(r"data:(image/png|image/jpeg|audio/mpeg);base64,[\w+/=]+$|#\w+$", at) for at in page.addresses)
    assert not re.search(r"url\(|@import|srcset|<(link|base|iframe|object|embed)\b", html)


def test_anchors_and_labels_lead_somewhere(full):
    _, html = page_of(full.folder)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)
    assert all("alt=" in image for image in re.findall(r"<img[^>]*>", html))


def test_the_page_is_the_same_every_time(full):
    first = write_report(full.folder).read_bytes()
    assert write_report(full.folder).read_bytes() == first


def test_a_folder_without_clips_has_a_page(builder):
    builder.shard("train-000000", {}, [("x.mp4", "unreadable"), ("y.mp4", "unreadable")])
    page, html = page_of(builder.folder)
    assert (tile(html, "Inputs"), tile(html, "Clips"), tile(html, "Rejected")) == ("2", "0", "2")
    assert "unreadable 2 videos" in page.words
    assert "It has labelled no clip yet." in page.words


def test_a_folder_without_shards_has_a_page(builder):
    builder.row({"duplicates": []})
    page, html = page_of(builder.folder)
    assert tile(html, "Inputs") == "0"
    assert "No shard is finished yet." in page.words


def test_a_damaged_shard_is_named_with_the_command_that_finds_out_more(full):
    tar = full.folder / "validation-000000.tar"
    tar.write_bytes(tar.read_bytes()[:2_000])
    with pytest.raises(UserError, match="make check-shards shards="):
        write_report(full.folder)


def test_numbers_are_in_the_unit_that_fits():
    assert [in_bytes(count) for count in (0, 999, 45_400_000, 1_390_000_000_000)] == [
        "0 bytes",
        "999 bytes",
        "45.4 MB",
        "1.39 TB",
    ]
    assert [in_time(seconds) for seconds in (0, 12.5, 966, 31_500_000)] == ["0 s", "12.5 s", "16.1 min", "8,750.0 h"]
    assert [in_percent(share) for share in (0.001, 0.094, 0.43, 1)] == ["0.1 %", "9.4 %", "43 %", "100 %"]
    assert readable("a\tb\u202ec\udcff é漢") == r"a\tb\u202ec\udcff é漢"
