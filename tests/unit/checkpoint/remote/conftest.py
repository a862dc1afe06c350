"""A server on loopback: HTTP with ranges; and what `tests.places` has."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.places import bucket, memory, s3_server

__all__ = ["bucket", "memory", "s3_server"]


@dataclass
class Served:
    """A folder behind HTTP, and what to do wrong with it."""

    folder: Path
    url: str = ""
    ranges: bool = True
    etags: bool = True
    statuses: dict[str, int] = field(default_factory=dict)  # by file name
    cut_bytes: int = 0  # missing at the end of every body
    stall: threading.Event | None = None
    gets: list[tuple[str, str]] = field(default_factory=list)  # path with query, range
    authorizations: set[str] = field(default_factory=set)
    sent_bytes: dict[str, int] = field(default_factory=dict)  # by file name


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Served

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self.served.gets.append((self.path, self.headers.get("Range", "")))
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        served = self.served
        served.authorizations.add(self.headers.get("Authorization", ""))
        name = urlsplit(self.path).path.removeprefix("/models/tiny/")
        path = served.folder / name
        status = served.statuses.get(name, 200 if path.is_file() else 404)
        if status != HTTPStatus.OK:
            self.send_error(status)
            return
        data = path.read_bytes()
        asked = self.headers.get("Range", "") if served.ranges else ""
        if with_body and asked and served.stall:
            served.stall.wait(20)
        start, stop = 0, len(data) - (served.cut_bytes if with_body else 0)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, len(data) - served.cut_bytes)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        if served.etags:
            self.send_header("ETag", f'"{hash(data)}"')
        self.send_header("Content-Length", str(max(stop - start, 0)))
        self.end_headers()
        if with_body:
            served.sent_bytes[name] = served.sent_bytes.get(name, 0) + max(stop - start, 0)
            self.wfile.write(data[start:stop])


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that gave up is what some tests are about


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Served]]:
    """Serves a folder at ``http://127.0.0.1:PORT/models/tiny``."""
    servers: list[_Server] = []

    def start(folder: Path) -> Served:
        served = Served(folder)
        handler = type("Handler", (_Handler,), {"served": served})
        server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        served.url = f"http://127.0.0.1:{server.server_port}/models/tiny"
        return served

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def remember(memory: Any) -> Callable[[Path], str]:
    """Puts a folder's files into memory; the URL."""

    def put(folder: Path) -> str:
        for file in folder.rglob("*"):
            if file.is_file():
                memory.pipe(f"/{folder.name}/{file.relative_to(folder)}", file.read_bytes())
        return f"memory://{folder.name}"

    return put
