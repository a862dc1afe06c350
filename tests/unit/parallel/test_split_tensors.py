import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from safetensors import safe_open
from safetensors.numpy import load_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import InputError, UsageError
from neuronc.parallel.split_manifest import check_files, read_split_manifest
from neuronc.parallel.split_tensors import split_checkpoint
from tests.tiny_models import make_checkpoint
from tests.unit.parallel.splitting import joined, split

Changed = Callable[..., Path]
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("tp", [1, 2, 3, 4])
def test_rank_files_hold_the_whole_checkpoint(tiny_llama: Path, tmp_path: Path, tp: int) -> None:
    manifest = split(tiny_llama, tmp_path / "out", tp=tp)

    original = load_file(tiny_llama / "model.safetensors")
    found = joined(tmp_path / "out", manifest)
    assert found.keys() == original.keys()
    for name, array in original.items():
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "gemma"])
def test_families_with_a_plan_are_split_and_come_back(tmp_path: Path, family: str) -> None:
    source = make_checkpoint(
        tmp_path / "in", family=family, shards=2, dtype="bf16", tokenizer=False
    )

    manifest = split(source, tmp_path / "out", tp=4)

    reader = open_checkpoint(str(source)).reader
    for name, array in joined(tmp_path / "out", manifest).items():
        assert array.tobytes() == reader.read(name).tobytes(), name
    assert manifest.dtype == "bf16"


def test_a_family_that_nobody_described_is_split_by_output_rows(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "in", family="glm", tokenizer=False)

    manifest = split(source, tmp_path / "out", tp=3)

    assert "gather" in {tensor.rule.role for tensor in manifest.tensors.values()}
    reader = open_checkpoint(str(source)).reader
    for name, array in joined(tmp_path / "out", manifest).items():
        assert array.tobytes() == reader.read(name).tobytes(), name


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_values_are_rounded_to_the_dtype(tiny_llama: Path, tmp_path: Path, dtype: str) -> None:
    manifest = split(tiny_llama, tmp_path / "out", dtype=dtype)

    original = load_file(tiny_llama / "model.safetensors")[UP]
    found = joined(tmp_path / "out", manifest)[UP]
    assert manifest.dtype == dtype
    assert found.tobytes() == original.astype(numpy_dtype(DTYPES[dtype])).tobytes()


def test_rank_files_are_what_the_safetensors_library_reads(
    tiny_llama: Path, tmp_path: Path
) -> None:
    manifest = split(tiny_llama, tmp_path / "out", tp=3)

    with safe_open(tmp_path / "out" / "rank-2.safetensors", framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == {name: t.rule.rank_shape for name, t in manifest.tensors.items()}


def test_the_manifest_that_is_read_is_the_one_that_was_returned(
    tiny_llama: Path, tmp_path: Path
) -> None:
    manifest = split(tiny_llama, tmp_path / "out")

    assert read_split_manifest(tmp_path / "out") == manifest
    assert manifest.source == "tiny"
    assert manifest.shapes["model.embed_tokens.weight"] == (128, 36)


def test_every_file_is_listed_with_its_sha256(tiny_llama: Path, tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    manifest = split(tiny_llama, out_dir)

    listed = {file.path: file.sha256 for file in manifest.files}
    on_disk = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out_dir.iterdir()
    }
    on_disk.pop("split.json")
    assert listed == on_disk
    assert {"rank-0.safetensors", "config.json", "tokenizer.json"} <= listed.keys()
    check_files(out_dir, manifest.files)


def test_every_tensor_has_the_digest_of_its_whole_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    manifest = split(tiny_llama, tmp_path / "out", dtype="bf16")

    for name, array in joined(tmp_path / "out", manifest).items():
        assert xxhash.xxh3_128_hexdigest(array.tobytes()) == manifest.tensors[name].digest


def test_two_splits_are_the_same_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        split(tiny_llama, tmp_path / name, tp=2, dtype="bf16")

    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two


def test_a_local_source_is_recorded_by_its_last_part(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_llama)
    (tmp_path / "out").mkdir()

    manifest = split_checkpoint(open_checkpoint("."), tmp_path / "out", tp=1, dtype="auto")

    assert manifest.source == "tiny"


def test_the_second_copy_of_a_tied_head_is_dropped(changed: Changed, tmp_path: Path) -> None:
    source = changed({"lm_head.weight": np.zeros((128, 36), np.float32)})

    assert "lm_head.weight" not in split(source, tmp_path / "out").tensors


def test_a_head_that_is_not_tied_is_split(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "in", tie_word_embeddings=False, vocab_size=127)

    manifest = split(source, tmp_path / "out")

    assert manifest.tensors["lm_head.weight"].rule.rank_shape == (64, 36)


def test_buffers_of_old_checkpoints_are_dropped(changed: Changed, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"

    assert name not in split(changed({name: np.zeros(4, np.float32)}), tmp_path / "out").tensors


def test_nan_and_inf_pass_the_split_unchanged(changed: Changed, tmp_path: Path) -> None:
    weights = np.full((96, 36), np.nan, np.float32)
    weights[0] = np.inf

    manifest = split(changed({UP: weights}), tmp_path / "out", dtype="bf16")

    found = joined(tmp_path / "out", manifest)[UP].astype(np.float32)
    assert np.array_equal(found, weights, equal_nan=True)


def test_values_too_large_for_the_dtype_are_refused(changed: Changed, tmp_path: Path) -> None:
    weights = np.full((96, 36), 70000.0, np.float32)

    with pytest.raises(InputError, match=f"'{UP}' of .* has values too large for f16"):
        split(changed({UP: weights}), tmp_path / "out", dtype="f16")
    assert list((tmp_path / "out").iterdir()) == []


def test_auto_is_the_dtype_of_most_bytes(changed: Changed, tmp_path: Path) -> None:
    source = changed({UP: np.zeros((96, 36), np.float16)})

    assert split(source, tmp_path / "out", dtype="auto").dtype == "f32"


def test_auto_does_not_guess_for_f64_weights(
    tiny_llama: Path, changed: Changed, tmp_path: Path
) -> None:
    weights = load_file(tiny_llama / "model.safetensors")
    source = changed({name: array.astype(np.float64) for name, array in weights.items()})

    with pytest.raises(InputError, match=r"holds f64 weights; neuronc computes in f32, bf16, f16"):
        split(source, tmp_path / "out")


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"tp": 0}])
def test_options_that_mean_nothing_are_usage_errors(
    tiny_llama: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=str(next(iter(options.values())))):
        split(tiny_llama, tmp_path / "out", **options)
