"""``manifest.json``: everything a reader on another machine needs to know about an artifact.

An artifact is a folder: ``manifest.json``; ``weights/``, which is a split folder with the model's
config and tokenizer; ``programs/NAME/`` with StableHLO, HLO and executable of each program.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from neuronc.artifact.manifest_check import check_manifest
from neuronc.checkpoint.digest import FileDigest
from neuronc.errors import InputError
from neuronc.lower.program_files import COMPILER_LOG, COMPILER_RECORD
from neuronc.parallel.split_manifest import SPLIT_FILE
from neuronc.trace.program_spec import (
    MergedWeights,
    Phase,
    ProgramSignature,
    signature_from_dict,
    signature_to_dict,
)

FORMAT = 1
MIN_READABLE_FORMAT = 1
MANIFEST_FILE = "manifest.json"
WEIGHTS_DIR = "weights"
PROGRAMS_DIR = "programs"
_DIARY = (COMPILER_RECORD, COMPILER_LOG)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramEntry:
    """One compiled program: files are ``programs/NAME/...``.

    Attributes:
        signature: Of the program's StableHLO and HLO.
        merged_weights: Weights that the executable takes as one input.
    """

    name: str
    phase: Phase
    bucket: int
    signature: ProgramSignature
    merged_weights: MergedWeights = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Contents of ``manifest.json``.

    Attributes:
        model: model_type, checkpoint source and sha256 of config.json.
        tp: Number of ranks.
        batch_size: Slots.
        max_length: Cache positions per slot.
        dtype: Element type of weights and arithmetic.
        quantize: How the weights of linear layers are quantised, a key of
            `neuronc.parallel.quantize.SCHEMES`; None where none is.
        target: What the programs were compiled for.
        programs: Prefill first, small buckets first; or embed alone.
        tool_versions: Versions of what made the programs.
        host: What the executables need of the machine that opens them.
        neuron: For a Neuron target: logical core size, compiler version and flags (None before the
            compile), and what has been proven on hardware.
        files: Digest of every file but the manifest.
        request: What was asked for, to tell whether another build would give the same.
        verification: What verification found, or None for an unverified artifact.
    """

    model: Mapping[str, str]
    tp: int
    batch_size: int
    max_length: int
    dtype: str
    target: str
    programs: tuple[ProgramEntry, ...]
    tool_versions: Mapping[str, str | None]
    host: Mapping[str, Any]
    files: tuple[FileDigest, ...]
    quantize: str | None = None
    neuron: Mapping[str, Any] | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    verification: Mapping[str, Any] | None = None

    @property
    def prefill_buckets(self) -> tuple[int, ...]:
        """Chunk lengths there is a prefill program for, ascending."""
        return tuple(p.bucket for p in self.programs if p.phase == "prefill")

    @property
    def decode_buckets(self) -> tuple[int, ...]:
        """Cache lengths there is a decode program for, ascending."""
        return tuple(p.bucket for p in self.programs if p.phase == "decode")

    @property
    def embed_buckets(self) -> tuple[int, ...]:
        """Text lengths there is an embed program for, ascending."""
        return tuple(p.bucket for p in self.programs if p.phase == "embed")

    @property
    def embeds(self) -> bool:
        """Whether the programs embed texts; they generate text otherwise."""
        return bool(self.embed_buckets)

    @property
    def on_device_sampling(self) -> bool:
        """Whether the programs give the most likely tokens as well."""
        return all(p.signature.tokens_at is not None for p in self.programs)

    @property
    def num_top_k_calls(self) -> int:
        """How often neuronx-cc gets its own custom call for top-k, which nothing else runs."""
        return sum((self.neuron or {}).get("top_k_calls", {}).values())

    @property
    def lnc(self) -> int:
        """Logical core size of a Neuron target's programs."""
        return int((self.neuron or {}).get("lnc", 1))

    @property
    def has_weights(self) -> bool:
        """Whether the artifact has weights, or links to them; not so lowered from a config alone."""
        return any(file.path == f"{WEIGHTS_DIR}/{SPLIT_FILE}" for file in self.files)

    @property
    def is_bundle(self) -> bool:
        """Whether the programs are lowered for a Neuron target and still to be compiled."""
        return self.neuron is not None and self.neuron.get("compiler") is None

    @property
    def digest(self) -> str:
        """sha256 of what the artifact is; who asked, how a compile went and verification are not."""
        files = tuple(f for f in self.files if not is_diary(f.path))
        neuron = None if self.neuron is None else {**self.neuron, "hardware": None}
        bare = replace(self, verification=None, request={}, files=files, neuron=neuron)
        text = json.dumps(to_dict(bare), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def is_diary(path: str) -> bool:
    """Whether a file of an artifact tells how a compile went, and is no part of the result."""
    return Path(path).name in _DIARY


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json``; a reader never sees half of it."""
    text = json.dumps(to_dict(manifest), indent=1) + "\n"
    part = folder / f"{MANIFEST_FILE}.part"
    part.write_text(text, encoding="utf-8")
    part.replace(folder / MANIFEST_FILE)


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder``'s manifest.

    Raises:
        InputError: no artifact there, a damaged manifest, or a format this version does not read.
    """
    path = folder / MANIFEST_FILE
    try:
        if path.exists() and not (path.is_file() and path.resolve().parent == folder.resolve()):
            message = "it is not a file of this folder"
            raise ValueError(message)
        data = json.loads(path.read_text(encoding="utf-8"))
        _check_format(path, data["format"])
        manifest = _from_dict(data)
        check_manifest(manifest)
        return manifest
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"{folder} is not an artifact: it has no {MANIFEST_FILE}"
        raise InputError(message, hint="make one with neuronc compile or neuronc build") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path} is damaged: {error!r}"
        raise InputError(message, hint="copy the artifact again, or compile it again") from error


