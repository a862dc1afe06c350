"""Bundles and caches that somebody edited, damaged or shares: told, and nothing else touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.neffs import compile_bundle
from neuronc.cache.cache import open_cache
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.paths import check_listed_paths
from neuronc.errors import CompilerError, InputError, UsageError
from neuronc.targets.neuron.settings import CompileOptions
from tests.end_to_end.resign import copy_artifact, edit_manifest
from tests.neuron_doubles import CompilerDouble

ONE_PROGRAM_FILES = ("program.neff", "neuronx-cc.json", "neuronx-cc.log")


def compile_it(bundle: Path, out: Path) -> Any:
    return compile_bundle(bundle, out, CompileOptions(), cache=open_cache(None))


def add_file(bundle: Path, listed: str, text: str) -> None:
    """List a file of the bundle under the path ``listed``."""
    (bundle / "evil").write_text(text)
    entry = {
        "path": listed,
        "size_bytes": len(text),
        "sha256": sha256_file(bundle / "evil"),
    }
    edit_manifest(bundle, lambda manifest: manifest["files"].append(entry))


@pytest.mark.parametrize("listed", ["../home/.rc", "d/../../home/.rc", "/ABS", "./evil", "a//evil"])
def test_a_listed_path_cannot_lead_out_of_the_output_folder(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path, listed: str
) -> None:
    bundle = copy_artifact(tiny_bundle, tmp_path / "bundle")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".rc").write_text("mine")
    (bundle / "a" / "b").mkdir(parents=True)
    (bundle / "d").symlink_to("a/b")
    add_file(bundle, listed.replace("/ABS", str(bundle / "evil")), "theirs")

    with pytest.raises(InputError, match="no plain path"):
        compile_it(bundle, tmp_path / "home" / "art")

    assert (tmp_path / "home" / ".rc").read_text() == "mine"
    assert [path.name for path in (tmp_path / "home").iterdir()] == [".rc"]
    assert not compiler.compiled()


def test_a_split_folder_cannot_lead_out_either(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    weights = copy_artifact(tiny_bundle / "weights", tmp_path / "weights")
    split = json.loads((weights / "split.json").read_text())
    split["files"].append({**split["files"][0], "path": "l/../../escaped"})
    (weights / "split.json").write_text(json.dumps(split))

    with pytest.raises(InputError, match="no plain path"):
        compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions(), weights=weights)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("paths", "told"),
    [(["a", "a"], "twice"), (["a", "a/b"], "below a file"), (["a\\b"], "plain"), ([""], "plain")],
)
def test_listed_paths_are_plain_and_different(paths: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_listed_paths(paths)
    check_listed_paths(["a/b", "a/c", "ab"])


def retarget(manifest: dict[str, Any]) -> None:
    manifest["target"] = "trn1"


def also_target(manifest: dict[str, Any]) -> None:
    manifest["neuron"]["args"]["prefill"].append("--target=trn2")


def wide_integers(manifest: dict[str, Any]) -> None:
    manifest["neuron"]["args"]["decode"].append("--native-int64=enabled")


def nul_argument(manifest: dict[str, Any]) -> None:
    manifest["neuron"]["args"]["decode"].append("--x=\0")


def no_flags(manifest: dict[str, Any]) -> None:
    manifest["neuron"]["neuron_cc_flags"] = None


def vague_compiler(manifest: dict[str, Any]) -> None:
    manifest["neuron"]["compiler"] = {}


def true_format(manifest: dict[str, Any]) -> None:
    manifest["format"] = True


def no_files(manifest: dict[str, Any]) -> None:
    manifest["files"] = []


CHANGES = (
    retarget, also_target, wide_integers, nul_argument, no_flags, vague_compiler, true_format, no_files,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_contradicts_itself_is_refused(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
) -> None:
    bundle = copy_artifact(tiny_bundle, tmp_path / "bundle")
    edit_manifest(bundle, change)

    with pytest.raises(InputError) as told:
        compile_it(bundle, tmp_path / "art")

    assert told.value.exit_code == 3
    assert not compiler.compiled()
    assert not (tmp_path / "art").exists()


def test_what_a_bundle_says_of_hardware_is_not_taken_over(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    bundle = copy_artifact(tiny_bundle, tmp_path / "bundle")
    edit_manifest(
        bundle, lambda manifest: manifest["neuron"].update(hardware="proven on 512 chips")
    )

    manifest = compile_it(bundle, tmp_path / "art")

    assert (manifest.neuron or {})["hardware"] == "not run on a Neuron device"


def test_results_that_lie_in_a_bundle_are_neither_used_nor_written_through(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    bundle = copy_artifact(tiny_bundle, tmp_path / "bundle")
    for name in ONE_PROGRAM_FILES:
        path = bundle / "programs" / "prefill_8" / name
        path.write_text("theirs")
        entry = {
            "path": str(path.relative_to(bundle)),
            "size_bytes": 6,
            "sha256": sha256_file(path),
        }
        edit_manifest(bundle, lambda manifest, entry=entry: manifest["files"].append(entry))

    compile_it(bundle, tmp_path / "art")

    for name in ONE_PROGRAM_FILES:
        assert (bundle / "programs" / "prefill_8" / name).read_text() == "theirs"
        assert (tmp_path / "art" / "programs" / "prefill_8" / name).read_bytes() != b"theirs"


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "v1" / "neff").glob("*/*"))


@pytest.mark.parametrize("lost", ONE_PROGRAM_FILES)
def test_a_cache_entry_that_lost_a_file_is_compiled_again(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path, lost: str
) -> None:
    compile_it(tiny_bundle, tmp_path / "one")
    calls = len(compiler.compiled())
    for entry in entries(tmp_path):
        (entry / lost).unlink()

    compile_it(tiny_bundle, tmp_path / "two")

    assert len(compiler.compiled()) > calls
    again = len(compiler.compiled())
    compile_it(tiny_bundle, tmp_path / "three")
    assert len(compiler.compiled()) == again


def test_a_cached_neff_is_compared_with_the_manifest(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compile_it(tiny_bundle, tmp_path / "one")
    bundle = copy_artifact(tiny_bundle, tmp_path / "bundle")

    def rename(manifest: dict[str, Any]) -> None:
        for program in manifest["programs"]:
            program["outputs"][0][1] = "evil"

    edit_manifest(bundle, rename)
    with pytest.raises((CompilerError, InputError)):
        compile_it(bundle, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_ambient_flags_are_refused_for_a_bundle_too(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURON_CC_FLAGS", "-O3")
    with pytest.raises(UsageError, match="command lines are fixed"):
        compile_it(tiny_bundle, tmp_path / "art")
    assert not compiler.compiled()
