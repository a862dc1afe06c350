"""What a build would find, without building."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.weights import open_source
from neuronc.cache.cache import Cache, open_answering
from neuronc.cache.explain_build import Part, explain_build
from neuronc.cache.local_store import LocalStore
from neuronc.cache.program_keys import executable_key, lowered_key, neff_key
from neuronc.cache.transfer import transfer
from neuronc.preparation import job_of, programs_of
from neuronc.recipe import Recipe
from neuronc.sizes import complete
from neuronc.targets.neuron.settings import CompileOptions
from tests.entries import FACTS, make_hlo

_SIGNATURE: dict[str, Any] = {"inputs": [], "outputs": [], "aliases": {}, "merged_weights": []}


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> Recipe:
    return Recipe(checkpoint=str(tiny_checkpoint), max_length=32, prefill_buckets=(8, 16))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(local=LocalStore(root=tmp_path / "store"))


def keep(cache: Cache, recipe: Recipe, name: str, folder: Path, *, executable: bool) -> Path:
    """Entries of program ``name`` of ``recipe``, as a build of it would keep them."""
    source = open_source(recipe, lower_only=False, config_only=False)
    recipe = complete(recipe, source.config)
    (spec,) = (spec for spec in programs_of(recipe) if spec.name == name)
    folder.mkdir()
    (folder / "program.mlir").write_text(f"module @x {{ {name} }}")
    (folder / "program.hlo.pb").write_bytes(b"hlo")
    (folder / "neuron.hlo.pb").write_bytes(make_hlo(prefix=name).SerializeToString())
    (folder / "signature.json").write_text(json.dumps(_SIGNATURE))
    (folder / "cpu.exe").write_bytes(b"code")
    (folder / "merged.json").write_text("[]")
    names = ["program.mlir", "program.hlo.pb", "neuron.hlo.pb", "signature.json"]
    key = lowered_key(asdict(job_of(spec, source, recipe, None)))
    assert cache.put(key, folder, names, FACTS)
    if executable:
        key = executable_key(folder, target=recipe.target, tp=recipe.tp)
        assert cache.put(key, folder, ["cpu.exe", "merged.json"], FACTS)
    return folder


def states(parts: list[Part]) -> dict[str, str]:
    return {f"{part.program} {part.kind}": part.state for part in parts}


def files_below(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_every_program_is_a_hit_a_miss_with_a_reason_or_not_known_yet(
    cache: Cache, recipe: Recipe, tmp_path: Path
) -> None:
    keep(cache, recipe, "prefill_8", tmp_path / "a", executable=True)
    keep(cache, recipe, "decode_32", tmp_path / "b", executable=False)
    before = files_below(cache.local.root)
    parts = explain_build(recipe, CompileOptions(), cache)
    assert states(parts) == {
        "prefill_8 lowered": "hit",
        "prefill_8 executable": "hit",
        "prefill_16 lowered": "miss",
        "prefill_16 executable": "unknown",
        "decode_32 lowered": "hit",
        "decode_32 executable": "miss",
    }
    why = {f"{part.program} {part.kind}": part.why for part in parts if part.why}
    assert why["prefill_16 lowered"].startswith("bucket is 16; nearest entry")
    assert why["prefill_16 executable"] == "not known before it is lowered"
    assert why["decode_32 executable"].startswith("program is '")
    assert files_below(cache.local.root) == before  # nothing is changed, not even a time of use


def test_the_first_field_that_differs_is_named(
    cache: Cache, recipe: Recipe, tmp_path: Path
) -> None:
    keep(cache, recipe, "prefill_8", tmp_path / "a", executable=True)
    other = replace(recipe, batch_size=4, dtype="bf16")
    miss = explain_build(other, CompileOptions(), cache)[0].to_dict()["miss"]
    assert isinstance(miss, dict)
    assert [one["input"] for one in miss["differences"]] == ["batch_size", "dtype"]


def test_a_damaged_entry_is_a_miss_that_says_so(
    cache: Cache, recipe: Recipe, tmp_path: Path
) -> None:
    keep(cache, recipe, "prefill_8", tmp_path / "a", executable=True)
    for entry in cache.local.entries("lowered"):
        (cache.local.root / entry.place / "program.mlir").write_text("evil")
    part = explain_build(recipe, CompileOptions(), cache)[0]
    assert part.state == "miss"
    assert "program.mlir is not the file that was kept" in part.why


def test_what_is_behind_a_url_is_found_there_and_left_there(
    cache: Cache, recipe: Recipe, bucket: Any, tmp_path: Path
) -> None:
    keep(cache, recipe, "prefill_8", tmp_path / "a", executable=True)
    remote = open_answering("s3://models/team")
    transfer(cache.local, remote)
    elsewhere = Cache(local=LocalStore(root=tmp_path / "second"), remote=remote)
    found = states(explain_build(recipe, CompileOptions(), elsewhere))
    assert found["prefill_8 lowered"] == found["prefill_8 executable"] == "remote"
    assert found["prefill_16 lowered"] == "miss"
    assert not elsewhere.local.root.exists()


def test_neffs_are_looked_for_by_the_program_and_the_compiler(
    cache: Cache, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronc import preparation
    from neuronc.targets.neuron.compiler.toolchain import Compiler

    recipe = replace(recipe, target="inf2")
    compiler = Compiler(path=Path("neuronx-cc"), version="2.1")
    monkeypatch.setattr("neuronc.targets.neuron.settings.find_compiler", lambda: compiler)
    folder = keep(cache, recipe, "prefill_8", tmp_path / "a", executable=True)
    keep(cache, recipe, "decode_32", tmp_path / "b", executable=True)
    settings = preparation.settings_for(recipe, CompileOptions())
    assert settings is not None
    args = settings.flags.of("prefill")
    key = neff_key((folder / "neuron.hlo.pb").read_bytes(), args=args, compiler="2.1")
    for name in ("program.neff", "neuronx-cc.json", "neuronx-cc.log"):
        (folder / name).write_text("x")
    names = ["program.neff", "neuronx-cc.json", "neuronx-cc.log"]
    assert cache.put(key, folder, names, FACTS)

    parts = explain_build(recipe, CompileOptions(), cache)
    found = states(parts)
    assert [found[f"{name} neff"] for name in ("prefill_8", "prefill_16", "decode_32")] == [
        "hit",
        "unknown",
        "miss",
    ]
    bundle = states(explain_build(recipe, CompileOptions(lower_only=True), cache))
    assert not any(name.endswith("neff") for name in bundle)


def test_explaining_imports_neither_torch_nor_jax(
    cache: Cache, recipe: Recipe, tmp_path: Path
) -> None:
    keep(cache, recipe, "prefill_8", tmp_path / "a", executable=True)
    code = (
        "import sys; from neuronc.cli.app import main;"
        f"main(['cache', 'explain', {recipe.checkpoint!r}, '--max-length', '32', '--json',"
        f" '--prefill-buckets', '8', '--cache', {str(cache.local.root)!r}, '--frozen']);"
        "print([m for m in ('torch', 'jax', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    document, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    told = json.loads(document)
    assert told["error"]["exit_code"] == 10  # as the build would, with --frozen
    assert (told["data"]["found"], told["data"]["missing"]) == (2, 2)
