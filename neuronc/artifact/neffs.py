"""From lowered programs in an artifact to NEFFs in it; and from a bundle to an artifact."""

import json
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from neuronc.artifact.atomic import atomic_folder
from neuronc.artifact.contents import digest_files
from neuronc.artifact.link import link_files
from neuronc.artifact.manifest import (
    PROGRAMS_DIR,
    WEIGHTS_DIR,
    Manifest,
    ProgramEntry,
    read_manifest,
    write_manifest,
)
from neuronc.cache.cache import Cache
from neuronc.errors import InputError
from neuronc.lower.program_files import COMPILED, NEURON_HLO, SIGNATURE
from neuronc.parallel.split_manifest import (
    SPLIT_FILE,
    SplitManifest,
    check_files,
    read_split_manifest,
)
from neuronc.progress import SILENT, Progress
from neuronc.provenance.write import carry_provenance
from neuronc.targets.neuron.compiler.command import (
    CompilerArgs,
    command_line,
    require_no_env_flags,
)
from neuronc.targets.neuron.compiler.one_neff import NeffJob
from neuronc.targets.neuron.compiler.programs import Elsewhere, compile_neffs
from neuronc.targets.neuron.compiler.toolchain import Compiler, find_compiler
from neuronc.targets.neuron.hlo.top_k_calls import count_calls
from neuronc.targets.neuron.preflight.check import Finding, check_program, require_clean
from neuronc.targets.neuron.settings import NOT_ON_HARDWARE, CompileOptions, NeuronSettings
from neuronc.trace.program_spec import ProgramSpec, signature_from_dict

COMMANDS_FILE = "commands.txt"


