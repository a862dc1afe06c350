"""Splitting and putting together again gives the checkpoint's own tensors, bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import InputError
from neuronc.families.model_config import read_model_config
from neuronc.parallel import split_memory
from neuronc.parallel.layouts.names import LAYOUTS, Layout
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.shards import is_in_order
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from neuronc.parallel.unsplit import Unsplit, unsplit_folder
from tests.tiny_families import random_model
from tests.unit.parallel.decoder_shapes import SMOLLM2, decoder_shapes

Array = np.ndarray[Any, Any]

K = "model.layers.0.self_attn.k_proj.weight"


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even these tiny tensors come in many blocks."""
    monkeypatch.setattr(split_memory, "DEFAULT_BLOCK_BYTES", 50)


def there_and_back(
    source: Path, place: Path, *, tp: int, dtype: str = "auto", **options: Any
) -> Unsplit:
    for folder in ("split", "back"):
        (place / folder).mkdir()
    checkpoint = open_checkpoint(str(source))
    split_options = SplitOptions(**options)
    split_checkpoint(checkpoint, place / "split", tp=tp, dtype=dtype, options=split_options)
    return unsplit_folder(place / "split", place / "back")


def tensors_of(folder: Path) -> dict[str, Array]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: array for file in files for name, array in load_file(file).items()}


def assert_same_bits(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    kv_heads = draw(st.integers(1, 4))
    return {
        **SMOLLM2,
        "model_type": draw(st.sampled_from(["llama", "mistral", "qwen2"])),
        "num_key_value_heads": kv_heads,
        "num_attention_heads": kv_heads * draw(st.integers(1, 4)),
        "head_dim": 2 * draw(st.integers(1, 3)),
        "hidden_size": draw(st.integers(3, 20)),
        "intermediate_size": draw(st.integers(1, 20)),
        "vocab_size": draw(st.integers(2, 40)),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "tie_word_embeddings": draw(st.booleans()),
    }


@given(
    models(),
    st.integers(1, 8),
    st.sampled_from([("f32", "auto"), ("bf16", "auto"), ("f16", "auto"), ("bf16", "f32"), ("f16", "f32")]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_architecture_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    fields: dict[str, Any],
    tp: int,
    dtypes: tuple[str, str],
    seed: int,
) -> None:
    stored, asked = dtypes
    place = tmp_path_factory.mktemp("any")
    (place / "in").mkdir()
    bias = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    shapes = decoder_shapes(
        read_model_config(fields, source="test"),
        bias=bias if fields["model_type"] == "qwen2" else (),
    )
    rng = np.random.default_rng(seed)
    kind = numpy_dtype(DTYPES[stored])
    weights = {name: rng.normal(size=shape).astype(kind) for name, shape in shapes.items()}
    (place / "in" / "config.json").write_text(json.dumps(fields))
    save_file(weights, place / "in" / "model.safetensors")

    found = there_and_back(place / "in", place, tp=tp, dtype=asked)

    assert found.narrowed == ()
    assert_same_bits(tensors_of(place / "back"), weights)


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_a_kv_head_that_a_rank_holds_twice_comes_back(tmp_path: Path, dtype: str) -> None:
    heads = {"num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 2}
    sizes = {"hidden_size": 30, "intermediate_size": 4, "num_hidden_layers": 1, "vocab_size": 8}
    fields = {**SMOLLM2, **heads, **sizes}
    shapes = decoder_shapes(read_model_config(fields, source="test"))
    (tmp_path / "in").mkdir()
    rng, kind = np.random.default_rng(0), numpy_dtype(DTYPES["bf16"])
    weights = {name: rng.normal(size=shape).astype(kind) for name, shape in shapes.items()}
    (tmp_path / "in" / "config.json").write_text(json.dumps(fields))
    save_file(weights, tmp_path / "in" / "model.safetensors")

    there_and_back(tmp_path / "in", tmp_path, tp=2, dtype=dtype)

    assert not is_in_order(read_split_manifest(tmp_path / "split").tensors[K].rule)
    assert_same_bits(tensors_of(tmp_path / "back"), weights)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_comes_back(tiny_llama: Path, tmp_path: Path, layout: Layout) -> None:
    tp = 1 if layout == "transformers-neuronx" else 4

    there_and_back(tiny_llama, tmp_path, tp=tp, layout=layout)

    assert_same_bits(tensors_of(tmp_path / "back"), tensors_of(tiny_llama))
    for name in ("config.json", "tokenizer.json"):
        ours, theirs = (tmp_path / "back" / name), (tiny_llama / name)
        assert json.loads(ours.read_text()) == json.loads(theirs.read_text())


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "gpt2", "bloom", "phi3"])
@pytest.mark.parametrize("tp", [1, 4])
def test_stacked_experts_and_renamed_tensors_come_back(
    tmp_path: Path, family: str, tp: int
) -> None:
    source = tmp_path / "in"
    random_model(family).save_pretrained(source, max_shard_size="100KB")

    there_and_back(source, tmp_path, tp=tp)

    assert_same_bits(tensors_of(tmp_path / "back"), tensors_of(source))


def test_a_large_checkpoint_comes_back_in_parts_with_an_index(
    tiny_llama: Path, tmp_path: Path
) -> None:
    there_and_back(tiny_llama, tmp_path, tp=2)
    (tmp_path / "parts").mkdir()

    found = unsplit_folder(tmp_path / "split", tmp_path / "parts", max_file_bytes=20_000)

    assert len(found.files) > 2
    assert found.files[0] == f"model-00001-of-{len(found.files):05}.safetensors"
    reader = open_checkpoint(str(tmp_path / "parts")).reader
    for name, array in tensors_of(tiny_llama).items():
        assert reader.read(name).tobytes() == array.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_of_a_split_comes_back_under_the_checkpoints_own_names(
    tmp_path: Path, layout: Layout
) -> None:
    source = tmp_path / "in"
    random_model("mixtral").save_pretrained(source)
    (tmp_path / "split").mkdir()
    options = SplitOptions(layout=layout)
    checkpoint = open_checkpoint(str(source))
    split_checkpoint(checkpoint, tmp_path / "split", tp=1, dtype="auto", options=options)

    split_again(tmp_path, tp=2)

    assert_same_bits(tensors_of(tmp_path / "again"), tensors_of(source))


def split_again(place: Path, *, tp: int, dtype: str = "auto") -> Unsplit:
    """Split ``place / "split"`` once more, and put that together in ``place / "again"``."""
    for name in ("second", "again"):
        (place / name).mkdir()
    checkpoint = open_any_checkpoint(str(place / "split"))
    split_checkpoint(checkpoint, place / "second", tp=tp, dtype=dtype)
    return unsplit_folder(place / "second", place / "again")


def test_what_an_earlier_split_rounded_does_not_pass_for_the_original(
    tiny_llama: Path, tmp_path: Path
) -> None:
    there_and_back(tiny_llama, tmp_path, tp=2, dtype="bf16")

    split_again(tmp_path, tp=1, dtype="f32")

    kinds = {array.dtype for array in tensors_of(tmp_path / "again").values()}
    assert kinds == {numpy_dtype(DTYPES["bf16"])}


def test_what_was_rounded_is_told(tiny_llama: Path, tmp_path: Path) -> None:
    found = there_and_back(tiny_llama, tmp_path, tp=2, dtype="bf16")

    assert set(found.narrowed) == set(tensors_of(tiny_llama))
    kinds = {array.dtype for array in tensors_of(tmp_path / "back").values()}
    assert kinds == {numpy_dtype(DTYPES["bf16"])}


def test_a_split_of_files_in_parts_comes_back(tiny_llama: Path, tmp_path: Path) -> None:
    there_and_back(tiny_llama, tmp_path, tp=2, max_file_bytes=30_000)

    assert (tmp_path / "split" / "rank-1-00002-of-00002.safetensors").is_file() or (
        len(list((tmp_path / "split").glob("rank-1-*"))) > 2
    )
    assert_same_bits(tensors_of(tmp_path / "back"), tensors_of(tiny_llama))


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_changed_value_is_refused_by_the_tensors_name(
    tiny_llama: Path, tmp_path: Path, rank: int
) -> None:
    there_and_back(tiny_llama, tmp_path, tp=2)
    damage(tmp_path / "split" / f"rank-{rank}.safetensors", -1)  # of the last norm

    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"model\.norm\.weight|not one tensor cut into ranks"):
        unsplit_folder(tmp_path / "split", tmp_path / "again")


