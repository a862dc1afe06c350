"""Stage 1: what is on disk. Opening a checkpoint reads headers, never weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuronc.checkpoint.folder import find_companions, open_weights, read_config
from neuronc.checkpoint.remote.mirror import mirror_of, named_by_url
from neuronc.checkpoint.remote.url import without_secrets
from neuronc.checkpoint.source import is_gguf, resolve_source
from neuronc.checkpoint.tensor_info import MergedAdapter, TensorInfo, TensorReader

__all__ = ["Checkpoint", "TensorInfo", "TensorReader", "open_checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model on disk.

    Attributes:
        source: What the user wrote; of a URL no user, password or query.
        path: The local folder, or the ``.gguf`` file; of a URL the folder with its small files.
        config: ``config.json``; for GGUF what transformers makes of the file's metadata.
        tensors: Name, shape and dtype of every tensor, in file order.
        companions: Tokenizer, generation and chat template files beside ``config.json``.
        reader: Reads one tensor at a time.
        origins: For tensors that have the model's names in place of their own: what they are made
            of, in the order of the rows; a tensor that is not there is its own origin.
        adapter: What `reader` merges into the tensors that it reads.
        adapter_folder: Where that lies.
    """

    source: str
    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    companions: tuple[Path, ...]
    reader: TensorReader
    origins: Mapping[str, tuple[TensorInfo, ...]] = field(default_factory=dict)
    adapter: MergedAdapter | None = None
    adapter_folder: Path | None = None


def open_checkpoint(source: str, *, revision: str | None = None) -> Checkpoint:
    """Open a folder, ``.gguf`` file, ``package:NAME/FILE``, URL or Hub id ``org/name[@revision]``.

    Only headers are read. A folder of safetensors needs neither torch, jax nor transformers; a
    Hub id downloads what is not in the cache yet; of a URL small files are copied, and weights that
    are not safetensors; nothing else touches the network.

    Raises:
        InputError: The checkpoint is missing or damaged.
        UsageError: ``revision`` is given for something that has none.
        ToolchainError: A library for the file format is not installed.
    """
    return open_at(resolve_source(source, revision=revision), source=source)


def open_at(path: Path, *, source: str) -> Checkpoint:
    """Open the folder or ``.gguf`` file ``path``, which ``source`` led to; errors as above."""
    with named_by_url(path):
        return _open_at(path, without_secrets(source))


def _open_at(path: Path, source: str) -> Checkpoint:
    reader: TensorReader
    companions: tuple[Path, ...] = ()
    if is_gguf(path):
        from neuronc.checkpoint.gguf import open_gguf

        config, tensors, reader = open_gguf(path)
    else:
        config = read_config(path)
        tensors, reader = _open_weights(path)
        companions = find_companions(path)
    return Checkpoint(
        source=source,
        path=path,
        config=config,
        tensors=tensors,
        companions=companions,
        reader=reader,
    )


def _open_weights(path: Path) -> tuple[dict[str, TensorInfo], TensorReader]:
    mirror = mirror_of(path)
    if mirror is None or not mirror.safetensors:
        return open_weights(path)
    from neuronc.checkpoint.remote.reader import open_remote_weights

    return open_remote_weights(mirror)