def add_neffs(
    folder: Path,
    manifest: Manifest,
    compiler: Compiler,
    options: CompileOptions,
    *,
    cache: Cache | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Compile every legalised program in ``folder`` and write a manifest that says so.

    Raises:
        NeuroncError: what `compile_neffs` raises.
    """
    flags = _flags_of(manifest)
    jobs = [
        NeffJob(name=p.name, phase=p.phase, bucket=p.bucket, signature=p.signature)
        for p in manifest.programs
    ]
    compile_neffs(
        jobs,
        folder / PROGRAMS_DIR,
        compiler,
        flags,
        num_parallel=options.num_parallel,
        timeout_s=options.timeout_s,
        cache=cache,
        frozen=options.frozen,
        elsewhere=_elsewhere(options, progress),
        progress=progress,
    )
    told = {"version": compiler.version, "stand_in": compiler.is_stand_in}
    neuron = {**(manifest.neuron or {}), "compiler": told, "hardware": NOT_ON_HARDWARE}
    known = {file.path: file.sha256 for file in manifest.files}
    compiled = replace(manifest, neuron=neuron, files=digest_files(folder, known=known))
    write_manifest(compiled, folder)
    return compiled


def _elsewhere(options: CompileOptions, progress: Progress) -> Elsewhere | None:
    if options.ray_address is None:
        return None
    from neuronc.cluster.programs import compile_neffs_on_cluster

    return partial(compile_neffs_on_cluster, address=options.ray_address, progress=progress)


def check_lowered(
    folder: Path,
    specs: Sequence[ProgramSpec],
    settings: NeuronSettings,
    progress: Progress = SILENT,
) -> dict[str, object]:
    """Pre-flight of what neuronx-cc is going to read; the ``neuron`` section of the manifest.

    Raises:
        PlanError: a program needs more memory than a core has.
        CompilerError: the compiler would refuse a program.
    """
    findings: list[Finding] = []
    calls: dict[str, int] = {}
    with progress.stage("pre-flight", total=len(specs), unit="programs") as stage:
        for spec in specs:
            program = folder / PROGRAMS_DIR / spec.name
            signature = json.loads((program / SIGNATURE).read_text(encoding="utf-8"))
            inputs = signature_from_dict(signature).inputs
            hlo = (program / NEURON_HLO).read_bytes()
            calls[spec.name] = count_calls(hlo)
            findings += check_program(
                hlo,
                program=spec.name,
                target=settings.target,
                lnc=settings.flags.lnc,
                compiler_args=settings.flags.of(spec.phase),
                weight_names=[tensor.name for tensor in inputs if tensor.kind == "weight"],
            )
            stage.advance(1, note=spec.name)
    warnings = require_clean(findings)
    if settings.compiler is None:
        write_commands(folder, specs, settings.flags)
    told = {"top_k_calls": calls} if any(calls.values()) else {}
    return {**settings.describe(), **told, "warnings": [str(finding) for finding in warnings]}


def write_commands(folder: Path, programs: Iterable[ProgramSpec], flags: CompilerArgs) -> None:
    """Write ``commands.txt``: how neuronx-cc would be called, for people without neuronc there."""
    lines = []
    for program in programs:
        argv = command_line(program.name, flags.of(program.phase))
        place = f"{PROGRAMS_DIR}/{program.name}"
        copied = f"cp {NEURON_HLO} {program.name}.hlo.pb"
        lines.append(f"(cd {place} && {copied} && {shlex.join(argv)})")
    (folder / COMMANDS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def compile_bundle(
    bundle: Path,
    out_dir: Path,
    options: CompileOptions,
    *,
    weights: Path | None = None,
    overwrite: bool = False,
    cache: Cache | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Make an artifact of ``bundle`` with the neuronx-cc of this machine: no torch, no transformers.

    What the bundle proved of its programs stays: they are the same programs.

    Args:
        bundle: Made with ``--lower-only``.
        out_dir: The new artifact.
        options: How to compile.
        weights: Split folder for a bundle without weights.
        overwrite: Replace ``out_dir``.
        cache: Where NEFFs are looked for and kept.
        progress: Told of every program.

    Raises:
        InputError: no bundle, a changed file, or weights of another model.
        NeuroncError: what `add_neffs` raises.
    """
    manifest = read_manifest(bundle)
    if not manifest.is_bundle:
        message = f"{bundle} is an artifact for {manifest.target}, compiled already"
        raise InputError(message, hint="compile takes checkpoints, split folders and bundles")
    require_no_env_flags()
    compiler = find_compiler(instead="copy the bundle to where it is")
    check_files(bundle, manifest.files)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        link_files(bundle, folder, _kept_of_bundle(bundle, manifest))
        if weights is not None:
            manifest = _put_weights(weights, folder / WEIGHTS_DIR, manifest)
        manifest = add_neffs(folder, manifest, compiler, options, cache=cache, progress=progress)
        return carry_provenance(bundle, folder, manifest, weights=weights)


def _kept_of_bundle(bundle: Path, manifest: Manifest) -> list[str]:
    """What of a bundle's files is in the artifact as well; results of a compiler are not."""
    listed = [file.path for file in manifest.files]
    for program in manifest.programs:
        hlo = f"{PROGRAMS_DIR}/{program.name}/{NEURON_HLO}"
        if hlo not in listed:
            message = f"{bundle} does not list {hlo}"
            raise InputError(message, hint="lower the model again")
    made = {f"{PROGRAMS_DIR}/{p.name}/{name}" for p in manifest.programs for name in COMPILED}
    return [path for path in listed if path != COMMANDS_FILE and path not in made]


def _put_weights(source: Path, destination: Path, manifest: Manifest) -> Manifest:
    """Link a split folder in, if it is one of this model for these ranks; forget old digests."""
    split = read_split_manifest(source)
    asked = (manifest.tp, manifest.dtype, _rank_tensors(manifest.programs[0]))
    tensors = {t.rule.name: (t.rule.rank_shape, t.dtype) for t in split.stored}
    if (split.tp, split.dtype, tensors) != asked:
        message = (
            f"{source} holds {len(tensors)} tensors for tp={split.tp}, {_of_dtypes(split)}; the"
            f" bundle's programs take {len(asked[2])} tensors for tp={manifest.tp},"
            f" {_of_dtypes(manifest)}"
        )
        raise InputError(message, hint="split the checkpoint the bundle was lowered from")
    check_files(source, split.files)
    shutil.rmtree(destination)  # its config.json is the bundle's own file under a second name
    destination.mkdir()
    link_files(source, destination, [SPLIT_FILE, *(file.path for file in split.files)])
    kept = tuple(f for f in manifest.files if not f.path.startswith(f"{WEIGHTS_DIR}/"))
    return replace(manifest, files=kept, verification=None)  # it was of other weights


def _rank_tensors(entry: ProgramEntry) -> dict[str, tuple[tuple[int, ...], str]]:
    return {t.name: (t.shape, t.dtype) for t in entry.signature.inputs if t.kind == "weight"}


def _of_dtypes(weights: Manifest | SplitManifest) -> str:
    return ", ".join(filter(None, (weights.dtype, weights.quantize)))


def _flags_of(manifest: Manifest) -> CompilerArgs:
    neuron: Mapping[str, Any] = manifest.neuron or {}
    args = neuron["args"]
    return CompilerArgs(
        lnc=manifest.lnc,
        by_phase={phase: tuple(found) for phase, found in args.items()},
        env_args=tuple(neuron.get("neuron_cc_flags", ())),
    )
