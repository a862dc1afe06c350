"""Writing the split checkpoint of transformers-neuronx; its form is told where it is read."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from neuronc.checkpoint.digest import FileDigest, digest_array, sha256_file
from neuronc.checkpoint.folder import TORCH
from neuronc.checkpoint.layouts.transformers_neuronx import MAP_FILE, parameter_files
from neuronc.checkpoint.paths import disk_full, free_bytes, writing
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import Dtype
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.split_journal import Done
from neuronc.progress import Progress

if TYPE_CHECKING:
    import torch

    from neuronc.parallel.split_journal import Journal

Array = np.ndarray[Any, Any]

_HEAD = "lm_head.weight"
_TABLE = re.compile(r"(?:.*\.)?(?:embed_tokens|wte)\.weight")


def state_dict_keys(names: Collection[str], *, is_tied: bool) -> dict[str, str]:
    """The parameter that each key of the model's state dict holds, in order.

    A tied LM head gets a key of its own, as in torch's state dict: transformers-neuronx does not
    tie, and has no LM head without it.
    """
    keys = {name: name for name in names}
    table = next((name for name in names if _TABLE.fullmatch(name)), None)
    if is_tied and table is not None and _HEAD not in keys:
        keys[_HEAD] = table
    return keys


def write_parameter_files(
    out_dir: Path,
    plan: ParallelPlan,
    keys: Mapping[str, str],
    read: Callable[[str], Array],
    element: Dtype,
    journal: "Journal | None",
    progress: Progress,
) -> tuple[dict[str, str], tuple[FileDigest, ...]]:
    """Write ``pytorch_model.bin/``, one tensor in memory at a time; imports torch.

    Args:
        out_dir: An existing folder.
        plan: For one rank; the shapes.
        keys: State-dict key to parameter name.
        read: Gives a parameter in the dtype ``element``.
        element: Element type of all files.
        journal: Told of every file; those it knows are not written again.
        progress: Told of every tensor.

    Returns:
        The digest of every tensor's values by parameter name, and the files written.

    Raises:
        PlanError: The disk is full.
        UsageError: ``out_dir`` cannot be written.
    """
    folder, names = out_dir / TORCH, parameter_files(keys)
    rules = plan.rules
    infos = [TensorInfo(name=n, shape=rules[n].shape, dtype=element) for n in keys.values()]
    done = journal.restore(progress, partial(_paths_after, names)) if journal else Done()
    needed_bytes = sum(info.size_bytes for info in infos[done.num_tensors :])
    if free_bytes(out_dir) < needed_bytes:
        raise disk_full(folder, needed_bytes=needed_bytes)
    files = list(done.files) or [_write_map(folder, names)]
    digests = dict(done.digests)
    with progress.stage("writing parameters", total=len(keys), unit="tensors") as stage:
        for number, (key, name) in enumerate(keys.items()):
            if number < done.num_tensors:
                stage.advance(note=key)
                continue
            array = read(name)
            digests[name] = digest_array(array)
            files.append(_write_tensor(folder / names[key], array, element))
            if journal:
                fresh = {name: digests[name]}
                journal.note(number + 1, fresh, files)
            stage.advance(note=key)
    return digests, tuple(files)


def _paths_after(names: Mapping[str, str], num_tensors: int) -> set[str] | None:
    """The files that are there when ``num_tensors`` tensors are."""
    if num_tensors > len(names):
        return None
    return {f"{TORCH}/{name}" for name in (MAP_FILE, *list(names.values())[:num_tensors])}


def _write_map(folder: Path, names: Mapping[str, str]) -> FileDigest:
    text = json.dumps(names, indent=2)
    path = folder / MAP_FILE
    with writing(path, needed_bytes=len(text)):
        folder.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return FileDigest(
        path=f"{TORCH}/{MAP_FILE}", size_bytes=path.stat().st_size, sha256=sha256_file(path)
    )


def _write_tensor(path: Path, array: Array, element: Dtype) -> FileDigest:
    import torch

    with writing(path, needed_bytes=array.nbytes), path.open("xb") as file:
        target = _HashedFile(file=file)
        try:
            torch.save(_to_torch(array, element), cast("IO[bytes]", target))
        except RuntimeError:  # all that torch makes of a failed write
            if target.failure is not None:
                raise target.failure from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return FileDigest(
        path=f"{TORCH}/{path.name}", size_bytes=target.size_bytes, sha256=target.digest.hexdigest()
    )


def _to_torch(array: Array, element: Dtype) -> "torch.Tensor":
    import torch

    raw = array.reshape(-1).view(np.uint8)
    # of a mapped file: torch wants memory that it may write to
    owned = raw if raw.flags.writeable else raw.copy()
    typed = torch.from_numpy(owned).view(getattr(torch, element.torch))
    return typed.reshape(array.shape)


@dataclass(kw_only=True, slots=True)
class _HashedFile:
    """What ``torch.save`` writes to: counts and digests the bytes, keeps the system's error."""

    file: IO[bytes]
    digest: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0
    failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()
