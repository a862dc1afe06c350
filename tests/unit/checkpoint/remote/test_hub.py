"""hf:// against a double of the Hub's API, in processes that are told its endpoint."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

_COMMITS = {"main": "a" * 40, "v1": "b" * 40}
_READ = """
import sys
from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError
try:
    checkpoint = open_checkpoint(sys.argv[1], revision=(sys.argv[2:] or [None])[0])
    print(checkpoint.source)
    for name in checkpoint.tensors:
        print(name, checkpoint.reader.read(name).tobytes().hex())
except InputError as error:
    print(error.message, error.hint)
"""


class _Hub(http.server.BaseHTTPRequestHandler):
    """Takes what the API documents for one model, org/name, with a folder for every commit."""

    folders: dict[str, Path]
    asked: list[tuple[str, str]]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _json(self, found: Any, status: int = 200) -> None:
        text = json.dumps(found).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(form)["paths"] if form.startswith("{") else parse_qs(form)["paths"]
        commit = self.path.rpartition("/")[2]
        self._json(
            [_told(self.folders[commit] / name) for name in asked if self._has(commit, name)]
        )

    def _has(self, commit: str, name: str) -> bool:
        return (self.folders[commit] / name).is_file()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/name/tree/"):
            folder = self.folders[path.split("/")[6]]
            self._json([_told(file) for file in sorted(folder.iterdir())])
        elif path.startswith("/api/models/org/name/revision/"):
            self._json({"id": "org/name", "sha": _COMMITS.get(path.rpartition("/")[2])})
        elif path == "/api/models/org/name":
            self._json({"id": "org/name", "sha": _COMMITS["main"]})
        elif path.startswith("/org/name/resolve/"):
            self._send_file(*path.split("/")[4:6])
        else:
            self._json({"error": "Repository not found"}, 404)

    def _send_file(self, commit: str, name: str) -> None:
        self.asked.append((commit, name))
        data = (self.folders[commit] / name).read_bytes()
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if wanted:
            first, last = (int(number) for number in wanted.split("-"))
            data = data[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"x"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        self.wfile.write(data)


def _told(file: Path) -> dict[str, Any]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}


@pytest.fixture
def hub(folder: Path, sharded_folder: Path) -> Iterator[Any]:
    folders = {_COMMITS["main"]: folder, _COMMITS["v1"]: sharded_folder}
    handler = type("Handler", (_Hub,), {"folders": folders, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    handler.endpoint = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()


def _read(hub: Any, *argv: str) -> list[str]:
    env = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-c", _READ, *argv], capture_output=True, text=True, check=True, env=env
    )
    assert "hf_TOKEN" not in done.stdout
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("argv", "commit"),
    [
        (("hf://org/name",), _COMMITS["main"]),
        (("hf://org/name@v1",), _COMMITS["v1"]),
        (("hf://org/name", "v1"), _COMMITS["v1"]),
    ],
)
def test_a_repository_is_read_at_the_commit_that_its_revision_names(
    hub: Any, arrays: Any, argv: tuple[str, ...], commit: str
) -> None:
    source, *tensors = _read(hub, *argv)
    assert source == argv[0]
    assert tensors == [f"{name} {array.tobytes().hex()}" for name, array in arrays.items()]
    assert {asked for asked, _ in hub.asked} == {commit}


def test_a_repository_that_is_not_there_is_named(hub: Any) -> None:
    (said,) = _read(hub, "hf://org/nothing")
    assert "hf://org/nothing" in said
    assert "spelling" in said
