"""The server answers its own page, and to everybody else says in a line why not. Nothing of an upload stays."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import soundfile

from evaluate.inference.listen import server as server_module
from evaluate.inference.listen.run import ListenSettings
from evaluate.inference.listen.server import HEADERS, UPLOADS, ListenServer
from shards.errors import UserError
from tests.evaluate.conftest import RATE
from tests.evaluate.inference.listen.conftest import CLASSES, int16
from tests.forked import Forked, python

COMMAND = "evaluate.inference.listen"


def ask(
    server: ListenServer, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a request, as a program sends it: without Origin."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, body, named)
    answer = connection.getresponse()
    found = (answer.status, dict(answer.headers), answer.read())
    connection.close()
    return found


def reason(found: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    return found[0], json.loads(found[2])["error"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "a.flac"
    soundfile.write(path, int16("low", 3.0), RATE)
    return path.read_bytes()


def test_every_answer_has_the_headers_that_keep_others_out(server: ListenServer) -> None:
    for path in ("/", "/page.js", "/page.css", "/microphone.js", "/facts", "/similar/0", "/nothing"):
        status, headers, _ = ask(server, path)
        assert status == (404 if path == "/nothing" else 200)
        assert headers.items() >= HEADERS.items() and "Access-Control-Allow-Origin" not in headers


def test_a_file_is_answered_line_by_line(server: ListenServer, sound: bytes) -> None:
    status, _, body = ask(server, "/sound", sound)
    first, *named, last = map(json.loads, body.splitlines())
    assert status == 200 and first["seconds"] == 3.0 and last["done"] and len(last["similar"]) == 4
    assert {tag["name"] for tag in named[-1]["whole"]["tags"]["objects"]} <= set(CLASSES)


def test_the_microphone_is_answered(server: ListenServer) -> None:
    status, _, body = ask(server, "/live?rate=48000&end=7.5", int16("low", 2.0, 48_000).tobytes())
    answer = json.loads(body)
    assert status == 200 and answer["end"] == pytest.approx(7.5) and len(answer["similar"]) == 4


@pytest.mark.parametrize(
    "path",
    [
        *("/../run.py", "/%2e%2e/run.py", "/page.html", "/similar/../../x", "/similar/4", "/similar/-1", "/similar/²"),
        *("/similar/0/0", "/similar/", "//etc/passwd", "/similar/99999999999999999999", "/\x00", "/run.py", "/sound"),
    ],
)
def test_nothing_but_the_page_is_served(server: ListenServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 404 ") and b"there is nothing here" in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "harm.example"},  # a name that its owner has turned to 127.0.0.1
        {"Host": "127.0.0.1.harm.example:7860"},
        {"Host": ""},
        {"Host": "[x"},
        {"Origin": "http://harm.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another program of this machine
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_page_is_refused(server: ListenServer, sound: bytes, headers: dict[str, str]) -> None:
    asked = {"/sound": sound, "/live?rate=8000&end=1": bytes(998), "/facts": None, "/similar/0": None}
    for path, body in asked.items():
        status, line = reason(ask(server, path, body, **headers))
        assert status == 403 and ("is not called" in line or line == "another page may not ask this server")


def test_its_own_page_is_answered_by_all_its_names(server: ListenServer) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]", "10.1.2.3", socket.gethostname()):
        host = f"{name}:{server.server_address[1]}"
        assert ask(server, "/facts", Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")[0] == 200, name


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "line"),
    [
        ("/sound", b"", {}, 422, "empty: "),
        ("/sound", b"no sound at all", {}, 422, "not_media: "),
        ("/sound", b"#EXTM3U\n/etc/passwd\n", {}, 422, "not_media: "),
        ("/sound", b"", {"Content_Length": "500000001"}, 413, "500000001 bytes are too many: 500000000 are taken"),
        ("/sound", b"", {"Content_Length": "9" * 5000}, 413, "are too many"),
        ("/sound", b"", {"Content_Length": "-1"}, 411, "does not say how long it is"),
        ("/live?rate=8000&end=1", b"abc", {}, 400, "3 bytes are no 16-bit samples"),
        ("/live?rate=8000&end=1", b"", {}, 422, "has no samples"),
        ("/live?rate=8000&end=1", bytes(200_000), {}, 413, "are too many"),  # a clip has 32,000
        ("/live?rate=8000&end=nan", b"", {}, 400, "are of no sound"),
        ("/live?rate=1&end=1", b"", {}, 400, "are of no sound"),
        ("/live?rate=x", b"", {}, 400, "are wanted"),
        ("/else", b"", {}, 404, "there is nothing here"),
    ],
)
def test_what_is_no_sound_is_one_line(
    server: ListenServer, path: str, body: bytes, headers: dict[str, str], status: int, line: str
) -> None:
    found, said = reason(ask(server, path, body, **headers))
    assert found == status and line in said and "\n" not in said


def test_a_refused_upload_gets_its_answer_while_it_is_sent(server: ListenServer) -> None:
    assert reason(ask(server, "/sound", bytes(6_000_000), Origin="http://harm.example"))[0] == 403


def test_an_upload_that_breaks_off_leaves_nothing(server: ListenServer, sound: bytes) -> None:
    head = f"POST /sound HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sound) + 1}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=60) as connection:
        connection.sendall(head + sound)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert b" 400 " in answer and b"the upload broke off" in answer
    assert ask(server, "/sound", sound)[0] == 200


def test_too_many_uploads_at_once_are_said(server: ListenServer, sound: bytes) -> None:
    for _ in range(UPLOADS):
        assert server.uploads.acquire(blocking=False)
    assert reason(ask(server, "/sound", sound))[0] == 503
    for _ in range(UPLOADS):
        server.uploads.release()
    for _ in range(UPLOADS + 1):
        assert [ask(server, "/sound", each)[0] for each in (sound, b"")] == [200, 422]  # none has kept its place


def test_a_full_disk_is_said(server: ListenServer, sound: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any, **more: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server_module, "NamedTemporaryFile", full)
    assert reason(ask(server, "/sound", sound)) == (500, "No space left on device")


def test_two_pages_at_once_do_not_mix(server: ListenServer) -> None:
    def heard(which: int) -> Any:
        sound = int16(("low", "high")[which], 2.0)
        return json.loads(ask(server, "/live?rate=8000&end=2", sound.tobytes())[2])

    def page(which: int) -> None:
        for turn in range(4):
            found[which, turn] = heard(which)

    alone, found = [heard(0), heard(1)], dict[tuple[int, int], Any]()
    threads = [threading.Thread(target=page, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and alone[0]["tags"] != alone[1]["tags"]
    assert all(answer == alone[which] for (which, _), answer in found.items())


def test_an_address_that_is_taken_or_none_is_one_line(server: ListenServer) -> None:
    with pytest.raises(UserError, match=r"cannot answer on host=127.0.0.1 port=\d+: .*in use: say port="):
        ListenServer("127.0.0.1", server.server_address[1])
    for host in ("192.0.2.1", "no.such.host.invalid", "a" * 300):  # TEST-NET-1 is nobody's
        with pytest.raises(UserError, match="cannot answer on host="):
            ListenServer(host, 0)


@pytest.mark.parametrize(("settings", "line"), [({"port": 65_536}, "port=65536"), ({"top": 0}, "top is at least 1")])
def test_impossible_settings_are_said(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        ListenSettings(Path("a.pt"), **settings)


def test_the_command_answers_until_it_is_interrupted(named: Path, sounds: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={named}", f"similar={sounds}", f"out={tmp_path}"]
    running = Forked(COMMAND, *words, "port=0", piped=True)
    line = running.stdout.readline().decode()
    assert line.startswith("open http://127.0.0.1:")
    port = int(line.split()[1].rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/facts")
    facts = json.loads(connection.getresponse().read())
    connection.close()
    assert facts["similar"] == 4 and facts["heads"] == ["objects"]
    second = python("-m", COMMAND, *words, f"port={port}")
    assert second.returncode == 1 and second.stderr.startswith("error: cannot answer on host=127.0.0.1")
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0


def test_without_a_mean_a_base_is_asked_for(checkpoint: Path) -> None:
    done = python("-m", COMMAND, f"checkpoint={checkpoint}", "port=0")
    assert done.returncode == 1 and "holds no mean posterior, which lift compares with: give base=" in done.stderr
