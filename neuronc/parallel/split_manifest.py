"""``split.json``: what a split folder holds, enough to check it and to put the model together.

A split folder is flat: ``split.json``, one ``rank-N.safetensors`` per rank, and the model's
config and tokenizer files. Folders in other layouts (`neuronc.parallel.layouts.names`) have a
``split.json`` too, and it names the layout.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.paths import check_listed_paths, contained_file, read_json_object, writing
from neuronc.dtypes import DTYPES
from neuronc.errors import InputError
from neuronc.parallel.cost import PaddingCost
from neuronc.parallel.layouts.names import LAYOUTS, Layout, rank_path, weight_paths
from neuronc.parallel.quantize import SCHEMES
from neuronc.parallel.rules import ParamRule, Piece, is_layout
from neuronc.parallel.stored import StoredTensor, scale_name, stored_tensors

SPLIT_FORMAT = 1
SPLIT_FILE = "split.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDigest:
    """One file of a folder: plain relative path, size, hex sha256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitTensor:
    """One parameter: its layout and the sha256 of the whole tensor's bytes as they are stored.

    A weight is quantised where its rule has a ``channel_dim``; ``scale_sha256`` is then of its
    scales ``[channels]`` f32, which the rank files hold as ``NAME_scale``.
    """

    rule: ParamRule
    sha256: str
    scale_sha256: str | None = None


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
        quantize: How weights are quantised, a key of `neuronc.parallel.quantize.SCHEMES`.
    """

    source: str
    tp: int
    dtype: str
    tensors: Mapping[str, SplitTensor]
    files: tuple[FileDigest, ...]
    padding: PaddingCost
    layout: Layout = "neuronc"
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


def rank_file(rank: int) -> str:
    """Name of one rank's weight file in layout ``neuronc``."""
    return rank_path(rank, "neuronc")


def write_split_manifest(manifest: SplitManifest, folder: Path) -> None:
    """Write ``split.json`` into ``folder``; the same manifest gives the same bytes.

    Raises:
        PlanError: the disk is full.
        UsageError: ``folder`` cannot be written.
    """
    data = {
        "split_format": SPLIT_FORMAT,
        "layout": manifest.layout,
        "source": manifest.source,
        "tp": manifest.tp,
        "dtype": manifest.dtype,
        **({} if manifest.quantize is None else {"quantize": manifest.quantize}),
        "padding": asdict(manifest.padding),
        "files": [asdict(file) for file in manifest.files],
        "tensors": {
            name: {**_rule_to_dict(t.rule), "sha256": t.sha256, **_scale_to_dict(t)}
            for name, t in manifest.tensors.items()
        },
    }
    text = json.dumps(data, indent=1) + "\n"
    with writing(folder / SPLIT_FILE, needed_bytes=len(text)):
        (folder / SPLIT_FILE).write_text(text, encoding="utf-8")


def read_layout(folder: Path) -> str | None:
    """What ``split.json`` says of its layout; None where there is no such file.

    Raises:
        InputError: it is no JSON object, or a link out of ``folder``.
    """
    path = contained_file(folder, SPLIT_FILE)
    return str(read_json_object(path).get("layout", "neuronc")) if path.is_file() else None


def read_split_manifest(folder: Path, *, layout: Layout = "neuronc") -> SplitManifest:
    """Read ``folder``'s ``split.json``.

    Raises:
        InputError: not a split folder, in another layout, damaged, or of a newer format.
    """
    path = contained_file(folder, SPLIT_FILE)
    if not path.is_file():
        message = f"{folder} is not a split folder: it has no {SPLIT_FILE}"
        raise InputError(message, hint="make one with neuronc split")
    data = read_json_object(path)
    if (found := data.get("split_format")) != SPLIT_FORMAT:
        message = f"{path} has format {found!r}; this neuronc reads {SPLIT_FORMAT}"
        raise InputError(message, hint="run neuronc split again with this version")
    try:
        manifest = _manifest_from_dict(data)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from error
    if manifest.layout != layout:
        message = f"{folder} is split in layout {manifest.layout}; expected {layout}"
        raise InputError(message, hint="pass it as a checkpoint, or split the checkpoint again")
    listed = {file.path for file in manifest.files}
    for name in weight_paths(manifest.tp, layout):
        if name not in listed:
            raise _damaged(path, f"tp={manifest.tp}, but it does not list {name}")
    for name, tensor in manifest.tensors.items():
        if not is_layout(tensor.rule, manifest.tp):
            raise _damaged(path, f"tensor {name!r} is laid out as {str(tensor.rule)[:200]}")
    _check_quantized(path, manifest)
    return manifest


