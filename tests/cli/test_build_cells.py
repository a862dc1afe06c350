"""neuronc build with a file of several builds; what builds is a stand-in, all around it is real."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from neuronc import pipeline
from neuronc.cli.app import main
from neuronc.errors import CompilerError, VerificationError
from neuronc.recipe import Recipe
from tests.unit.matrix.built import make_manifest

TEXT = """
checkpoint = "./model"
out = "out/{name}"
[[build]]
name = "a"
matrix = { tp = [1, 2] }
[[build]]
name = "b"
"""


class Builder:
    """Stands where `pipeline.build_cached` does, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.asked: dict[str, tuple[Recipe, dict[str, Any]]] = {}
        self.max_length = 8

    def __call__(self, recipe: Recipe, out_dir: Path, **settings: Any) -> pipeline.Built:
        self.asked[out_dir.name] = (recipe, settings)
        if out_dir.name in self.errors:
            raise self.errors[out_dir.name]
        return pipeline.Built(
            folder=out_dir,
            manifest=make_manifest(max_length=self.max_length),
            split=None,
            programs=None,
            elapsed_s=1.0,
        )


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    """Of a recipe file some.toml in the current directory."""
    found = Builder()
    monkeypatch.setattr(pipeline, "build_cached", found)
    monkeypatch.chdir(tmp_path)
    Path("some.toml").write_text(TEXT)
    Path("model").mkdir()
    for name in ("config.json", "model.safetensors"):
        Path("model", name).write_text("{}")
    return found


