"""What the fields of a manifest must be, and that they agree with each other.

A manifest is read before anything in the artifact is trusted, so nothing in it may send the reader
astray: every number is bounded, every name is plain.
"""

import re
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from neuronc.checkpoint.paths import check_listed_paths
from neuronc.dtypes import COMPUTE_DTYPES, DTYPES
from neuronc.parallel.quantize import SCHEMES
from neuronc.recipe import QUANTIZE_CHOICES, TARGET_NAMES
from neuronc.targets.neuron.chips import NEURON_TARGETS
from neuronc.targets.neuron.compiler.command import are_args_of, is_plain_word
from neuronc.trace.program_spec import PHASES, TensorSpec

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest, ProgramEntry
    from neuronc.checkpoint.digest import FileDigest

_MAX_SIZE = 2**31 - 1  # positions and slots are i32 inputs of the programs
_MAX_RANKS = 4096  # several times the cores of the largest instance
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = ("weight", "cache", "rank", "data")


def check_manifest(manifest: "Manifest") -> None:
    """Raise ValueError that names the first field of ``manifest`` that cannot be."""
    for name in ("tp", "batch_size", "max_length"):
        _check_size(name, getattr(manifest, name))
    for name, choices in (("dtype", COMPUTE_DTYPES), ("target", TARGET_NAMES)):
        value = getattr(manifest, name)
        _check(isinstance(value, str) and value in choices, name, value)
    quantize = manifest.quantize
    _check(quantize is None or isinstance(quantize, str), "quantize", quantize)
    _check(quantize in QUANTIZE_CHOICES, "quantize", quantize)
    for name in ("model", "tool_versions", "host", "request"):
        value = getattr(manifest, name)
        _check(isinstance(value, dict), name, value)
    isa = manifest.host.get("isa")
    _check(isinstance(isa, list) and all(isinstance(i, str) for i in isa), "host.isa", isa)
    verification = manifest.verification
    _check(verification is None or isinstance(verification, dict), "verification", verification)
    _check(isinstance(manifest.host.get("jaxlib"), str), "host.jaxlib", manifest.host)
    for file in manifest.files:
        _check_file(file)
    _check(manifest.tp <= _MAX_RANKS, "tp", manifest.tp)
    for entry in manifest.programs:
        _check_program(entry, manifest)
    _check_neuron(manifest)
    _check_together(manifest)


def _check_neuron(manifest: "Manifest") -> None:
    found = manifest.neuron
    _check((found is None) == (manifest.target == "cpu"), "neuron", found)
    if found is not None:
        _check(isinstance(found, dict), "neuron", found)
        legal = NEURON_TARGETS[manifest.target].hbm_bytes_by_lnc
        lnc = found.get("lnc")
        _check(type(lnc) is int and lnc in legal, "neuron.lnc", lnc)
        _check_args(found.get("args"), manifest)
        flags = found.get("neuron_cc_flags", [])
        _check(_is_words(flags), "neuron.neuron_cc_flags", flags)
        _check(_is_compiler(found.get("compiler")), "neuron.compiler", found.get("compiler"))
        calls = found.get("top_k_calls", {})
        _check(isinstance(calls, dict), "neuron.top_k_calls", calls)
        programs = {entry.name for entry in manifest.programs}
        _check(calls.keys() <= programs, "neuron.top_k_calls", sorted(map(str, calls)))
        is_count = all(type(n) is int and 0 <= n <= _MAX_SIZE for n in calls.values())
        _check(is_count, "neuron.top_k_calls", list(calls.values()))


def _check_args(args: object, manifest: "Manifest") -> None:
    _check(isinstance(args, dict), "neuron.args", args)
    needed = {entry.phase for entry in manifest.programs}
    told = set(args) if isinstance(args, dict) else set()
    _check(needed <= told <= set(PHASES), "neuron.args", sorted(map(str, told)))
    for phase, found in args.items() if isinstance(args, dict) else ():
        _check(_is_words(found), f"neuron.args.{phase}", found)
        words = found if isinstance(found, list) else []
        is_ours = are_args_of(words, target=manifest.target, lnc=manifest.lnc)
        _check(is_ours, f"neuron.args.{phase}", found)


