import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.artifact.reuse import describe_request
from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.remote import store
from neuronc.errors import InputError
from neuronc.recipe import Recipe

Serve = Callable[[Path], Any]


@pytest.fixture
def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    shapes = {"model.a.weight": (300, 400), "model.b.weight": (1000,)}
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("which", ["folder", "sharded_folder"])
def test_tensors_are_the_local_reader_s_and_every_byte_is_sent_once(
    request: pytest.FixtureRequest, serve: Serve, arrays: dict[str, Any], which: str
) -> None:
    place = request.getfixturevalue(which)
    served = serve(place)
    checkpoint = open_checkpoint(served.url)
    for name, array in arrays.items():
        assert checkpoint.reader.read(name).tobytes() == array.tobytes()
    sizes = {path.name: path.stat().st_size for path in place.glob("*.safetensors")}
    assert {name: served.sent_bytes[name] for name in sizes} == sizes
    assert all(asked for path, asked in served.gets if path.rpartition("/")[2] in sizes)


def test_opening_reads_headers_alone_and_rows_cost_their_own_bytes(
    serve: Serve, folder: Path, arrays: dict[str, Any]
) -> None:
    served = serve(folder)
    found: Any = open_checkpoint(served.url).reader
    header_bytes = served.sent_bytes["model.safetensors"]
    assert header_bytes < 500
    rows = found.read_range("model.a.weight", 100, 110)
    assert rows.tobytes() == arrays["model.a.weight"][100:110].tobytes()
    assert served.sent_bytes["model.safetensors"] == header_bytes + 10 * 400 * 4


def test_threads_may_share_a_reader(
    serve: Serve, sharded_folder: Path, arrays: dict[str, Any]
) -> None:
    found: Any = open_checkpoint(serve(sharded_folder).url).reader
    whole = arrays["model.a.weight"]
    with ThreadPoolExecutor(8) as pool:
        rows = list(
            pool.map(lambda row: found.read_range("model.a.weight", row, row + 1), range(99))
        )
    assert np.concatenate(rows).tobytes() == whole[:99].tobytes()


@pytest.mark.parametrize("etags", [True, False])
def test_a_file_that_changed_after_opening_is_refused(
    serve: Serve, folder: Path, arrays: dict[str, Any], etags: bool
) -> None:
    served = serve(folder)
    served.etags = etags
    checkpoint = open_checkpoint(served.url)
    changed = {name: array + 1 for name, array in arrays.items()}
    if not etags:  # then the size is all there is to tell
        changed["more"] = np.zeros(1)
    save_file(changed, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors changed after it was opened"):
        checkpoint.reader.read("model.b.weight")


def test_a_server_without_ranges_is_refused_before_a_tensor_is_sent(
    serve: Serve, folder: Path
) -> None:
    served = serve(folder)
    served.ranges = False
    with pytest.raises(InputError, match="does not answer requests for a range") as caught:
        open_checkpoint(served.url)
    assert "copy the checkpoint" in caught.value.hint


def test_a_short_answer_is_refused_by_its_url(serve: Serve, folder: Path) -> None:
    served = serve(folder)
    checkpoint = open_checkpoint(served.url)
    served.cut_bytes = 3
    name = list(checkpoint.tensors)[-1]
    with pytest.raises(InputError, match=r"model.safetensors gave \d+ bytes; expected \d+"):
        checkpoint.reader.read(name)


def test_a_short_copy_is_refused_by_its_url(serve: Serve, folder: Path) -> None:
    served = serve(folder)
    served.cut_bytes = 3
    with pytest.raises(InputError, match=r"config.json gave \d+ bytes; expected \d+"):
        open_checkpoint(served.url)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "http.*/model.safetensors changed after it was opened: it is gone"),
        (403, r"access to http.*/model.safetensors.* is denied \(403\)"),
        (401, r"denied \(401\)"),
        (500, "the server answers 500 for http"),
        (503, "the server answers 503 for http"),
    ],
)
def test_an_answer_that_is_no_success_is_named_with_the_url(
    serve: Serve, folder: Path, status: int, message: str
) -> None:
    served = serve(folder)
    checkpoint = open_checkpoint(served.url)
    served.statuses["model.safetensors"] = status
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.reader.read("model.a.weight")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_denied_file_is_not_taken_for_a_missing_one(
    serve: Serve, folder: Path, name: str
) -> None:
    served = serve(folder)
    served.statuses[name] = 403
    with pytest.raises(InputError, match=rf"access to http.*/{name} is denied \(403\)"):
        open_checkpoint(served.url)


def test_a_missing_config_is_named(serve: Serve, folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no http.*/config.json \(404\)"):
        open_checkpoint(serve(folder).url)


def test_a_server_that_says_nothing_is_given_up(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SILENCE_SECONDS", 3.0)
    served = serve(folder)
    served.stall = threading.Event()
    with pytest.raises(InputError, match=r"model.safetensors.* timed out"):
        open_checkpoint(served.url)
    served.stall.set()


def test_a_server_that_is_not_there_is_an_input_error(serve: Serve, folder: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read http://127.0.0.1:9/x/config.json"):
        open_checkpoint("http://127.0.0.1:9/x")


def test_user_password_and_query_reach_the_server_and_nobody_else(
    serve: Serve, folder: Path
) -> None:
    served = serve(folder)
    url = served.url.replace("http://", "http://me:PASS@") + "?token=TOKEN"
    checkpoint = open_checkpoint(url)
    assert all(path.endswith("?token=TOKEN") for path, _ in served.gets)
    assert served.authorizations == {"Basic bWU6UEFTUw=="}
    told = f"{checkpoint.source}{describe_request(Recipe(checkpoint=url))}"
    for statuses in (403, 404, 500):
        served.statuses["model.safetensors"] = statuses
        with pytest.raises(InputError) as caught:
            checkpoint.reader.read("model.a.weight")
        told += "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert [secret for secret in ("me:", "PASS", "TOKEN") if secret in told] == []
    assert checkpoint.source == served.url


def test_a_users_own_headers_are_kept(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.config import conf

    served = serve(folder)
    headers = {"Authorization": "Bearer MINE"}
    monkeypatch.setitem(conf, "http", {"client_kwargs": {"headers": headers}})
    open_checkpoint(served.url)
    assert served.authorizations == {"Bearer MINE"}
