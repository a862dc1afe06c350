"""Verbs on a checkpoint behind a URL give what they give on the local folder."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from neuronc.cli.app import main
from tests.tiny_models import make_checkpoint

_PASSWORD = "PASS-" + "WORD"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("remote") / "tiny", shards=3, dtype="bf16")


@pytest.fixture
def memory_url(checkpoint: Path) -> Iterator[str]:
    import fsspec

    fs = fsspec.filesystem("memory")
    for file in checkpoint.iterdir():
        fs.pipe(f"/team/tiny/{file.name}", file.read_bytes())
    yield "memory://team/tiny"
    fs.rm("/team", recursive=True)


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """The standard library's server, and ranges."""

    body: bytes | None = None

    def log_message(self, format: str, *args: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(self.body if self.body is not None else source.read())

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(206 if code == 200 and self.body is not None else code, message)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length" and self.body is not None:
            value = str(len(self.body))
        super().send_header(keyword, value)

    def do_GET(self) -> None:
        self.body = None
        if asked := self.headers.get("Range", "").removeprefix("bytes="):
            first, last = (int(number) for number in asked.split("-"))
            self.body = Path(self.translate_path(self.path)).read_bytes()[first : last + 1]
        super().do_GET()

    def do_HEAD(self) -> None:
        self.body = None
        super().do_HEAD()


@pytest.fixture
def http_url(checkpoint: Path) -> Iterator[str]:
    handler = partial(_Ranges, directory=str(checkpoint.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://me:{_PASSWORD}@127.0.0.1:{server.server_port}/tiny?token={_PASSWORD}"
    server.shutdown()
    server.server_close()


def _contents(folder: Path) -> dict[str, Any]:
    split = json.loads((folder / "split.json").read_text())
    del split["source"]
    return {"split": split, **{p.name: p.read_bytes() for p in folder.glob("*.safetensors")}}


@pytest.mark.parametrize("which", ["memory_url", "http_url"])
def test_the_split_of_a_url_is_the_split_of_the_folder(
    request: pytest.FixtureRequest,
    checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    which: str,
) -> None:
    url = request.getfixturevalue(which)
    for source, name in ((str(checkpoint), "local"), (url, "remote")):
        assert main(["split", source, "-o", str(tmp_path / name), "--tp", "3", "--json"]) == 0
    assert _contents(tmp_path / "remote") == _contents(tmp_path / "local")
    shown = url.replace(f"me:{_PASSWORD}@", "").partition("?")[0]
    assert json.loads((tmp_path / "remote" / "split.json").read_text())["source"] == shown
    written = b"".join(p.read_bytes() for p in (tmp_path / "remote").iterdir())
    said = capfd.readouterr()
    assert _PASSWORD not in f"{said.out}{said.err}"
    assert _PASSWORD.encode() not in written


@pytest.mark.slow
def test_a_build_from_a_url_is_verified_kept_and_holds_no_secret(
    http_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["build", http_url, "-o", str(tmp_path / "art"), "--max-length", "32", "--json"]
    argv += ["--prefill-buckets", "8", "--dtype", "f32"]
    assert main(argv) == 0
    assert json.loads(capfd.readouterr().out)["data"]["verification"]["passed"]
    manifest = (tmp_path / "art" / "manifest.json").read_text()
    assert _PASSWORD not in manifest
    assert "/tiny" in json.loads(manifest)["request"]["checkpoint"]
    assert main(argv) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["data"]["reused"]
    assert _PASSWORD not in f"{said.out}{said.err}"


def test_a_missing_url_exits_with_bad_input_and_without_a_traceback(
    http_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", http_url.replace("/tiny", "/none"), "-o", str(tmp_path / "x")]) == 3
    said = capfd.readouterr()
    assert "/none/config.json (404)" in said.err
    assert not {word for word in ("Traceback", _PASSWORD) if word in said.err}
    assert not (tmp_path / "x").exists()