def test_a_digest_of_another_tensor_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    there_and_back(tiny_llama, tmp_path, tp=2)
    path = tmp_path / "split" / "split.json"
    data = json.loads(path.read_text())
    data["tensors"]["model.norm.weight"]["xxh3_128"] = "0" * 32
    path.write_text(json.dumps(data))

    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"'model\.norm\.weight' of .* is not the tensor"):
        unsplit_folder(tmp_path / "split", tmp_path / "again")


@pytest.mark.parametrize("start", [None, 0])
def test_padding_and_second_copies_are_compared(
    tiny_llama: Path, tmp_path: Path, start: int | None
) -> None:
    there_and_back(tiny_llama, tmp_path, tp=4)
    tensor = read_split_manifest(tmp_path / "split").tensors[K]
    rank, row = next(
        (rank, sum(p.length for p in pieces[:number]))
        for rank, pieces in reversed(list(enumerate(tensor.rule.ranks)))
        for number, piece in enumerate(pieces)
        if (piece.start is None) == (start is None)
    )
    path = tmp_path / "split" / f"rank-{rank}.safetensors"
    weights = load_file(path)
    weights[K][row] += 1
    save_file(weights, path)

    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=rf"the shards of '{K}' .* are not one tensor|'{K}' of"):
        unsplit_folder(tmp_path / "split", tmp_path / "again")


def test_shards_of_two_ranks_exchanged_are_noticed(tiny_llama: Path, tmp_path: Path) -> None:
    there_and_back(tiny_llama, tmp_path, tp=2)
    one, two = (tmp_path / "split" / f"rank-{rank}.safetensors" for rank in range(2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)

    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"is not the tensor that was split|not one tensor"):
        unsplit_folder(tmp_path / "split", tmp_path / "again")


def test_a_folder_that_is_no_split_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a split folder"):
        unsplit_folder(tiny_llama, tmp_path)