def program_entry(data: Mapping[str, Any], *, name: str, phase: Phase, bucket: int) -> ProgramEntry:
    """The entry whose signature and merged weights are ``data``.

    Raises:
        ValueError: a weight is merged that is none of the program's, or twice.
    """
    signature = signature_from_dict(data)
    merged = tuple(tuple(group) for group in data.get("merged_weights", ()))
    names = [name for group in merged for name in group]
    unknown = set(names) - {t.name for t in signature.inputs if t.kind == "weight"}
    if unknown or len(names) > len(set(names)) or () in merged:
        message = f"program {name!r} merges weights {sorted(unknown) or 'twice'}"
        raise ValueError(message)
    return ProgramEntry(
        name=name, phase=phase, bucket=bucket, signature=signature, merged_weights=merged
    )


def _check_format(path: Path, found: object) -> None:
    if type(found) is not int or not MIN_READABLE_FORMAT <= found <= FORMAT:
        message = (
            f"{path} has format {found!r}; this neuronc reads {MIN_READABLE_FORMAT} to {FORMAT}"
        )
        raise InputError(message, hint="upgrade neuronc, or compile the artifact again")


def to_dict(manifest: Manifest) -> dict[str, Any]:
    """What ``manifest.json`` holds."""
    return {
        "format": FORMAT,
        "model": dict(manifest.model),
        "tp": manifest.tp,
        "batch_size": manifest.batch_size,
        "max_length": manifest.max_length,
        "prefill_buckets": list(manifest.prefill_buckets),
        "decode_buckets": list(manifest.decode_buckets),
        **({"embed_buckets": list(manifest.embed_buckets)} if manifest.embeds else {}),
        "dtype": manifest.dtype,
        **({} if manifest.quantize is None else {"quantize": manifest.quantize}),
        **({"on_device_sampling": True} if manifest.on_device_sampling else {}),
        "target": manifest.target,
        "tool_versions": dict(manifest.tool_versions),
        "host": dict(manifest.host),
        **({} if manifest.neuron is None else {"neuron": dict(manifest.neuron)}),
        "programs": [
            {
                "name": p.name,
                "phase": p.phase,
                "bucket": p.bucket,
                **signature_to_dict(p.signature),
                "merged_weights": [list(group) for group in p.merged_weights],
            }
            for p in manifest.programs
        ],
        "files": [asdict(file) for file in manifest.files],
        "request": dict(manifest.request),
        "verification": manifest.verification,
    }


def _from_dict(data: Mapping[str, Any]) -> Manifest:
    programs = tuple(
        program_entry(p, name=p["name"], phase=p["phase"], bucket=p["bucket"])
        for p in data["programs"]
    )
    return Manifest(
        model=data["model"],
        tp=data["tp"],
        batch_size=data["batch_size"],
        max_length=data["max_length"],
        dtype=data["dtype"],
        quantize=data.get("quantize"),
        target=data["target"],
        programs=programs,
        tool_versions=data["tool_versions"],
        host=data["host"],
        neuron=data.get("neuron"),
        files=tuple(FileDigest(**file) for file in data["files"]),
        request=data["request"],
        verification=data["verification"],
    )
