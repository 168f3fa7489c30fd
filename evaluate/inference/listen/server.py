"""The page's server: its files, an upload, the newest seconds of a microphone, a neighbour to play.

It answers its own page alone: no other site that is open in the same browser, and no name that others can point here.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import math
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from evaluate.inference.listen.listener import Answer, Listener
from shards.cli.commands import as_called
from shards.errors import UserError
from shards.media.rejects import UnreadableMedia
from shards.media.resample import RATES

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/microphone.js": ("microphone.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MOST_MEGABYTES = 500  # of an upload, which lies on disk while it is heard
UPLOADS = 4  # at a time: no more than 2 GB on disk
BLOCK = 2**16  # bytes
LINGER = 2**23  # bytes of a refused upload that are taken all the same: a browser that cannot send sees no answer


class Refused(Exception):
    """A request that is not answered: HTTP status, and why in a line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status, self.line = status, line


class ListenServer(ThreadingHTTPServer):
    """Has its address from birth on; `listener` is set before it serves. Raises UserError without the address."""

    daemon_threads = True
    listener: Listener

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.uploads = threading.BoundedSemaphore(UPLOADS)
        self.computing = threading.Semaphore(os.cpu_count() or 1)  # requests at a time, in one thread each
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), Handler)
        except (OSError, UnicodeError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            remedy = ": say port=..., or port=0 for any that is free" if taken else ""
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot answer on host={host} port={port}: {reason}{remedy}") from None
        self.folder = TemporaryDirectory(prefix="soundnet-listen-")  # of uploads

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the machine's full name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def server_close(self) -> None:
        """Give the address back, and delete what is left of uploads."""
        super().server_close()
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.server_address[1]}"

    def is_called(self, name: str) -> bool:
        """Whether this is an address, or a name of this machine: others can be pointed here by whoever owns them."""
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in ("localhost", self.host, socket.gethostname())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a browser that goes away before its answer is complete nothing is said."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: ListenServer
    timeout = 60  # seconds, of waiting for a client

    def do_GET(self) -> None:
        """A file of the page, its facts, or a neighbour by its number."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A sound: a file's bytes, or raw samples of the microphone."""
        self._answer({"/sound": self._hear_file, "/live": self._hear_live}.get(urlsplit(self.path).path, self._nothing))

    def end_headers(self) -> None:
        """All answers have the same HEADERS beside their own."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """Of the header Server."""
        return "soundnet"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A request is not told of."""

    def _answer(self, respond: Callable[[], None]) -> None:
        try:
            self._require_own_page()
            respond()
        except Refused as refused:
            self._refuse(refused.status, refused.line)
        except (UnreadableMedia, UserError) as error:
            self._refuse(422, str(error))
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:  # a full disk
            self._refuse(500, error.strerror or str(error))

    def _require_own_page(self) -> None:
        """Raises Refused: see the file's beginning."""
        host = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not self.server.is_called(name):
            raise Refused(403, f"this server is not called {name or 'nothing'}: open {self.server.url}")
        origin = self.headers.get("Origin")
        elsewhere = origin is not None and urlsplit(origin).netloc != host
        site = self.headers.get("Sec-Fetch-Site", "none")
        if urlsplit(self.path).path != "/" and (elsewhere or site not in ("same-origin", "none")):
            raise Refused(403, "another page may not ask this server")

    def _nothing(self) -> None:
        raise Refused(404, "there is nothing here")

    def _get(self) -> None:
        path = urlsplit(self.path).path
        folder, _, number = path.rpartition("/")
        if path in FILES:
            name, kind = FILES[path]
            self._send(200, Path(__file__).with_name(name).read_bytes(), kind)
        elif path == "/facts":
            self._send_json(200, {**self.server.listener.facts, "most_megabytes": MOST_MEGABYTES})
        elif folder == "/similar" and number.isascii() and number.isdigit() and len(number) < 10:
            sound = self.server.listener.neighbour(int(number))
            self._nothing() if sound is None else self._send(200, sound, "audio/wav")
        else:
            self._nothing()

    def _hear_file(self) -> None:
        """A line of JSON for each answer, as soon as it is known. The first decides the status."""
        length = self._length(MOST_MEGABYTES * 10**6)
        if not self.server.uploads.acquire(blocking=False):
            raise Refused(503, f"{UPLOADS} sounds are being heard already: try again in a moment")
        try:
            with NamedTemporaryFile(dir=self.server.folder.name) as file:
                self._receive(file, length)
                answers = self.server.listener.hear_file(Path(file.name))
                begun = False
                while (answer := self._next(answers)) is not None:
                    if not begun:
                        self.send_response(200)
                        self.send_header("Content-Type", "application/x-ndjson")
                        self.end_headers()
                    begun = True
                    self.wfile.write(json.dumps(answer).encode() + b"\n")
        finally:
            self.server.uploads.release()

    def _next(self, answers: Any) -> Answer | None:
        with self.server.computing:  # and not while a slow client takes it
            found: Answer | None = next(answers, None)
            return found

    def _hear_live(self) -> None:
        """?rate=Hz&end=seconds, and little-endian int16 samples, the last of the sound up to `end`."""
        query = parse_qs(urlsplit(self.path).query)
        try:
            rate, end = int(query["rate"][0]), float(query["end"][0])
        except (KeyError, ValueError):
            raise Refused(400, "rate=<samples a second>&end=<seconds> are wanted") from None
        if not RATES[0] <= rate <= RATES[1] or not (0 <= end < math.inf):
            raise Refused(400, f"rate={rate} end={end:g} are of no sound")
        length = self._length(round(2 * rate * self.server.listener.model.checkpoint.clip.seconds) + BLOCK)
        if length % 2:
            raise Refused(400, f"{length} bytes are no 16-bit samples")
        samples = np.frombuffer(self.rfile.read(length), "<i2").astype(np.int16, copy=False)
        with self.server.computing:
            answer = self.server.listener.hear_live(samples, rate, end)
        self._send_json(200, answer)

    def _length(self, most: int) -> int:
        given = self.headers.get("Content-Length", "")
        if not (given.isascii() and given.isdigit()):
            raise Refused(411, "the request does not say how long it is")
        if len(given) > 18 or int(given) > most:
            raise Refused(413, f"{given} bytes are too many: {most} are taken")
        return int(given)

    def _receive(self, file: IO[bytes], length: int) -> None:
        while length:
            block = self.rfile.read(min(BLOCK, length))
            if not block:
                raise Refused(400, "the upload broke off")
            file.write(block)
            length -= len(block)
        file.flush()

    def _refuse(self, status: int, line: str) -> None:
        self._send_json(status, {"error": as_called(line).encode(errors="replace").decode()})
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1)
        taken = 0
        while taken < LINGER and (block := self.connection.recv(BLOCK)):
            taken += len(block)

    def _send_json(self, status: int, answer: Answer) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
