"""Sharded weights of NxD Inference: which folders are read, and which are refused."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from tests.tiny_models import edit_config, make_checkpoint

RANK = "weights/tp{}_sharded_checkpoint.safetensors"
UP = "model.layers.0.mlp.up_proj.weight"
KEY = "model.layers.0.self_attn.k_proj.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"


def write(source: Path, out_dir: Path, *, tp: int, dtype: str = "auto") -> Path:
    out_dir.mkdir()
    checkpoint = open_checkpoint(str(source))
    split_checkpoint(checkpoint, out_dir, tp=tp, dtype=dtype, options=SplitOptions(layout="nxdi"))
    return out_dir


@pytest.fixture
def written(tiny_llama: Path, tmp_path: Path) -> Path:
    """`tiny_llama` over two ranks; its nine query heads are padded."""
    return write(tiny_llama, tmp_path / "out", tp=2)


@pytest.fixture(scope="module")
def even_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight query and two KV heads: two ranks need no padding, four hold each KV head twice."""
    fields: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2}
    folder = tmp_path_factory.mktemp("models") / "even"
    return make_checkpoint(folder, tokenizer=False, dtype="bf16", **fields)


@pytest.fixture
def by_others(even_llama: Path, tmp_path: Path) -> Callable[[int], Path]:
    """A folder of rank files as another tool leaves it: nothing says how they were cut."""

    def make(tp: int) -> Path:
        folder = write(even_llama, tmp_path / "others", tp=tp)
        (folder / "split.json").unlink()
        (folder / "neuron_config.json").unlink()
        return folder

    return make


def change(folder: Path, rank: int, tensors: Mapping[str, Any]) -> None:
    """Replace, add or (None) drop tensors of one rank's file."""
    path = folder / RANK.format(rank)
    merged = {**load_file(path), **tensors}
    save_file({name: array for name, array in merged.items() if array is not None}, path)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_any_checkpoint(str(folder))
    assert caught.value.hint


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_ranks_of_others_are_read_where_config_leaves_no_choice(
    by_others: Callable[[int], Path], even_llama: Path, tp: int
) -> None:
    found, expected = (open_any_checkpoint(str(folder)) for folder in (by_others(tp), even_llama))
    assert found.tensors.keys() == expected.tensors.keys()
    for name, info in expected.tensors.items():
        assert found.tensors[name] == info
        assert found.reader.read(name).tobytes() == expected.reader.read(name).tobytes()


def test_rank_files_of_optimum_neuron_lie_one_folder_deeper(
    by_others: Callable[[int], Path], even_llama: Path
) -> None:
    folder = by_others(2)
    (folder / "checkpoint").mkdir()
    (folder / "weights").rename(folder / "checkpoint" / "weights")
    (folder / "neuron_config.json").write_text('{"tp_degree": 2}')

    found = open_any_checkpoint(str(folder))

    expected = open_checkpoint(str(even_llama))
    assert found.tensors.keys() == expected.tensors.keys()
    for name in expected.tensors:
        assert found.reader.read(name).tobytes() == expected.reader.read(name).tobytes()


def test_padded_heads_of_others_are_refused(written: Path) -> None:
    (written / "split.json").unlink()
    refused(written, r"has no split\.json: 9 heads over tp=2 ranks are padded")


def test_copies_of_a_head_that_differ_are_refused(by_others: Callable[[int], Path]) -> None:
    folder = by_others(4)
    change(folder, 1, {KEY: load_file(folder / RANK.format(1))[KEY] * 2})
    checkpoint = open_any_checkpoint(str(folder))
    with pytest.raises(InputError, match=f"the shards of '{KEY}' .* are not one tensor cut"):
        checkpoint.reader.read(KEY)


def test_a_norm_that_differs_between_ranks_is_refused(by_others: Callable[[int], Path]) -> None:
    folder, name = by_others(2), "model.norm.weight"
    change(folder, 1, {name: load_file(folder / RANK.format(1))[name] * 2})
    with pytest.raises(InputError, match=f"the shards of '{name}'"):
        open_any_checkpoint(str(folder)).reader.read(name)


def test_padding_that_is_not_zero_is_refused(written: Path) -> None:
    shard = load_file(written / RANK.format(1))[QUERY]
    assert not shard[-8:].any()
    shard[-1, -1] = 1.0
    change(written, 1, {QUERY: shard})
    with pytest.raises(InputError, match=f"the shards of '{QUERY}'"):
        open_any_checkpoint(str(written)).reader.read(QUERY)


def test_two_ranks_changed_for_each_other_are_refused(written: Path) -> None:
    one, two = (written / RANK.format(rank) for rank in range(2))
    one.rename(written / "kept")
    two.rename(one)
    (written / "kept").rename(two)
    with pytest.raises(InputError, match=f"'{UP}' of .* is not the tensor that split.json"):
        open_any_checkpoint(str(written)).reader.read(UP)


