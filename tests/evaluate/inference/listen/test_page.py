"""The page in a headless Chromium whose microphone plays a file: what a user does, and what is seen."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluate.inference.listen import server as server_module
from evaluate.inference.listen.server import ListenServer
from tests.evaluate.conftest import RATE
from tests.evaluate.inference.listen import browser
from tests.evaluate.inference.listen.browser import Browser, Tab
from tests.evaluate.inference.listen.conftest import HTML, int16

CHROMIUM = browser.found()
pytestmark = [
    pytest.mark.faults,  # slow: a browser
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome (apt-get install chromium)"),
]
ROWS = "document.querySelectorAll('#names .row')"
IDLE = "document.querySelector('#status').textContent === ''"
MICROPHONE = "document.querySelector('#microphone').click()"
SEEN = "[...document.querySelectorAll('#names .label')].map(each => each.title)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    soundfile.write(folder / "microphone.wav", int16("low", 6.0, 48_000), 48_000)
    assert CHROMIUM is not None
    with browser.running(CHROMIUM, folder / "profile", folder / "microphone.wav") as running:
        yield running


@pytest.fixture
def tab(chromium: Browser, server: ListenServer) -> Tab:
    tab = Tab(chromium, server.url)
    tab.wait("document.querySelector('#limits')?.textContent")
    return tab


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / f"a {HTML}.wav".replace("/", "")
    soundfile.write(path, np.concatenate([int16("low", 5.0), int16("high", 5.0)]), RATE)
    return path


def test_a_file_is_shown_with_its_names_picture_and_neighbours(tab: Tab, server: ListenServer, sound: Path) -> None:
    tab.choose("#file", sound)
    tab.wait(f"{ROWS}.length && {IDLE}")
    assert tab.run("document.querySelector('#title').textContent") == sound.name
    assert HTML in tab.run(SEEN)  # a class's name, letter by letter
    assert tab.run("document.querySelectorAll('#similar li').length") == 4
    assert tab.run("document.querySelector('#headline').textContent").startswith("in all of it: ")
    colours = "new Set(new Uint32Array(document.querySelector('#picture').getContext('2d')"
    assert tab.run(f"{colours}.getImageData(0, 0, 1000, 192).data.buffer)).size") > 20
    assert tab.run("document.images.length") == 0 and tab.run("document.title") == "SoundNet listens"
    *_, named, _ = server.listener.hear_file(sound)
    tagged = [(part, tag) for part in named["parts"] for tag in part["tags"]["objects"]]
    parts = [part for part, tag in tagged if tag["name"] == HTML and tag["lift"] > 1]
    cells = f"[...{ROWS}].find(row => row.textContent.startsWith('<img')).querySelectorAll('i')"
    places = tab.run(f"[...{cells}].map(cell => [parseFloat(cell.style.left), parseFloat(cell.style.width)])")
    expected = [(10 * part["begin"], 10 * (part["end"] - part["begin"])) for part in parts]  # percent of 10 s
    assert np.allclose(places, expected, atol=0.01) and len(places) > 10


def source(tab: Tab, begin: str) -> str:
    """A function or class of the page's script."""
    script = tab.run("fetch('page.js').then(answer => answer.text())")
    found = re.search(rf"^{begin}.*?^}}", script, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("blocks", [0, 1, 3, 9])
def test_the_newest_samples_are_kept(tab: Tab, blocks: int) -> None:
    """As many as a clip has, 2 s here, as int16."""
    given = [[(7 * block + at) / 256 - 0.5 for at in range(7)] for block in range(blocks)] + [[1.5, 1.0, -1.0, -1.5]]
    script = f"const facts = {{clip_seconds: 2}}; {source(tab, 'class Recent')}; const recent = new Recent(10); "
    script += f"for (const block of {json.dumps(given)}) recent.add(block); return [[...recent.held], recent.total]"
    held, total = tab.run(f"(() => {{ {script} }})()")
    expected = [round(32_768 * value) for block in given[:-1] for value in block] + [32_767, 32_767, -32_768, -32_768]
    assert (held, total) == (expected[-20:], len(expected))


def test_every_part_has_its_first_name_before_others_have_more(tab: Tab) -> None:
    """Eight rows are not all taken by one loud part: what is asked of the page's own function, with parts made up."""
    function = source(tab, "function strongest")
    loud = [{"name": f"loud {place}", "lift": 90 - place} for place in range(9)]
    parts = [{"tags": {"objects": loud}}, *({"tags": {"objects": [{"name": name, "lift": 2}]}} for name in "ab")]
    given = f"const ROWS = 8, shown = {json.dumps({'parts': parts})}; {function}"
    found = tab.run(f"(() => {{ {given} return strongest('objects') }})()")
    assert found == [*([f"loud {place}", 90 - place] for place in range(6)), ["a", 2], ["b", 2]]


def test_a_neighbour_is_played(tab: Tab, sound: Path) -> None:
    tab.choose("#file", sound)
    tab.wait("document.querySelectorAll('#similar li button').length")
    tab.run("document.querySelector('#similar li button').click()")
    assert tab.wait("document.querySelector('#neighbour').duration") == pytest.approx(1.0, abs=0.01)


def test_the_microphone_is_heard_as_it_goes_on_and_can_be_stopped(tab: Tab) -> None:
    tab.run(MICROPHONE)
    tab.wait("/to (0:0[3-9]|0:[1-9]|[1-9])/.test(document.querySelector('#headline').textContent)")
    assert tab.wait(f"{ROWS}.length") and tab.run("document.querySelectorAll('#similar li').length") == 4
    assert len(set(tab.run("[...document.querySelectorAll('.strip i')].map(cell => cell.style.left)"))) >= 3
    tab.wait("document.querySelector('#similar li span').textContent.startsWith('low ')")  # what the microphone plays
    tab.run(MICROPHONE)
    assert tab.run("document.querySelector('#microphone').textContent") == "Use the microphone"
    shown = tab.run("document.querySelector('#headline').textContent")
    tab.run("new Promise(done => setTimeout(done, 1500))")
    assert tab.run("document.querySelector('#headline').textContent") == shown


def test_audio_that_does_not_start_is_said_and_the_microphone_given_back(tab: Tab) -> None:
    """As in Firefox on a machine that has nothing to play sound on."""
    tab.run(
        "AudioContext.prototype.resume = () => new Promise(() => {}), "
        "navigator.mediaDevices.getUserMedia = (ask => async sound => "
        "window.stream = await ask.call(navigator.mediaDevices, sound))(navigator.mediaDevices.getUserMedia), 0"
    )
    tab.run(MICROPHONE)
    tab.wait(
        "document.querySelector('#status').textContent.startsWith('no microphone: the browser\\'s audio does not')"
    )
    assert tab.run("window.stream.getTracks().every(track => track.readyState === 'ended')")


def test_a_file_chosen_while_the_browser_asks_for_the_microphone_is_heard(tab: Tab, sound: Path) -> None:
    tab.run(
        "navigator.mediaDevices.getUserMedia = (ask => async sound => { "
        "const stream = await ask.call(navigator.mediaDevices, sound); "
        "await new Promise(allow => { window.allow = allow }); "
        "window.stream = stream; return stream })(navigator.mediaDevices.getUserMedia), 0"
    )
    tab.run(MICROPHONE)
    tab.wait("!!window.allow")
    tab.choose("#file", sound)
    tab.wait(f"{ROWS}.length && {IDLE}")
    tab.run("window.allow()")
    tab.wait("window.stream && window.stream.getTracks().every(track => track.readyState === 'ended')")
    assert tab.run("document.querySelector('#title').textContent") == sound.name


def test_two_tabs_listen_at_once(tab: Tab, chromium: Browser, server: ListenServer, sound: Path) -> None:
    other = Tab(chromium, server.url)
    other.wait("document.querySelector('#limits')?.textContent")
    tab.run(MICROPHONE)
    other.choose("#file", sound)
    other.wait(f"{ROWS}.length && {IDLE}")
    tab.wait(f"{ROWS}.length")
    titles = [each.run("document.querySelector('#title').textContent") for each in (tab, other)]
    assert titles == ["Microphone", sound.name]
    tab.run(MICROPHONE)


@pytest.mark.parametrize(
    ("data", "line"), [(b"", "empty: "), (b"no sound", "not_media: "), (b"<script>", "not_media: ")]
)
def test_what_cannot_be_read_is_said(tab: Tab, tmp_path: Path, data: bytes, line: str) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    tab.choose("#file", tmp_path / "a.wav")
    said = tab.wait("document.querySelector('#status.error')?.textContent")
    assert said.startswith("a.wav: ") and line in said and tab.run("document.querySelector('#result').hidden")


def test_silence_is_said(tab: Tab, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * RATE, np.int16), RATE)
    tab.choose("#file", tmp_path / "a.wav")
    tab.wait(f"document.querySelector('#headline').textContent && {IDLE}")
    assert "silent, so nothing is named" in tab.run("document.querySelector('#headline').textContent")
    assert tab.run(f"{ROWS}.length") == 0 and tab.run("document.querySelector('#similar').hidden")


