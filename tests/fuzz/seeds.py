"""Small valid files for the fuzzing of readers, and changes to them."""

import copy
import gzip
import hashlib
import io
import json
import struct
import tarfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 2**64, 10**400, 1.5, float("nan"),
    float("inf"), "", "a", "..", "/dev/zero", "\0", "\ud800", "x" * 300, [], {}, [[]], [0], [1, 2],
    ["a"], {"a": 1}, [None, 1], [[0, 1]], [2**62, 2**62], [0, 2**62, 2**62], "f32", "int8",
    "neuronc", "nxdi", "transformers-neuronx", "replicate", "row", "rank-0.safetensors",
)  # fmt: skip
"""What `edited` puts in the place of something else."""


def seeds_of(target: str) -> list[bytes]:
    """Small valid files to begin with."""
    seeds: dict[str, Callable[[], list[bytes]]] = {
        "safetensors": safetensors_seeds,
        "gguf": _gguf_seeds,
        "split_json": split_seeds,
        "neff": _neff_seeds,
        "torch": lambda: _torch_seeds(pickles=True),
        "torch_archive": lambda: _torch_seeds(pickles=False),
        "journal": journal_seeds,
    }
    return seeds[target]()


def safetensors_seeds() -> list[bytes]:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [8, 10]},
    }
    text = json.dumps(header).encode()
    return [struct.pack("<Q", len(text)) + text + bytes(10)]


def _gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _gguf_seeds() -> list[bytes]:
    pairs = [
        _gguf_text("general.architecture") + struct.pack("<I", 8) + _gguf_text("llama"),
        _gguf_text("general.alignment") + struct.pack("<II", 4, 8),
        _gguf_text("a") + struct.pack("<IIQ", 9, 8, 2) + _gguf_text("x") + _gguf_text("y"),
        _gguf_text("b") + struct.pack("<IIQIQ", 9, 9, 1, 5, 1) + bytes(4),
        _gguf_text("c") + struct.pack("<If", 6, 1.5),
    ]
    records = [_gguf_text("t") + struct.pack("<IQQIQ", 2, 2, 1, 0, 0)]
    counts = struct.pack("<4sIQQ", b"GGUF", 3, len(records), len(pairs))
    return [b"".join([counts, *pairs, *records]).ljust(400, b"\0")]


def _split_tensors(origins: bool) -> dict[str, Any]:
    cut = {"role": "column", "shape": [3, 2], "dim": 0, "ranks": [[[0, 2]], [[2, 1], [None, 1]]]}
    whole = {"role": "replicate", "shape": [2], "dim": None, "ranks": []}
    told = {"origins": [["x", "f32", [3, 2]]]} if origins else {}
    return {"a": {**cut, "xxh3_128": "0" * 32, **told}, "b": {**whole, "xxh3_128": "1" * 32}}


def split_seeds() -> list[bytes]:
    padding = {
        "extra_q_heads": 0,
        "extra_kv_heads": 0,
        "model_params": 8,
        "split_params": 12,
        "flops_ratio": 1.0,
    }
    file = {"size_bytes": 3, "sha256": "0" * 64}
    plain: dict[str, Any] = {
        "split_format": 2,
        "layout": "neuronc",
        "source": "x",
        "tp": 2,
        "dtype": "f32",
        "padding": padding,
        "files": [{"path": f"rank-{n}.safetensors", **file} for n in range(2)],
        "tensors": _split_tensors(origins=True),
    }
    slices = {
        "a": [[[0, 8, [2, 2], [8, 4], [0, 0]]], [[0, 24, [1, 2], [8, 4], [0, 0]]]],
        "b": [[[0, 32, [2], [4], [0]]]],
    }
    files = [{"path": "/x", "size_bytes": 100, "mtime_ns": 5}]
    linked = {**plain, "files": [], "linked": {"files": files, "slices": slices}}
    quantized: dict[str, Any] = {**plain, "quantize": "int8"}
    quantized["tensors"] = _split_tensors(origins=False)
    quantized["tensors"]["a"] |= {"channel_dim": 0, "scale_xxh3_128": "2" * 32}
    return [json.dumps(found).encode() for found in (plain, linked, quantized)]


def _neff_seeds() -> list[bytes]:
    seeds = []
    for form, pack in ((tarfile.GNU_FORMAT, bytes), (tarfile.PAX_FORMAT, gzip.compress)):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=form) as archive:
            for name in ("neff.json", "sg00/def.json", "long" * 40):
                member = tarfile.TarInfo(name)
                member.size = 2
                archive.addfile(member, io.BytesIO(b"{}"))
        seeds.append(bytes(1024) + pack(data.getvalue()))
    return seeds


def _torch_seeds(*, pickles: bool) -> list[bytes]:
    import zipfile

    import torch

    seeds = []
    for found in (
        {"a": torch.arange(4.0)},
        {"a": torch.nn.Parameter(torch.zeros(2, 2)), "b": torch.zeros(4)[1:3]},
        torch.zeros(2, dtype=torch.bfloat16),
        {"a": torch.eye(2).to_sparse(), "b": {"c": [1, 2.0, None, (3, "x")]}},
        {"a": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8)},
    ):
        whole = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(found, whole)
        if not pickles:
            seeds.append(whole.getvalue())
            continue
        with zipfile.ZipFile(whole) as archive:
            seeds.append(archive.read("archive/data.pkl"))
    return seeds


def journal_seeds() -> list[bytes]:
    file = {"path": "rank-0.safetensors", "size_bytes": 3}
    lines = [
        {"journal_format": 1, "request": {}},
        {
            "num_tensors": 1,
            "digests": {"a": "0"},
            "files": [{**file, "sha256": hashlib.sha256(b"abc").hexdigest()}],
        },
    ]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def edited(data: bytes, seeds: list[bytes], *, after: int = 0) -> bytes:
    """``data`` itself where it holds an object, else a seed with the changes that it stands for.

    Mutated bytes are seldom JSON. So four of them are one change to a seed: where, and what to.
    """
    if b"{" in data or not data:
        return data
    seed = seeds[data[0] % len(seeds)]
    begin, *lines = seed[after:].split(b"\n")
    tree, size = json.JSONDecoder().raw_decode(begin.decode())
    for at in range(1, len(data) - 3, 4):
        places = list(_places(tree))
        place, key = places[int.from_bytes(data[at : at + 2], "big") % len(places)]
        value = copy.deepcopy(_VALUES[data[at + 2] % len(_VALUES)])
        if data[at + 3] % 8 == 0 and isinstance(place, dict):
            place[f"{key}{data[at + 3]}"] = value
        elif data[at + 3] % 8 == 1:
            del place[key]
            if not tree:
                break
        else:
            place[key] = value
    text = json.dumps(tree).encode() + begin[size:]
    return seed[:after] + b"\n".join([text, *lines])


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


_ARCHIVE: list[tuple[str, bytes]] = []


def torch_archive(pickled: bytes) -> bytes:
    """An archive of ``torch.save`` with another pickle in it."""
    import zipfile

    import torch

    if not _ARCHIVE:
        whole = io.BytesIO()
        torch.save({"a": torch.arange(4.0)}, whole)
        with zipfile.ZipFile(whole) as archive:
            _ARCHIVE.extend((name, archive.read(name)) for name in archive.namelist())
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in _ARCHIVE:
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)
    return target.getvalue()