def test_names_that_no_rule_explains_are_refused(by_others: Callable[[int], Path]) -> None:
    folder = by_others(2)
    change(folder, 0, {"rank_util.rank": np.zeros(1, np.int32)})
    refused(folder, r"config\.json does not explain it: no sharding rule .*'rank_util\.rank'")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({UP: None}, rf"tp1_.* lacks tensor '{UP}'"),
        ({"extra": np.zeros(2, np.float32)}, "tp1_.* has an unexpected tensor 'extra'"),
        ({UP: np.zeros((48, 35), np.float32)}, rf"tp1_.* has '{UP}' as f32 \[48, 35\]; .*48, 36"),
        ({UP: np.zeros((48, 36), np.float16)}, rf"tp1_.* has '{UP}' as f16 .*expected f32"),
    ],
)
def test_ranks_that_do_not_fit_together_are_refused(
    written: Path, tensors: Mapping[str, Any], words: str
) -> None:
    change(written, 1, tensors)
    refused(written, words)


def test_shards_of_another_size_than_config_says_are_refused(
    by_others: Callable[[int], Path],
) -> None:
    folder = by_others(2)
    edit_config(folder, intermediate_size=64)
    refused(folder, r"tp0_.*mlp\.\w+_proj\.weight' as bf16 .*; expected bf16")


def test_a_size_that_config_does_not_say_is_not_guessed(by_others: Callable[[int], Path]) -> None:
    folder = by_others(2)
    edit_config(folder, intermediate_size=-1)
    refused(folder, r"mlp\.\w+_proj\.weight' as bf16")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_missing_rank_is_refused(written: Path, rank: int) -> None:
    (written / RANK.format(rank)).unlink()
    words = "lacks weights/tp0" if rank == 0 else r"neuron_config\.json says 2 ranks; .* of 1"
    refused(written, words)
    (written / "neuron_config.json").unlink()
    refused(written, words.replace("neuron_config", "split"))


def test_the_tp_degree_of_others_is_compared_where_it_is_flat(
    by_others: Callable[[int], Path],
) -> None:
    folder = by_others(2)
    (folder / "neuron_config.json").write_text('{"tp_degree": 4}')
    refused(folder, r"neuron_config\.json says 4 ranks; weights has files of 2")


def test_a_folder_without_config_is_refused(by_others: Callable[[int], Path]) -> None:
    folder = by_others(2)
    (folder / "config.json").unlink()
    refused(folder, r"has no config\.json")


def test_whole_weights_win_over_rank_files(written: Path, tiny_llama: Path) -> None:
    shutil.rmtree(written / "weights")
    (written / "weights").mkdir()
    (written / RANK.format(0)).write_bytes(b"never opened")
    shutil.copy(tiny_llama / "model.safetensors", written)
    assert UP in open_any_checkpoint(str(written)).tensors


@pytest.mark.parametrize("kept", [0, 7, 500, -1])
def test_a_truncated_rank_file_is_refused_by_name(written: Path, kept: int) -> None:
    path = written / RANK.format(1)
    path.write_bytes(path.read_bytes()[:kept])
    refused(written, "tp1_sharded_checkpoint")


@pytest.mark.parametrize(
    "name", ["weights", RANK.format(1), "split.json", "config.json", "neuron_config.json"]
)
def test_nothing_may_link_out_of_the_folder(written: Path, tmp_path: Path, name: str) -> None:
    (written / name).rename(tmp_path / "elsewhere")
    (written / name).symlink_to(tmp_path / "elsewhere")
    refused(written, "a link to .*elsewhere")


def test_a_directory_where_a_rank_file_should_be_is_refused(written: Path) -> None:
    (written / RANK.format(0)).unlink()
    (written / RANK.format(0)).mkdir()
    refused(written, "cannot read .*tp0_sharded_checkpoint")


@pytest.mark.parametrize(
    ("name", "text"),
    [("split.json", "{"), ("split.json", "[]"), ("neuron_config.json", "[" * 100_000)],
)
def test_json_that_is_damaged_is_refused_by_name(written: Path, name: str, text: str) -> None:
    (written / name).write_text(text)
    refused(written, name)


def test_a_manifest_that_leaves_out_part_of_a_tensor_is_refused(written: Path) -> None:
    data = json.loads((written / "split.json").read_text())
    data["tensors"][UP]["shape"][0] = 10**12  # what nobody holds would be made up of zeros
    (written / "split.json").write_text(json.dumps(data))
    refused(written, rf"split\.json is damaged: tensor '{UP}'")


def test_an_unknown_tensor_is_refused_with_the_nearest_name(written: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean '{UP}'"):
        open_any_checkpoint(str(written)).reader.read(UP.replace("weight", "wait"))
