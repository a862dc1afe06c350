"""A linked split reads the same bytes from the checkpoint that an ordinary one holds itself."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError, UsageError
from neuronc.parallel.rank_files import open_rank
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from tests.tiny_families import random_model
from tests.tiny_models import make_checkpoint


def split(source: Path, out: Path, *, tp: int, link: bool, dtype: str = "auto") -> None:
    out.mkdir()
    checkpoint = open_checkpoint(str(source))
    split_checkpoint(checkpoint, out, tp=tp, dtype=dtype, options=SplitOptions(link=link))


def assert_same_ranks(source: Path, place: Path, tp: int) -> None:
    split(source, place / "copied", tp=tp, link=False)
    split(source, place / "linked", tp=tp, link=True)
    assert not list((place / "linked").glob("*.safetensors"))
    names = list(read_split_manifest(place / "linked").tensors)
    for rank in range(tp):
        copied, linked = (open_rank(place / which, rank) for which in ("copied", "linked"))
        for name in names:
            found, expected = linked.read(name), copied.read(name)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
            assert found.tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("tp", [1, 2, 3, 4, 8])
def test_llama_with_padded_and_replicated_heads(tmp_path: Path, tp: int) -> None:
    source = make_checkpoint(
        tmp_path / "in", shards=3, vocab_size=127, tie_word_embeddings=False, tokenizer=False
    )
    assert_same_ranks(source, tmp_path, tp)


@pytest.mark.parametrize(
    "variant", ["mixtral", "qwen2_moe", "gpt2", "bloom", "phi3", "gpt_bigcode"]
)
@pytest.mark.parametrize("tp", [1, 3, 4])
def test_stacked_fused_and_renamed_tensors(tmp_path: Path, variant: str, tp: int) -> None:
    random_model(variant).save_pretrained(tmp_path / "in", max_shard_size="100KB")
    assert_same_ranks(tmp_path / "in", tmp_path, tp)


def test_rows_of_several_tensors_come_one_after_the_other(tiny_llama: Path, tmp_path: Path) -> None:
    split(tiny_llama, tmp_path / "linked", tp=3, link=True)
    rank = open_rank(tmp_path / "linked", 1)
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    assert np.array_equal(rank.read_rows(names), np.concatenate([rank.read(n) for n in names]))


def test_files_that_the_checkpoint_is_not_made_of_are_passed_over(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "in", shards=3, tokenizer=False)
    stray = make_checkpoint(tmp_path / "stray", seed=1, tokenizer=False)
    (stray / "model.safetensors").rename(source / "model_old.safetensors")
    assert_same_ranks(source, tmp_path, 2)


def test_parts_may_have_any_names(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "in", shards=3, tokenizer=False)
    index = source / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-0", "weights-0"))
    for path in source.glob("model-0*"):
        path.rename(source / path.name.replace("model", "weights"))
    assert_same_ranks(source, tmp_path, 2)


def test_a_checkpoint_that_changed_is_refused(changed: Callable[..., Path], tmp_path: Path) -> None:
    source = changed()
    split(source, tmp_path / "linked", tp=2, link=True)
    os.utime(source / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors changed after it was linked"):
        open_rank(tmp_path / "linked", 0)


def test_a_checkpoint_that_is_gone_is_refused(changed: Callable[..., Path], tmp_path: Path) -> None:
    source = changed()
    split(source, tmp_path / "linked", tp=2, link=True)
    (source / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot read .*model\.safetensors"):
        open_rank(tmp_path / "linked", 0)


def test_links_cannot_change_the_dtype(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is f32; --link to bf16"):
        split(tiny_llama, tmp_path / "linked", tp=2, link=True, dtype="bf16")


def test_links_into_pickled_weights_are_refused(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "in", tokenizer=False)
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no safetensors files"):
        split(source, tmp_path / "linked", tp=2, link=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, 7), (0, -1), (1, 10**12), (1, -8), (2, [10**9, 36]), (3, [10**9, 4]), (4, [5, 0]), (4, [0])],
)  # fmt: skip
def test_a_slice_outside_its_file_or_shard_is_refused(
    tiny_llama: Path, tmp_path: Path, field: int, value: Any
) -> None:
    split(tiny_llama, tmp_path / "linked", tp=2, link=True)
    path = tmp_path / "linked" / "split.json"
    data = json.loads(path.read_text())
    data["linked"]["slices"]["model.layers.0.mlp.up_proj.weight"][1][0][field] = value
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="is damaged"):
        open_rank(tmp_path / "linked", 1)
