"""What differs between two artifacts, and which of it made another program necessary."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neuronc.artifact.manifest import WEIGHTS_DIR, Manifest, read_manifest
from neuronc.artifact.same_config import without_effect
from neuronc.checkpoint.folder import read_config
from neuronc.parallel.split_manifest import check_files
from neuronc.trace.program_spec import PHASES

Kind = Literal["option", "config", "toolchain", "host", "input"]
Effect = Literal["lowering", "compiling", "nothing"]
"""What a difference changes: the program itself, what the compiler makes of it, or neither."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One value that two artifacts have differently; None where one has none.

    Attributes:
        kind: What it belongs to.
        name: Of the value.
        a: In the first artifact.
        b: In the second.
        effect: What it changes.
        phase: Of the programs it is about; empty for all.
    """

    kind: Kind
    name: str
    a: Any
    b: Any
    effect: Effect
    phase: str = ""


def open_side(folder: Path) -> Manifest:
    """The manifest in ``folder``; what `find_differences` and its kind read is as it says.

    Raises:
        InputError: no artifact, or one of those files was changed.
    """
    from neuronc.lower.program_files import HLO, NEURON_HLO
    from neuronc.parallel.split_manifest import SPLIT_FILE

    manifest = read_manifest(folder)
    read = {f"{WEIGHTS_DIR}/config.json", f"{WEIGHTS_DIR}/{SPLIT_FILE}"}
    taken = (f for f in manifest.files if f.path in read or f.path.endswith((HLO, NEURON_HLO)))
    check_files(folder, tuple(taken))
    return manifest


def find_differences(
    sides: tuple[Path, Path], manifests: tuple[Manifest, Manifest]
) -> tuple[Difference, ...]:
    """Options, config.json, tools and host, in this order; programs and weights are told apart from them.

    Args:
        sides: The artifacts' folders.
        manifests: Of both, from `open_side`.

    Raises:
        InputError: a config.json cannot be read.
    """
    a, b = manifests
    configs = [read_config(folder / WEIGHTS_DIR) for folder in sides]
    neuron = [dict(found.neuron or {}) for found in manifests]
    ignored = without_effect(is_embedding=a.embeds and b.embeds)
    return (
        *_unlike("input", a.model, b.model, only=("source",), effect="nothing"),
        *_options(a, b),
        *_compiler_arguments(*neuron),
        *(
            _config_difference(found, ignored)
            for found in _unlike("config", *configs, effect="lowering")
        ),
        *_tools(a, b),
        *_compilers(*neuron),
        *_host(a, b),
    )


def _options(a: Manifest, b: Manifest) -> Iterator[Difference]:
    names = ("tp", "batch_size", "max_length", "dtype", "quantize", "on_device_sampling", "embeds")
    yield from _unlike("option", *({n: getattr(m, n) for n in names} for m in (a, b)))
    own = ({"target": m.target, "lnc": m.lnc} for m in (a, b))
    yield from _unlike("option", *own, effect="compiling")
    for name in ("prefill_buckets", "decode_buckets", "embed_buckets"):
        values = [list(getattr(found, name)) for found in (a, b)]
        if values[0] != values[1]:  # a bucket is a program of its own; the others stay
            yield Difference(kind="option", name=name, a=values[0], b=values[1], effect="nothing")


def _compiler_arguments(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    for phase in PHASES:
        values = [(found.get("args") or {}).get(phase) for found in (a, b)]
        if values[0] != values[1]:
            yield Difference(
                kind="option",
                name=f"neuronx-cc arguments of {phase}",
                a=values[0],
                b=values[1],
                effect="compiling",
                phase=phase,
            )
    yield from _unlike("option", a, b, only=("neuron_cc_flags",), effect="compiling")
    yield from _unlike("option", a, b, only=("top_k_calls",))


def _config_difference(found: Difference, ignored: AbstractSet[str]) -> Difference:
    if found.name not in ignored:
        return found
    return Difference(kind="config", name=found.name, a=found.a, b=found.b, effect="nothing")


def _tools(a: Manifest, b: Manifest) -> Iterator[Difference]:
    for found in _unlike("toolchain", a.tool_versions, b.tool_versions):
        effect: Effect = "nothing" if found.name == "safetensors" else "lowering"
        yield Difference(kind="toolchain", name=found.name, a=found.a, b=found.b, effect=effect)


def _compilers(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    versions = [(found.get("compiler") or {}).get("version") for found in (a, b)]
    told = ({"neuronx-cc": version} for version in versions)
    yield from _unlike("toolchain", *told, effect="compiling")


def _host(a: Manifest, b: Manifest) -> Iterator[Difference]:
    isa = [set(found.host["isa"]) for found in (a, b)]
    if isa[0] != isa[1]:
        only = [sorted(isa[0] - isa[1]), sorted(isa[1] - isa[0])]
        yield Difference(
            kind="host", name="CPU extensions", a=only[0], b=only[1], effect="compiling"
        )
    rest = ({k: v for k, v in found.host.items() if k != "isa"} for found in (a, b))
    yield from _unlike("host", *rest, effect="compiling")


def _unlike(
    kind: Kind,
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    only: tuple[str, ...] = (),
    effect: Effect = "lowering",
) -> Iterator[Difference]:
    for name in only or sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield Difference(kind=kind, name=name, a=a.get(name), b=b.get(name), effect=effect)
