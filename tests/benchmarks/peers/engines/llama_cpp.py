"""llama.cpp through llama-cpp-python: its low-level functions, or its own class as it comes."""

import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

FILE = "model.gguf"
TYPES = {"f32": 0, "bf16": 30}  # ggml_type: the package has no name for the second
STORED: dict[str, Any] = {"F32": np.dtype("<f4"), "BF16": np.dtype("<u2")}


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """Write the weights as they are into a GGUF file without a vocabulary: ids go in and out."""
    import gguf

    config = json.loads((model / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / FILE, "llama")
    _add_config(writer, config)
    for name, weight in _weights(model):
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = halves_to_pairs(weight, kv_heads if "k_proj" in name else heads)  # noqa: PLW2901
        _add(writer, names.get_name(name, try_suffixes=(".weight",)), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def halves_to_pairs(weight: Any, heads: int) -> Any:
    """Rows in llama.cpp's order: it rotates neighbours, transformers a head's two halves."""
    rows = weight.shape[0]
    halves = weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def _add_config(writer: Any, config: dict[str, Any]) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_tokenizer_model("none")


def _add(writer: Any, name: str, weight: Any) -> None:
    """bf16 as bytes, for numpy has no such type; vectors as f32, which llama.cpp wants."""
    import gguf

    if weight.dtype == STORED["F32"]:
        writer.add_tensor(name, weight)
    elif weight.ndim == 1:
        writer.add_tensor(name, (weight.astype("<u4") << 16).view("<f4"))
    else:
        kind = gguf.GGMLQuantizationType.BF16
        writer.add_tensor(name, weight.view(np.uint8), raw_dtype=kind)


def _weights(model: Path) -> Iterator[tuple[str, Any]]:
    """Name and array of each tensor in the folder's safetensors files."""
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
        data = np.memmap(file, mode="r", offset=8 + length)
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                array: Any = data[begin:end].view(STORED[entry["dtype"]])
                yield name, array.reshape(entry["shape"])


class Engine:
    """One context with the threads that are given; its decode function and its logits."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        import llama_cpp

        self._lib = llama_cpp
        self._log: list[bytes] = []
        self._keep = llama_cpp.llama_log_callback(lambda _, text, __: self._log.append(text))
        llama_cpp.llama_log_set(self._keep, None)
        self._own: Any = None
        self.versions = {"llama-cpp-python": version("llama-cpp-python")}
        self.settings = {"build": llama_cpp.llama_print_system_info().decode()}
        if setting.is_own:
            self._own = llama_cpp.Llama(str(folder / FILE), verbose=False)
            self._model = self._own.model
        else:
            self._open(folder / FILE, setting)

    def _open(self, file: Path, setting: "Setting") -> None:
        lib = self._lib
        kind = TYPES[setting.dtype]
        given = {"n_ctx": setting.max_length, "type_k": kind, "type_v": kind}
        given |= {"n_threads": setting.threads, "n_threads_batch": setting.threads}
        self.settings |= {name: str(value) for name, value in given.items()}
        lib.llama_backend_init()
        self._model = lib.llama_model_load_from_file(
            str(file).encode(), lib.llama_model_default_params()
        )
        context = lib.llama_context_default_params()
        for name, value in given.items():
            setattr(context, name, value)
        self._context = self._model and lib.llama_init_from_model(self._model, context)
        if not self._context:
            raise RuntimeError("".join(line.decode() for line in self._log[-3:]))
        self._memory = lib.llama_get_memory(self._context)
        self._vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """The whole prompt, then a token a call; there is no vocabulary, so nothing ends it."""
        if self._own is not None:
            self._own.reset()  # else it finds the prompt in its cache
            for token in islice(self._own.generate(prompt, temp=0.0), count):
                on_token(token)
            return
        lib = self._lib
        lib.llama_memory_clear(self._memory, False)
        ids, one = (lib.llama_token * len(prompt))(*prompt), (lib.llama_token * 1)()
        for _ in range(count):
            failed = lib.llama_decode(self._context, lib.llama_batch_get_one(ids, len(ids)))
            if failed:
                message = f"llama_decode gives {failed}"
                raise RuntimeError(message)
            logits = lib.llama_get_logits(self._context)  # of the last position alone
            ids = one
            ids[0] = np.ctypeslib.as_array(logits, shape=(self._vocabulary,)).argmax()
            on_token(ids[0])

    def dtypes(self) -> dict[str, str]:
        """Of most weights, by the loaded model; of the caches, by what it says of making them."""
        lib = self._lib
        names = {
            lib.LLAMA_FTYPE_ALL_F32: "f32",
            lib.LLAMA_FTYPE_MOSTLY_F16: "f16",
            lib.LLAMA_FTYPE_MOSTLY_BF16: "bf16",
        }
        kind = lib.llama_model_ftype(self._model) & ~lib.LLAMA_FTYPE_GUESSED
        log = b"".join(self._log).decode()
        caches = set(re.findall(r"[KV] \((\w+)\):", log)) or {"not told"}
        return {"weights": names.get(kind, str(kind)), "kv": "+".join(sorted(caches))}
