"""What an artifact refuses to be opened with, and how it is made usable again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.relink import relink
from neuronc.errors import InputError, ToolchainError
from neuronc.pipeline import verify
from neuronc.runtime.session import Session
from tests.end_to_end.resign import copy_artifact, edit_manifest, resign


@pytest.fixture
def artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    return copy_artifact(tiny_artifact, tmp_path / "artifact")


def all_files(artifact: Path) -> list[str]:
    return [f.path for f in read_manifest(artifact).files]


def test_every_file_but_the_manifest_and_what_describes_it_has_a_digest(
    tiny_artifact: Path,
) -> None:
    there = {
        p.relative_to(tiny_artifact).as_posix() for p in tiny_artifact.rglob("*") if p.is_file()
    }
    beside = {"manifest.json", "provenance.json", "bom.cdx.json"}
    assert beside <= there
    assert there - beside == set(all_files(tiny_artifact))


def test_a_changed_byte_in_any_file_is_exit_3_by_name(artifact: Path) -> None:
    for name in all_files(artifact):
        path = artifact / name
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(InputError, match=f"{name}: digest mismatch") as caught:
            Session.open(artifact).prefill(0, (1,))
        assert caught.value.exit_code == 3
        path.write_bytes(kept)
    Session.open(artifact).prefill(0, (1,))


def test_a_missing_or_shorter_file_is_named(artifact: Path) -> None:
    path = artifact / "programs" / "decode_32" / "program.hlo.pb"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"program\.hlo\.pb: expected \d+ bytes, found \d+"):
        Session.open(artifact)
    path.unlink()
    with pytest.raises(InputError, match=r"program\.hlo\.pb is missing"):
        Session.open(artifact)


def test_a_path_out_of_the_artifact_is_refused(artifact: Path) -> None:
    def escape(manifest: dict[str, Any]) -> None:
        manifest["files"].append({**manifest["files"][0], "path": "../outside"})

    edit_manifest(artifact, escape)
    with pytest.raises(InputError, match="outside the folder"):
        Session.open(artifact)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("isa", ["avx2", "made_up_isa"], "this CPU lacks made_up_isa"),
        ("jaxlib", "0.0.1", r"jaxlib: compiled for 0\.0\.1, here"),
        ("machine", "riscv128", "machine: compiled for riscv128, here"),
    ],
)
def test_executables_of_another_machine_are_exit_5_and_say_what_differs(
    artifact: Path, key: str, value: object, told: str
) -> None:
    def foreign(manifest: dict[str, Any]) -> None:
        manifest["host"][key] = value

    edit_manifest(artifact, foreign)
    with pytest.raises(ToolchainError, match=told) as caught:
        Session.open(artifact)
    assert caught.value.exit_code == 5
    assert "--relink" in caught.value.hint


def test_relink_makes_it_run_here_without_torch(artifact: Path) -> None:
    def foreign(manifest: dict[str, Any]) -> None:
        manifest["host"]["jaxlib"] = "0.0.1"

    edit_manifest(artifact, foreign)
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from neuronc.cli.app import main\n"
        f"sys.exit(main(['compile', '--relink', {str(artifact)!r}, '--quiet', '--json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["verification"] == "unverified"
    assert read_manifest(artifact).verification is None
    _, error = verify(artifact, None)
    assert error is None


def test_an_executable_that_imports_other_things_is_refused_before_it_is_read(
    artifact: Path,
) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (artifact / "pwned",))

    (artifact / "programs" / "decode_32" / "cpu.exe").write_bytes(pickle.dumps(Evil()))
    resign(artifact)
    with pytest.raises(
        InputError, match=r"imports pathlib\.Path|imports builtins\.getattr|imports pathlib"
    ):
        Session.open(artifact)
    assert not (artifact / "pwned").exists()


def test_garbage_in_place_of_an_executable_is_refused(artifact: Path) -> None:
    (artifact / "programs" / "decode_32" / "cpu.exe").write_bytes(b"not a program")
    resign(artifact)
    with pytest.raises(InputError, match="not a serialized XLA program"):
        Session.open(artifact)


def test_a_manifest_of_a_newer_format_is_refused(artifact: Path) -> None:
    def newer(manifest: dict[str, Any]) -> None:
        manifest["format"] = 99

    edit_manifest(artifact, newer)
    with pytest.raises(InputError, match="format 99; this neuronc reads 1 to 1"):
        Session.open(artifact)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\x00"])
def test_a_damaged_manifest_is_refused(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="damaged"):
        Session.open(artifact)


@pytest.mark.parametrize("groups", [[["made.up"]], [["keys.0"]], [[]], "twice"])
def test_merged_weights_that_the_program_has_not_are_a_damaged_manifest(
    artifact: Path, groups: Any
) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        there = manifest["programs"][0]["merged_weights"]
        assert there  # q, k, v and gate, up of every layer
        manifest["programs"][0]["merged_weights"] = there * 2 if groups == "twice" else groups

    edit_manifest(artifact, edit)
    with pytest.raises(InputError, match=r"damaged.*merges weights"):
        Session.open(artifact)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("tp",), "2"), (("tp",), 10**30), (("tp",), True), (("batch_size",), 0),
        (("batch_size",), 3), (("max_length",), 128), (("dtype",), ["f32"]), (("target",), 1),
        (("model",), None), (("tool_versions",), "x"), (("host",), {}), (("host", "isa"), [1]),
        (("verification",), "yes"), (("programs", 0, "name"), "../../../victim"),
        (("programs", 0, "phase"), []), (("programs", 2, "bucket"), 64), (("programs", 2, "bucket"), 1.5),
        (("programs", 0, "outputs"), []), (("programs", 0, "inputs", 0, 0), None),
        (("programs", 0, "inputs", 0, 1), "x"), (("programs", 0, "inputs", 0, 2), [-1]),
        (("programs", 0, "inputs", 0, 3), "nope"), (("programs", 0, "aliases"), {"1": 999}),
        (("files", 0, "path"), {}), (("files", 0, "size_bytes"), -1), (("files", 0, "sha256"), "x"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_is_refused_by_every_reader(
    artifact: Path, place: tuple[Any, ...], value: object
) -> None:
    def spoil(manifest: dict[str, Any]) -> None:
        inner: Any = manifest
        for key in place[:-1]:
            inner = inner[key]
        assert inner[place[-1]] != value
        inner[place[-1]] = value

    victim = artifact.parent.parent / "victim"
    victim.mkdir(exist_ok=True)
    (victim / "cpu.exe").write_text("mine")
    edit_manifest(artifact, spoil)
    before = {p: p.read_bytes() for p in artifact.rglob("*") if p.is_file()}
    for read in (Session.open, relink):
        with pytest.raises(InputError, match=r"manifest\.json is damaged"):
            read(artifact)
    assert {p: p.read_bytes() for p in artifact.rglob("*") if p.is_file()} == before
    assert [p.name for p in victim.iterdir()] == ["cpu.exe"]


def test_relink_leaves_behind_what_the_manifest_does_not_list(artifact: Path) -> None:
    secret = artifact.parent / "secret"
    secret.mkdir()
    (secret / "key").write_text("k")
    (artifact / "weights" / "link").symlink_to(secret)
    fresh = relink(artifact)
    assert not (artifact / "weights" / "link").exists()
    assert all("key" not in file.path for file in fresh.files)
    Session.open(artifact).prefill(0, (1,))


def test_relink_keeps_the_ir_and_refuses_changed_ir(artifact: Path) -> None:
    path = artifact / "programs" / "prefill_8" / "program.mlir"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match=r"program\.mlir"):
        relink(artifact)