def _check_quantized(path: Path, manifest: SplitManifest) -> None:
    """Scheme, channel dims and scales go together, and no scale has a parameter's name."""
    scheme = manifest.quantize
    is_known = isinstance(scheme, str) and scheme in SCHEMES and manifest.layout == "neuronc"
    if scheme is not None and not is_known:
        raise _damaged(path, f"{manifest.layout} weights cannot be quantised as {str(scheme)[:80]}")
    found = {n: t for n, t in manifest.tensors.items() if t.rule.channel_dim is not None}
    if bool(found) != (scheme is not None):
        raise _damaged(path, f"quantize is {scheme}, and {len(found)} weights are quantised")
    for name, tensor in manifest.tensors.items():
        if isinstance(tensor.scale_sha256, str) != (name in found):
            raise _damaged(path, f"tensor {name!r} has scales {tensor.scale_sha256!r}")
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


def _manifest_from_dict(data: Mapping[str, Any]) -> SplitManifest:
    padding = PaddingCost(**data["padding"])
    for number in (data["tp"], padding.model_params, *(f["size_bytes"] for f in data["files"])):
        if type(number) is not int or number < 0:
            message = f"{number!r} is not a count"
            raise ValueError(message)
    is_number = isinstance(padding.flops_ratio, float | int)
    if not (is_number and data["tensors"] and data["tp"] and padding.model_params):
        message = "no tensors, ranks or parameters, or a padding that is no number"
        raise ValueError(message)
    check_listed_paths([str(file["path"]) for file in data["files"]])
    layout = data.get("layout", "neuronc")
    if layout not in LAYOUTS:
        message = f"{layout!r} is no layout"
        raise ValueError(message)
    return SplitManifest(
        layout=layout,
        source=str(data["source"]),
        tp=data["tp"],
        dtype=DTYPES[data["dtype"]].name,
        quantize=data.get("quantize"),
        padding=padding,
        files=tuple(
            FileDigest(path=str(f["path"]), size_bytes=f["size_bytes"], sha256=f["sha256"])
            for f in data["files"]
        ),
        tensors={n: _tensor_from_dict(n, t) for n, t in data["tensors"].items()},
    )


def _rule_to_dict(rule: ParamRule) -> dict[str, Any]:
    ranks = [[[p.start, p.length] for p in pieces] for pieces in rule.ranks]
    return {"role": rule.role, "shape": list(rule.shape), "dim": rule.dim, "ranks": ranks}


def _scale_to_dict(tensor: SplitTensor) -> dict[str, Any]:
    if tensor.rule.channel_dim is None:
        return {}
    return {"channel_dim": tensor.rule.channel_dim, "scale_sha256": tensor.scale_sha256}


def _tensor_from_dict(name: str, data: Mapping[str, Any]) -> SplitTensor:
    ranks = tuple(
        tuple(Piece(start=start, length=length) for start, length in pieces)
        for pieces in data["ranks"]
    )
    rule = ParamRule(
        name=name,
        role=data["role"],
        shape=tuple(data["shape"]),
        dim=data["dim"],
        ranks=ranks,
        channel_dim=data.get("channel_dim"),
    )
    return SplitTensor(rule=rule, sha256=data["sha256"], scale_sha256=data.get("scale_sha256"))
