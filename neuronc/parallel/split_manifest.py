"""``split.json``: what a split folder holds, enough to check it and to put the model together.

A split folder is flat: ``split.json``, the ``rank-N.safetensors`` of every rank (in numbered parts
where they would be too large), and the model's config and tokenizer files. A linked one has no
weights: ``split.json`` says where they lie in the checkpoint. Folders in other layouts
(`neuronc.parallel.layouts.names`) have a ``split.json`` too, and it names the layout.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.checkpoint.paths import contained_file, read_json_object, shown, writing
from neuronc.checkpoint.tensor_info import MergedAdapter, TensorInfo
from neuronc.errors import InputError
from neuronc.parallel.cost import PaddingCost
from neuronc.parallel.layouts.names import Layout, find_rank_paths
from neuronc.parallel.linked_slices import LinkedWeights
from neuronc.parallel.quantize import SCHEMES
from neuronc.parallel.rules import ParamRule, is_layout
from neuronc.parallel.stored import StoredTensor, scale_name, stored_tensors

SPLIT_FORMAT = 2
SPLIT_FILE = "split.json"
MAX_SPLIT_BYTES = 2_000_000_000
"""A linked split of thousands of experts over many ranks has hundreds of megabytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitTensor:
    """One parameter.

    Attributes:
        rule: Its layout; a weight is quantised where the rule has a ``channel_dim``.
        digest: Of the whole tensor's bytes as they are stored, as
            `neuronc.checkpoint.digest.new_tensor_digest` takes it; empty in a linked split, which
            does not read them.
        origins: The checkpoint's tensors whose rows, one after the other, are the parameter's.
        scale_digest: The same of a quantised weight's scales ``[channels]`` f32, which the rank
            files hold as ``NAME_scale``.
    """

    rule: ParamRule
    digest: str
    origins: tuple[TensorInfo, ...]
    scale_digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitManifest:
    """Contents of ``split.json``.

    Attributes:
        source: The checkpoint as the user named it; for a local path its last part only, so that
            the same split on another machine has the same digest.
        tp: Number of ranks.
        dtype: Element type of all tensors that are not quantised.
        tensors: By parameter name, in file order.
        files: Every file of the folder but ``split.json``.
        padding: What padding and replication cost.
        layout: How the weight files are laid out.
        left_out: Tensors of the checkpoint that are no parameters of the model.
        linked: Where the weights lie in the checkpoint; None where the folder holds them.
        adapter: The LoRA adapter that was merged into the source's tensors.
        quantize: How weights are quantised, a key of `neuronc.parallel.quantize.SCHEMES`.
    """

    source: str
    tp: int
    dtype: str
    tensors: Mapping[str, SplitTensor]
    files: tuple[FileDigest, ...]
    padding: PaddingCost
    layout: Layout = "neuronc"
    left_out: tuple[str, ...] = ()
    linked: LinkedWeights | None = None
    adapter: MergedAdapter | None = None
    quantize: str | None = None

    @property
    def stored(self) -> list[StoredTensor]:
        """What every rank file holds."""
        rules = [tensor.rule for tensor in self.tensors.values()]
        return stored_tensors(rules, dtype=self.dtype, scheme=self.quantize)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every whole parameter."""
        return {name: tensor.rule.shape for name, tensor in self.tensors.items()}

    def rank_files(self, rank: int) -> tuple[str, ...]:
        """Paths of one rank's weight files, in order; none in a linked or unsharded split."""
        return find_rank_paths((file.path for file in self.files), rank, self.layout)


def write_split_manifest(manifest: SplitManifest, folder: Path) -> None:
    """Write ``split.json`` into ``folder``; the same manifest gives the same bytes.

    Raises:
        PlanError: the disk is full.
        UsageError: ``folder`` cannot be written.
    """
    from neuronc.parallel.split_json import manifest_to_dict

    text = json.dumps({"split_format": SPLIT_FORMAT, **manifest_to_dict(manifest)}, indent=1)
    with writing(folder / SPLIT_FILE, needed_bytes=len(text)):
        (folder / SPLIT_FILE).write_text(f"{text}\n", encoding="utf-8")


def read_layout(folder: Path) -> str | None:
    """What ``split.json`` says of its layout; None where there is no such file.

    Raises:
        InputError: it is no JSON object, or a link out of ``folder``.
    """
    path = contained_file(folder, SPLIT_FILE)
    return _layout_in(path) if path.is_file() else None


