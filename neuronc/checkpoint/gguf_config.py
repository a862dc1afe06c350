"""The model config that transformers makes of a GGUF file's metadata, without its slow parts."""

import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuronc.checkpoint.gguf_header import GgufHeader, broken
from neuronc.checkpoint.paths import open_file
from neuronc.checkpoint.tensor_info import nearest
from neuronc.errors import InputError

_VOCABULARY = "tokenizer.ggml."
_TOKENS = "tokenizer.ggml.tokens"
_UINT8, _ARRAY = 0, 9


def check_architecture(path: Path, header: GgufHeader) -> None:
    """Raise `InputError`, naming the nearest one, for an architecture transformers cannot read.

    A number of blocks that the file cannot hold is refused too: a model would be built of them.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    architecture = header.architecture
    known = [name for name in GGUF_SUPPORTED_ARCHITECTURES if name not in ("general", "tokenizer")]
    # transformers spells some names with _ that GGUF spells with - or with nothing
    if re.sub("[-_]", "", architecture) not in {name.replace("_", "") for name in known}:
        message = f"{path} has unknown architecture {architecture!r}{nearest(architecture, known)}"
        raise InputError(message, hint=f"transformers reads from GGUF: {', '.join(known)}")
    blocks = header.pairs.get(f"{architecture}.block_count")
    if blocks is None or not isinstance(blocks.value, int) or blocks.value > len(header.tensors):
        found = blocks.value if blocks else None
        raise broken(path, f"has block_count {found}, but only {len(header.tensors)} tensors")


def read_gguf_config(path: Path, header: GgufHeader) -> Any:
    """Transformers' config object for a GGUF file.

    transformers parses every token and merge into objects before it looks at the model, 5 s for
    49152 tokens. It is given a copy of the header without them instead; only their number counts.
    """
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "header.gguf").write_bytes(_light_header(path, header))
        return AutoConfig.from_pretrained(folder, gguf_file="header.gguf", local_files_only=True)


def _light_header(path: Path, header: GgufHeader) -> bytes:
    """A GGUF file of all pairs but the vocabulary's arrays, and of empty tensors."""
    pairs = list(_light_pairs(path, header))
    records = [_text(tensor.name) + struct.pack("<IQIQ", 1, 0, 0, 0) for tensor in header.tensors]
    counts = struct.pack("<4sIQQ", b"GGUF", 3, len(records), len(pairs))
    return b"".join((counts, *pairs, *records))


def _light_pairs(path: Path, header: GgufHeader) -> Iterator[bytes]:
    with open_file(path) as file:
        for key, pair in header.pairs.items():
            if key == _TOKENS and pair.is_array and not _says_vocab_size(header):
                array = struct.pack("<IIQ", _ARRAY, _UINT8, pair.value)
                yield _text(key) + array + bytes(pair.value)
            elif not (pair.is_array and key.startswith(_VOCABULARY)):
                file.seek(pair.start)
                yield file.read(pair.end - pair.start)


def _says_vocab_size(header: GgufHeader) -> bool:
    """Whether transformers takes the vocabulary's size from a pair of its own."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    known = GGUF_CONFIG_MAPPING.get(header.architecture, {})
    return "vocab_size" in known and f"{header.architecture}.vocab_size" in header.pairs


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
