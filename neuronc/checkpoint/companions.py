"""The files that an artifact needs besides weights: config, tokenizer, chat template."""

import json
import tempfile
from pathlib import Path
from typing import Any

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.config_only import ConfigOnly
from neuronc.checkpoint.paths import reading, writing
from neuronc.checkpoint.source import is_gguf
from neuronc.errors import InputError


def write_companions(checkpoint: Checkpoint | ConfigOnly, out_dir: Path) -> tuple[str, ...]:
    """Write config.json, tokenizer, generation config and chat template into ``out_dir``.

    A folder's files are copied; for GGUF transformers builds the tokenizer from the file's metadata.
    No weights and no code. The same checkpoint always gives the same bytes.

    Returns:
        The names of the files written, sorted.

    Raises:
        InputError: A file cannot be read, or the GGUF file has no usable tokenizer.
        PlanError: The disk is full.
        UsageError: ``out_dir`` cannot be written.
    """
    config = json.dumps(checkpoint.config, indent=2, ensure_ascii=False) + "\n"
    with writing(out_dir / "config.json", needed_bytes=len(config)):
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "config.json").write_text(config, encoding="utf-8")
    if is_gguf(checkpoint.path):
        names = _write_gguf_tokenizer(checkpoint.path, out_dir)
    else:
        names = [_copy(path, out_dir) for path in checkpoint.companions]
    return tuple(sorted(["config.json", *names]))


def _copy(path: Path, out_dir: Path) -> str:
    with reading(path):
        data = path.read_bytes()
    with writing(out_dir / path.name, needed_bytes=len(data)):
        (out_dir / path.name).write_bytes(data)
    return path.name


def _write_gguf_tokenizer(path: Path, out_dir: Path) -> list[str]:
    tokenizer = _gguf_tokenizer(path)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return [_copy(file, out_dir) for file in sorted(Path(folder).iterdir())]


def _gguf_tokenizer(path: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:  # AutoTokenizer ends in the same class here, but parses all of the metadata first
        return PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # transformers fails in many ways on metadata it does not expect
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        message = f"transformers cannot build a tokenizer from {path}: {reason}"
        raise InputError(message, hint="use a safetensors checkpoint of the model") from error