def run(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = main([*argv, "--json", "--quiet"])
    document: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert code == (document["error"] or {"exit_code": 0})["exit_code"]
    return code, document


def build(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    return run(capfd, "build", "some.toml", *argv)


def test_every_build_is_made_and_told_in_the_order_of_the_file(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = build(capfd)
    assert code == 0
    data = document["data"]
    assert [cell["name"] for cell in data["builds"]] == ["a-tp1", "a-tp2", "b"]
    assert data["counts"] == {"built": 3, "reused": 0, "failed": 0, "not_run": 0}
    assert data["builds"][0]["artifact"]["artifact_digest"] == data["builds"][0]["artifact_digest"]
    assert builder.asked["a-tp2"][0].tp == 2
    assert not Path("some.lock").exists()


def test_partial_failure_exits_with_12_and_tells_every_error(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    builder.errors = {
        "a-tp1": VerificationError("off by 9 ulp", hint="look"),
        "b": ValueError("boo"),
    }
    code, document = build(capfd, "--junit", "j.xml")
    assert code == 12
    assert document["error"]["message"] == "2 of 3 builds failed: a-tp1 (verification), b (bug)"
    errors = [cell["error"] for cell in document["data"]["builds"]]
    assert errors[0] == {
        "kind": "verification",
        "message": "off by 9 ulp",
        "hint": "look",
        "exit_code": 6,
    }
    assert errors[1] is None
    assert errors[2]["exit_code"] == 1
    assert "please report it with the log" in errors[2]["hint"]
    root = ET.parse("j.xml").getroot()
    assert [root.get(key) for key in ("tests", "failures", "errors")] == ["3", "1", "1"]


def test_full_disk_is_no_bug(builder: Builder, capfd: pytest.CaptureFixture[str]) -> None:
    builder.errors = {"b": OSError(28, "No space left on device", "/big"), "a-tp1": MemoryError()}
    code, document = build(capfd)
    assert code == 12
    assert document["error"]["message"] == "2 of 3 builds failed: a-tp1 (host_memory), b (plan)"
    codes = [(cell["error"] or {}).get("exit_code") for cell in document["data"]["builds"]]
    assert codes == [8, None, 4]
    assert build(capfd, "--only", "b")[0] == 4


def test_bug_in_the_only_build_leaves_one_log(
    builder: Builder,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))
    builder.errors = {"b": ValueError("boo")}
    code, document = build(capfd, "--only", "b")
    (log,) = (tmp_path / "logs").iterdir()
    assert (code, str(log) in document["error"]["hint"]) == (1, True)


def test_lock_that_cannot_be_written_is_refused_before_anything_is_built(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("some.lock").mkdir()
    code, document = build(capfd, "--update-lock")
    assert (code, builder.asked) == (2, {})
    assert "some.lock cannot be written" in document["error"]["message"]


def test_table_shows_each_build(builder: Builder, capfd: pytest.CaptureFixture[str]) -> None:
    builder.errors = {"b": CompilerError("MLIR fell over")}
    assert main(["build", "some.toml", "--quiet"]) == 12
    shown = capfd.readouterr()
    digest = make_manifest().digest[:16]
    row = next(line for line in shown.out.splitlines() if " b " in line)
    assert "failed" in row
    assert "compiler (7): MLIR fell over" in row
    assert digest in next(line for line in shown.out.splitlines() if "a-tp2" in line)
    assert "error: 1 of 3 builds failed: b (compiler)" in shown.err


def test_the_only_build_keeps_its_own_exit_code(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    builder.errors = {"b": VerificationError("off by 9 ulp"), "a-tp1": ValueError("boo")}
    code, document = build(capfd, "--only", "b")
    assert (code, list(builder.asked)) == (6, ["b"])
    assert [cell["result"] for cell in document["data"]["builds"]] == ["failed"]
    assert build(capfd, "--only", "a-tp1")[0] == 1


def test_fail_fast_stops_after_the_first_failure(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    builder.errors = {"a-tp2": CompilerError("boo")}
    code, document = build(capfd, "--fail-fast")
    assert (code, list(builder.asked)) == (12, ["a-tp2"])
    assert document["data"]["counts"]["not_run"] == 2


def test_shards_together_build_everything_once(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    built = []
    for shard in ("1/2", "2/2"):
        code, document = build(capfd, "--shard", shard)
        assert (code, document["data"]["shard"]) == (0, shard)
        built += [cell["name"] for cell in document["data"]["builds"]]
    assert sorted(built) == ["a-tp1", "a-tp2", "b"]


def test_shard_without_a_build_is_fine_and_says_so(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = build(capfd, "--shard", "4/4", "--junit", "j.xml")
    assert (code, document["data"]["builds"]) == (0, [])
    assert document["warnings"] == ["nothing to build: shard 4/4 has none of 3"]
    assert ET.parse("j.xml").getroot().get("tests") == "0"


def test_interrupt_keeps_what_was_finished_in_lock_and_junit(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    builder.errors = {"a-tp1": KeyboardInterrupt()}
    code, _ = build(capfd, "--update-lock", "--junit", "j.xml")
    assert (code, list(builder.asked)) == (130, ["a-tp2", "a-tp1"])
    assert ET.parse("j.xml").getroot().get("tests") == "1"
    cells = json.loads(Path("some.lock").read_text())["cells"]
    made = {name for name, cell in cells.items() if cell["artifact_digest"]}
    assert (made, len(cells)) == ({"a-tp2"}, 3)


def test_locked_builds_what_the_lock_says_and_refuses_the_rest_before_building(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    assert build(capfd, "--locked")[1]["error"]["message"] == "there is no lock file some.lock"
    assert build(capfd, "--update-lock")[0] == 0
    code, document = build(capfd, "--locked", "--shard", "1/2")
    assert code == 0
    assert {cell["is_locked_digest"] for cell in document["data"]["builds"]} == {True}
    builder.asked.clear()
    Path("model/config.json").write_text("[]")
    code, document = build(capfd, "--locked")
    assert (code, builder.asked) == (3, {})
    assert "./model: config.json was" in document["error"]["message"]
    assert build(capfd)[0] == 0


def test_another_digest_than_the_locks_is_a_warning(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    build(capfd, "--update-lock")
    builder.max_length = 16
    code, document = build(capfd, "--locked", "--only", "b")
    assert (code, document["data"]["builds"][0]["is_locked_digest"]) == (0, False)
    assert any("b: artifact digest is" in warning for warning in document["warnings"])


def test_lock_verb_writes_checks_and_keeps_digests(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    build(capfd, "--update-lock", "--only", "b")
    digests = {"a-tp1": None, "a-tp2": None, "b": make_manifest().digest}
    code, document = run(capfd, "lock", "some.toml")
    assert (code, document["data"]["builds"]) == (0, digests)
    before = json.dumps(json.loads(Path("some.lock").read_text())).encode()  # not as we write it
    Path("some.lock").write_bytes(before)
    code, document = run(capfd, "lock", "some.toml", "--check")
    assert (code, document["data"]["is_written"]) == (0, False)
    assert Path("some.lock").read_bytes() == before
    Path("model/config.json").write_text("[]")
    code, document = run(capfd, "lock", "some.toml", "--check")
    assert (code, Path("some.lock").read_bytes()) == (3, before)
    assert "config.json was" in document["error"]["message"]


def test_lock_verb_needs_no_output_folder_but_build_does(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("one.toml").write_text('checkpoint = "./model"\n')
    assert run(capfd, "lock", "one.toml")[0] == 0
    assert run(capfd, "build", "one.toml", "--locked")[0] == 2
    code, document = run(capfd, "build", "one.toml", "--locked", "-o", "there")
    assert (code, [cell["path"] for cell in document["data"]["builds"]]) == (0, ["there"])


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--locked", "--update-lock"), "--locked keeps to the lock file"),
        (("--locked", "--allow-env-flags"), "no lock file holds"),
        (("--only", "c"), "no build of that name"),
        (("--shard", "3/2"), "--shard is '3/2'"),
        (("--junit", "absent/j.xml"), "--junit absent/j.xml cannot be written"),
        (("--tp", "2"), "--tp given, and build 'a-tp1'"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_anything_is_built(
    builder: Builder, capfd: pytest.CaptureFixture[str], argv: tuple[str, ...], told: str
) -> None:
    code, document = build(capfd, *argv)
    assert (code, builder.asked) == (2, {})
    assert told in document["error"]["message"]


def test_flags_about_builds_are_refused_without_a_recipe(
    builder: Builder, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = run(capfd, "build", "model", "-o", "x", "--shard", "1/2")
    assert (code, builder.asked) == (2, {})
    assert document["error"]["message"].startswith("model is no .toml file")


def test_other_flags_reach_every_build(builder: Builder, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ("--batch-size", "3", "--no-verify", "--dump-ir", "ir", "-o", "there")
    code, document = build(capfd, *argv)
    assert code == 0
    assert [cell["path"] for cell in document["data"]["builds"]] == [
        "there/a-tp1",
        "there/a-tp2",
        "there/b",
    ]
    for name, (recipe, settings) in builder.asked.items():
        assert recipe.batch_size == 3
        assert (settings["verify"], settings["dump_ir"]) == (False, Path("ir") / name)