def test_an_upload_that_is_too_large_is_not_sent(tab: Tab, tmp_path: Path) -> None:
    with open(tmp_path / "a.wav", "wb") as file:
        file.truncate(500_000_001)  # a hole: no bytes on disk
    tab.choose("#file", tmp_path / "a.wav")
    assert "a.wav has more than 500 MB" in tab.wait("document.querySelector('#status.error')?.textContent")


def test_another_sites_page_learns_nothing_and_gives_nothing(
    tab: Tab, chromium: Browser, server: ListenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []
    monkeypatch.setattr(server_module.Handler, "_receive", lambda handler, file, length: received.append(length))
    (tmp_path / "index.html").write_text("<title>another</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        stranger = Tab(chromium, f"http://localhost:{site.server_address[1]}/index.html")
        stranger.wait("document.title === 'another'")
        for mode in ("cors", "no-cors"):
            for ask in ("facts'", "sound', method: 'POST', body: 'sound'", "live?rate=8000&end=1', method: 'POST'"):
                asked = f"(({{url, ...ask}}) => fetch(url, ask))({{mode: '{mode}', url: '{server.url}/{ask}}})"
                assert stranger.run(f"{asked}.then(() => 'answered', () => 'refused')") == "refused", (mode, ask)
        played = f"Object.assign(new Audio('{server.url}/similar/0'), {{onloadedmetadata: done, onerror: done}})"
        assert stranger.run(f"new Promise(done => {played}).then(event => event.type)") == "error"
        site.shutdown()
    assert not received
    asked = f"fetch('{server.url}/sound', {{method: 'POST', body: 'sound'}})"
    assert tab.run(f"{asked}.then(answer => answer.status)") == 422
    assert received == [5]


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(tab: Tab, sound: Path, width: int, scheme: str) -> None:
    tab.look(width, 800, scheme)
    tab.choose("#file", sound)
    tab.wait(f"{ROWS}.length && {IDLE}")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    colours = "[...document.querySelectorAll('body, .quiet, button, .drop')].map(each => "
    colours += "[getComputedStyle(each).color, (function of(node) { "
    colours += "const style = getComputedStyle(node).backgroundColor; "
    colours += "return style === 'rgba(0, 0, 0, 0)' ? of(node.parentElement) : style })(each)])"
    for pair in tab.run(colours):
        assert contrast(*pair) >= 4.5, pair  # WCAG 2.1, 1.4.3


def contrast(*colours: str) -> float:
    """Of two colours as CSS has them, rgb(1, 2, 3): WCAG's ratio of their relative luminances."""
    lights = []
    for colour in colours:
        shares = np.array([float(each) for each in colour[4:-1].split(",")]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)