def _layout_in(path: Path) -> str:
    data = read_json_object(path, max_bytes=MAX_SPLIT_BYTES)
    return str(data.get("layout", "neuronc"))


def read_split_manifest(folder: Path, *, layout: Layout = "neuronc") -> SplitManifest:
    """Read ``folder``'s ``split.json``.

    Raises:
        InputError: not a split folder, in another layout, damaged, or of a newer format.
    """
    from neuronc.parallel.split_json import manifest_from_dict

    path = contained_file(folder, SPLIT_FILE)
    if not path.is_file():
        message = f"{folder} is not a split folder: it has no {SPLIT_FILE}"
        raise InputError(message, hint="make one with neuronc split")
    data = read_json_object(path, max_bytes=MAX_SPLIT_BYTES)
    if (found := data.get("split_format")) != SPLIT_FORMAT:
        message = f"{path} has format {shown(found)}; this neuronc reads {SPLIT_FORMAT}"
        raise InputError(message, hint="run neuronc split again with this version")
    try:
        manifest = manifest_from_dict(data)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from error
    if manifest.layout != layout:
        message = f"{folder} is split in layout {manifest.layout}; expected {layout}"
        raise InputError(message, hint="pass it as a checkpoint, or split the checkpoint again")
    _check_weights(path, manifest)
    return manifest


def _check_weights(path: Path, manifest: SplitManifest) -> None:
    has_files = manifest.layout != "transformers-neuronx" and manifest.linked is None
    for rank in range(manifest.tp) if has_files else ():
        if not manifest.rank_files(rank):
            raise _damaged(path, f"tp={manifest.tp}, but it does not list rank {rank}'s weights")
    for name, tensor in manifest.tensors.items():
        if not is_layout(tensor.rule, manifest.tp):
            raise _damaged(path, f"tensor {name!r} is laid out as {shown(tensor.rule)}")
    _check_quantized(path, manifest)


def _check_quantized(path: Path, manifest: SplitManifest) -> None:
    """Scheme, channel dims and scales go together, and no scale has a parameter's name."""
    scheme = manifest.quantize
    is_known = isinstance(scheme, str) and scheme in SCHEMES and manifest.layout == "neuronc"
    if scheme is not None and not is_known:
        raise _damaged(path, f"{manifest.layout} weights cannot be quantised as {shown(scheme)}")
    found = {n: t for n, t in manifest.tensors.items() if t.rule.channel_dim is not None}
    if bool(found) != (scheme is not None):
        raise _damaged(path, f"quantize is {scheme}, and {len(found)} weights are quantised")
    for name, tensor in manifest.tensors.items():
        if isinstance(tensor.scale_digest, str) != (name in found):
            raise _damaged(path, f"tensor {name!r} has scales {shown(tensor.scale_digest)}")
        if name in found and scale_name(name) in manifest.tensors:
            raise _damaged(path, f"{scale_name(name)!r} is a parameter and a scale")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path} is damaged: {what}", hint="run neuronc split again")


def check_files(folder: Path, files: tuple[FileDigest, ...]) -> None:
    """Compare every file with its recorded size and sha256, several at a time.

    Raises:
        InputError: a file is missing, has another size, or a changed byte; or its path leaves
            the folder.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the interpreter lock
        list(pool.map(lambda file: _check_file(folder, file), files))


def _check_file(folder: Path, file: FileDigest) -> None:
    path = folder / file.path.replace("\0", "?")  # no file has that byte in its name
    if not path.resolve().is_relative_to(folder.resolve()):
        message = f"{folder} lists {file.path!r}, which is outside the folder"
        raise InputError(message, hint="do not use this folder")
    if not path.is_file():
        message = f"{path} is missing"
        raise InputError(message, hint="copy the folder again, or make it again")
    if path.stat().st_size != file.size_bytes:
        message = f"{path}: expected {file.size_bytes} bytes, found {path.stat().st_size}"
        raise InputError(message, hint="copy the folder again, or make it again")
    found = sha256_file(path)
    if found != file.sha256:
        message = f"{path}: digest mismatch, expected sha256 {file.sha256}, found {found}"
        raise InputError(message, hint="the file changed after it was written; make it again")
