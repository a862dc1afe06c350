"""`SplitManifest` in JSON terms, and back with every field checked."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite, prod
from pathlib import PurePath
from typing import Any

from neuronc.checkpoint.digest import FileDigest
from neuronc.checkpoint.paths import check_listed_paths, shown
from neuronc.checkpoint.tensor_info import MergedAdapter, TensorInfo
from neuronc.dtypes import DTYPES
from neuronc.parallel.cost import PaddingCost
from neuronc.parallel.layouts.names import LAYOUTS
from neuronc.parallel.linked_slices import LinkedFile, LinkedWeights, Slice
from neuronc.parallel.rules import ParamRule, Piece, is_layout
from neuronc.parallel.split_manifest import SplitManifest, SplitTensor

_MAX_RANKS = 4096
_MAX_DIMS = 32
_MAX_COUNT = 2**63 - 1


def manifest_to_dict(manifest: SplitManifest) -> dict[str, Any]:
    """The JSON form; origins that are what the tensor is, and empty fields, are left out."""
    return {
        "layout": manifest.layout,
        "source": manifest.source,
        **({} if manifest.adapter is None else {"adapter": asdict(manifest.adapter)}),
        "tp": manifest.tp,
        "dtype": manifest.dtype,
        **({} if manifest.quantize is None else {"quantize": manifest.quantize}),
        "padding": asdict(manifest.padding),
        **({"left_out": list(manifest.left_out)} if manifest.left_out else {}),
        "files": [asdict(file) for file in manifest.files],
        "tensors": {
            name: {**_rule_to_dict(t.rule), "xxh3_128": t.digest, **_scale_to_dict(t)}
            | _origins(name, t, manifest)
            for name, t in manifest.tensors.items()
        },
        **({"linked": _linked_to_dict(manifest.linked)} if manifest.linked else {}),
    }


def manifest_from_dict(data: Mapping[str, Any]) -> SplitManifest:
    """The manifest.

    Raises:
        ValueError: a field is not what it must be; also KeyError, TypeError, AttributeError.
    """
    padding = PaddingCost(**data["padding"])
    counts = [value for name, value in asdict(padding).items() if name != "flops_ratio"]
    _require_counts([data["tp"], *counts, *(f["size_bytes"] for f in data["files"])])
    is_number = type(padding.flops_ratio) in (int, float) and isfinite(padding.flops_ratio)
    if not (is_number and data["tensors"] and data["tp"] and padding.model_params):
        message = "no tensors, ranks or parameters, or a padding that is no number"
        raise ValueError(message)
    if data["tp"] > _MAX_RANKS:
        message = f"{data['tp']} ranks; no machine has more than {_MAX_RANKS}"
        raise ValueError(message)
    check_listed_paths([str(file["path"]) for file in data["files"]])
    layout = data.get("layout", "neuronc")
    if layout not in LAYOUTS:
        message = f"{layout!r} is no layout"
        raise ValueError(message)
    dtype = DTYPES[data["dtype"]].name
    manifest = SplitManifest(
        layout=layout,
        source=str(data["source"]),
        quantize=data.get("quantize"),
        adapter=_adapter_from_dict(data.get("adapter")),
        tp=data["tp"],
        dtype=dtype,
        padding=padding,
        left_out=tuple(str(name) for name in data.get("left_out", ())),
        files=tuple(
            FileDigest(path=str(f["path"]), size_bytes=f["size_bytes"], sha256=f["sha256"])
            for f in data["files"]
        ),
        tensors={n: _tensor_from_dict(n, t, dtype) for n, t in data["tensors"].items()},
    )
    if "linked" not in data:
        return manifest
    linked = _linked_from_dict(data["linked"])
    _check_linked_slices(manifest, linked)
    return replace(manifest, linked=linked)


def _adapter_from_dict(data: Mapping[str, Any] | None) -> MergedAdapter | None:
    if data is None:
        return None
    if not all(isinstance(value, str) for value in data.values()):
        message = f"adapter {shown(data)} is not text"
        raise ValueError(message)
    return MergedAdapter(**data)


def _require_counts(numbers: list[Any]) -> None:
    for number in numbers:
        if type(number) is not int or not 0 <= number <= _MAX_COUNT:
            message = f"{shown(number)} is not a count"
            raise ValueError(message)


def _shape(sizes: Any) -> tuple[int, ...]:
    """A shape whose tensor can be addressed: what is read from it may be multiplied."""
    shape = tuple(sizes)
    is_whole = all(type(size) is int for size in shape)  # a text times a number is a long text
    if (
        not is_whole
        or len(shape) > _MAX_DIMS
        or prod(abs(size) or 1 for size in shape) * 8 > _MAX_COUNT
    ):
        message = f"shape {shown(list(shape))} is no tensor's"
        raise ValueError(message)
    return shape


def _rule_to_dict(rule: ParamRule) -> dict[str, Any]:
    ranks = [[[p.start, p.length] for p in pieces] for pieces in rule.ranks]
    return {"role": rule.role, "shape": list(rule.shape), "dim": rule.dim, "ranks": ranks}


def _scale_to_dict(tensor: SplitTensor) -> dict[str, Any]:
    if tensor.rule.channel_dim is None:
        return {}
    return {"channel_dim": tensor.rule.channel_dim, "scale_xxh3_128": tensor.scale_digest}


def _origins(name: str, tensor: SplitTensor, manifest: SplitManifest) -> dict[str, Any]:
    plain = TensorInfo(name=name, shape=tensor.rule.shape, dtype=DTYPES[manifest.dtype])
    if tensor.origins == (plain,):
        return {}
    return {"origins": [[o.name, o.dtype.name, list(o.shape)] for o in tensor.origins]}


def _tensor_from_dict(name: str, data: Mapping[str, Any], dtype: str) -> SplitTensor:
    ranks = tuple(
        tuple(Piece(start=start, length=length) for start, length in pieces)
        for pieces in data["ranks"]
    )
    rule = ParamRule(
        name=name,
        role=data["role"],
        shape=_shape(data["shape"]),
        dim=data["dim"],
        ranks=ranks,
        channel_dim=data.get("channel_dim"),
    )
    digests: dict[str, Any] = {
        "digest": str(data["xxh3_128"]),
        "scale_digest": data.get("scale_xxh3_128"),
    }
    if "origins" not in data:
        plain = TensorInfo(name=name, dtype=DTYPES[dtype], shape=rule.shape)
        return SplitTensor(rule=rule, origins=(plain,), **digests)
    origins = tuple(
        TensorInfo(name=str(old), dtype=DTYPES[kind], shape=_shape(shape))
        for old, kind, shape in data["origins"]
    )
    _require_counts([size for origin in origins for size in origin.shape])
    elements = sum(prod(origin.shape) for origin in origins)
    is_itself = len(origins) == 1 and origins[0].shape == rule.shape
    if elements != prod(rule.shape) or not (is_itself or _are_stacked(origins, rule)):
        message = f"{name!r} {list(rule.shape)} is not made of {elements} elements"
        raise ValueError(message)
    return SplitTensor(rule=rule, origins=origins, **digests)


def _are_stacked(origins: tuple[TensorInfo, ...], rule: ParamRule) -> bool:
    """Whether each is a matrix whose rows are as long as the parameter's."""
    width = rule.shape[-1] if len(rule.shape) > 2 else 0
    return width > 0 and all(len(o.shape) == 2 and o.shape[1] == width for o in origins)