def _is_compiler(found: object) -> bool:
    if not isinstance(found, dict):
        return found is None
    return isinstance(found.get("version"), str) and isinstance(found.get("stand_in"), bool)


def _is_words(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(w, str) and is_plain_word(w) for w in found)


def _check_together(manifest: "Manifest") -> None:
    """The programs are different ones of one model."""
    steps = (manifest.prefill_buckets, manifest.decode_buckets)
    buckets = (manifest.embed_buckets,) if manifest.embeds else steps
    _check(not manifest.embeds or steps == ((), ()), "programs", "of two tasks")
    for found in buckets:
        _check(bool(found) and list(found) == sorted(set(found)), "buckets", buckets)
    _check(buckets[-1][-1] == manifest.max_length, "max_length", manifest.max_length)
    kept = [[t for t in entry.signature.inputs if t.kind != "data"] for entry in manifest.programs]
    _check(kept.count(kept[0]) == len(kept), "inputs", "weights that differ between programs")
    given = [[t.name for t in entry.signature.outputs] for entry in manifest.programs]
    _check(given.count(given[0]) == len(given), "outputs", "that differ between programs")
    weights = {t.dtype for entry in manifest.programs for t in entry.signature.inputs}
    narrow = weights & {scheme.dtype for scheme in SCHEMES.values()}
    told = set() if manifest.quantize is None else {SCHEMES[manifest.quantize].dtype}
    _check(narrow == told, "quantize", manifest.quantize)
    check_listed_paths([file.path for file in manifest.files])


def _check_file(file: "FileDigest") -> None:
    _check(isinstance(file.path, str), "files.path", file.path)
    size = file.size_bytes
    _check(type(size) is int and size >= 0, "files.size_bytes", size)
    is_digest = isinstance(file.sha256, str) and _SHA256.fullmatch(file.sha256)
    _check(bool(is_digest), "files.sha256", file.sha256)


def _check_program(entry: "ProgramEntry", manifest: "Manifest") -> None:
    is_phase = isinstance(entry.phase, str) and entry.phase in PHASES
    _check(is_phase, "programs.phase", entry.phase)
    _check_size("programs.bucket", entry.bucket)
    _check(entry.bucket <= manifest.max_length, "programs.bucket", entry.bucket)
    # The name is a folder: nothing but this may be read, written or deleted.
    _check(entry.name == f"{entry.phase}_{entry.bucket}", "programs.name", entry.name)
    signature = entry.signature
    for tensor in chain(signature.inputs, signature.outputs):
        _check_tensor(tensor)
        if tensor.kind == "cache":
            slots = (manifest.batch_size, manifest.max_length)
            _check(tensor.shape[:2] == slots, f"shape of {tensor.name}", tensor.shape)
    outputs = signature.outputs
    _check(bool(outputs) and len(outputs[0].shape) == 2, "programs.outputs", outputs)
    if signature.tokens_at is not None:
        tokens = outputs[signature.tokens_at]
        told = (tokens.kind, tokens.dtype, tokens.shape)
        _check(told == ("data", "i32", outputs[0].shape[:1]), "tokens", told)
        _check(signature.tokens_at > 0 and entry.phase != "embed", "tokens", entry.phase)
    for output, number in signature.aliases.items():
        is_pair = type(number) is int and 0 <= number < len(signature.inputs)
        _check(is_pair and 0 <= output < len(outputs), "programs.aliases", signature.aliases)


def _check_tensor(tensor: TensorSpec) -> None:
    _check(isinstance(tensor.name, str), "tensor name", tensor.name)
    _check(
        isinstance(tensor.kind, str) and tensor.kind in _KINDS,
        f"kind of {tensor.name}",
        tensor.kind,
    )
    _check(isinstance(tensor.dtype, str) and tensor.dtype in DTYPES, "dtype", tensor.dtype)
    for size in tensor.shape:
        _check_size(f"shape of {tensor.name}", size)


def _check_size(name: str, value: object) -> None:
    _check(type(value) is int and 1 <= value <= _MAX_SIZE, name, value)


def _check(holds: bool, name: str, value: object) -> None:
    if not holds:
        shown = str(value)[:80] if not isinstance(value, Mapping) else "a table"
        message = f"{name} cannot be {shown!r}"
        raise ValueError(message)
