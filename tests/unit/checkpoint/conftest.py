"""Checkpoints small enough to read, made on the spot."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

CONFIG = {"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1}

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


@pytest.fixture
def arrays() -> Arrays:
    values = np.arange(12, dtype=np.float32)
    return {"model.a.weight": values.reshape(3, 4), "model.b.weight": values[:4] * 0.5}


@pytest.fixture
def folder(tmp_path: Path, arrays: Arrays) -> Path:
    """A checkpoint folder with one safetensors file."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    save_file(dict(arrays), place / "model.safetensors")
    return place


@pytest.fixture
def sharded_folder(tmp_path: Path, arrays: Arrays) -> Path:
    """The same checkpoint, one file for each tensor, and an index."""
    place = tmp_path / "sharded"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    weight_map = {}
    for number, (name, array) in enumerate(arrays.items(), start=1):
        weight_map[name] = f"model-{number:05}-of-00002.safetensors"
        save_file({name: array}, place / weight_map[name])
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return place


@pytest.fixture
def write_safetensors(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file from a header of one's own, valid or not."""

    def write(header: object, data: bytes = b"", *, length: int | None = None) -> Path:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(
            (len(text) if length is None else length).to_bytes(8, "little") + text + data
        )
        return path

    return write


def _byte_vocabulary() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return ["<unk>", "<s>", "</s>", *bytes_to_unicode().values(), "Ġt", "he", "Ġthe"]


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny GGUF model: 2 layers, hidden 64, 4 query heads, 2 key-value heads."""
    import gguf

    def write(
        *,
        arch: str = "llama",
        head: bool = False,
        omit: tuple[str, ...] = (),
        extra: Arrays | None = None,
        kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
    ) -> Path:
        path = tmp_path / f"{arch}.gguf"
        vocabulary = _byte_vocabulary()
        writer = gguf.GGUFWriter(path, arch)
        _add_metadata(writer, vocabulary)
        for name, array in (_tiny_tensors(arch, len(vocabulary), head) | dict(extra or {})).items():
            if name in omit:
                continue
            if array.ndim >= 2:
                data = gguf.quants.quantize(array, kind)
                writer.add_tensor(name, data, raw_dtype=kind)
            else:
                writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def _add_metadata(writer: Any, vocabulary: list[str]) -> None:
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(1024)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_expert_count(3)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(768)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_eps(1e-5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_merges(["Ġ t", "h e", "Ġt he"])
    writer.add_token_types([3, 3, 3] + [1] * (len(vocabulary) - 3))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


_LLAMA_BLOCK = {
    "attn_norm.weight": (64,),
    "attn_q.weight": (64, 64),
    "attn_k.weight": (32, 64),
    "attn_v.weight": (32, 64),
    "attn_output.weight": (64, 64),
    "ffn_norm.weight": (64,),
    "ffn_gate.weight": (96, 64),
    "ffn_up.weight": (96, 64),
    "ffn_down.weight": (64, 96),
}
_QWEN3MOE_BLOCK = {
    **{name: shape for name, shape in _LLAMA_BLOCK.items() if not name.startswith("ffn_")},
    "attn_q_norm.weight": (16,),
    "attn_k_norm.weight": (16,),
    "ffn_norm.weight": (64,),
    "ffn_gate_inp.weight": (3, 64),
    "ffn_gate_exps.weight": (3, 768, 64),
    "ffn_up_exps.weight": (3, 768, 64),
    "ffn_down_exps.weight": (3, 64, 768),
}
_GPT2_BLOCK = {
    "attn_norm.weight": (64,),
    "attn_norm.bias": (64,),
    "attn_qkv.weight": (192, 64),
    "attn_qkv.bias": (192,),
    "attn_output.weight": (64, 64),
    "attn_output.bias": (64,),
    "ffn_norm.weight": (64,),
    "ffn_norm.bias": (64,),
    "ffn_up.weight": (256, 64),
    "ffn_up.bias": (256,),
    "ffn_down.weight": (64, 256),
    "ffn_down.bias": (64,),
}


def _tiny_tensors(arch: str, vocabulary: int, head: bool) -> "dict[str, np.ndarray[Any, Any]]":
    block = {"gpt2": _GPT2_BLOCK, "qwen3moe": _QWEN3MOE_BLOCK}.get(arch, _LLAMA_BLOCK)
    shapes = {"token_embd.weight": (vocabulary, 64), "output_norm.weight": (64,)}
    if arch == "gpt2":
        shapes |= {"position_embd.weight": (1024, 64), "output_norm.bias": (64,)}
    for layer in range(2):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    if head:
        shapes["output.weight"] = (vocabulary, 64)
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