def _linked_to_dict(linked: LinkedWeights) -> dict[str, Any]:
    return {
        "files": [asdict(file) for file in linked.files],
        "slices": {
            name: [
                [[s.file, s.offset, list(s.shape), list(s.strides), list(s.at)] for s in of_rank]
                for of_rank in ranks
            ]
            for name, ranks in linked.slices.items()
        },
    }


def _linked_from_dict(data: Mapping[str, Any]) -> LinkedWeights:
    files = tuple(LinkedFile(**file) for file in data["files"])
    for path in [file.path for file in files]:
        if not isinstance(path, str) or "\0" in path or not PurePath(path).is_absolute():
            message = f"{shown(path)} is no absolute path"
            raise ValueError(message)
    _require_counts([number for file in files for number in (file.size_bytes, file.mtime_ns)])
    slices = {
        str(name): tuple(
            tuple(
                Slice(
                    file=file,
                    offset=offset,
                    shape=tuple(shape),
                    strides=tuple(strides),
                    at=tuple(at),
                )
                for file, offset, shape, strides, at in of_rank
            )
            for of_rank in ranks
        )
        for name, ranks in data["slices"].items()
    }
    return LinkedWeights(files=files, slices=slices)


def _check_linked_slices(manifest: SplitManifest, linked: LinkedWeights) -> None:
    """Every slice lies in its file and in its shard: a reader computes addresses from them."""
    if linked.slices.keys() != manifest.tensors.keys():
        message = "its slices are of other tensors"
        raise ValueError(message)
    item_bytes = DTYPES[manifest.dtype].size_bytes
    for name, ranks in linked.slices.items():
        rule = manifest.tensors[name].rule
        if not is_layout(rule, manifest.tp):
            message = f"{name!r} is laid out as {shown(rule)}"
            raise ValueError(message)
        if len(ranks) != (1 if rule.dim is None else manifest.tp):
            message = f"{name!r} has slices for {len(ranks)} ranks"
            raise ValueError(message)
        for piece in (piece for of_rank in ranks for piece in of_rank):
            if not _is_inside(piece, rule.rank_shape, linked, item_bytes):
                message = f"{name!r} has a slice {shown(piece)} outside its file or shard"
                raise ValueError(message)


def _is_inside(
    piece: Slice, shard: tuple[int, ...], linked: LinkedWeights, item_bytes: int
) -> bool:
    sizes = (piece.shape, piece.strides, piece.at)
    if any(len(of_dims) != len(shard) for of_dims in sizes):
        return False
    numbers = [piece.file, piece.offset, *(n for of_dims in sizes for n in of_dims)]
    if any(type(n) is not int or n < 0 for n in numbers) or piece.file >= len(linked.files):
        return False
    extents = zip(piece.shape, piece.strides, strict=True)
    end = piece.offset + item_bytes + sum((max(n, 1) - 1) * step for n, step in extents)
    fits = all(a + n <= size for a, n, size in zip(piece.at, piece.shape, shard, strict=True))
    return fits and end <= linked.files[piece.file].size_bytes
