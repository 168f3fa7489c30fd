"""A server on the loopback that passes requests on to another, some with errors, resets, cut or slow answers."""

from __future__ import annotations

import http.client
import http.server
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HOP = {"connection", "transfer-encoding", "keep-alive"}  # headers of one connection
# What to do to a request, by method and path: pass, 503, 500, reset (before an answer), cut (half a body), slow.
Fault = Callable[[str, str], str]


class Disturbed(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    port: int
    fault: Fault
    seen: Counter[str]

    def answer(self) -> None:
        fault = type(self).fault(self.command, self.path)
        self.seen[fault] += 1
        body = self._body()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault in ("500", "503"):
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "slow":
            time.sleep(1.0)
        upstream = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        length = answer.getheader("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
        for name, value in answer.getheaders():
            if name.lower() not in HOP | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if fault == "cut" and len(data) > 1:
            data, self.close_connection = data[: len(data) // 2], True
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - http.server's names

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(len(data))
            return data
        length = self.headers.get("Content-Length")
        return self.rfile.read(int(length)) if length else None

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def disturbing(port: int, fault: Fault) -> Iterator[tuple[str, Counter[str]]]:
    """The address of a server before the one at `port`, and how often it did what."""
    seen: Counter[str] = Counter()
    handler = type("Handler", (Disturbed,), {"port": port, "fault": staticmethod(fault), "seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
