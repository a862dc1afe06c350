"""Whether an artifact can be loaded on this machine, and trusted: one answer per question.

Nothing is loaded, opened by XLA or unpickled: files are hashed, headers and JSON are read.
"""

import os
from pathlib import Path

from neuronc.artifact.answer import Answer
from neuronc.artifact.manifest import PROGRAMS_DIR, Manifest, read_manifest
from neuronc.checkpoint.paths import shown
from neuronc.errors import InputError, NeuroncError, ToolchainError
from neuronc.lower.program_files import EXECUTABLE, NEFF
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Place
from neuronc.targets.host import require_host
from neuronc.targets.neuron.compiler.toolchain import is_stand_in
from neuronc.targets.neuron.neff.reader import NeffHeader, read_neff_header

SDK_OF_COMPILER = {
    "2.22.12471.0": "2.27",
    "2.24.5133.0": "2.29",
    "2.25.3371.0": "2.30",
    "2.26.6360.0": "2.31",
    "2.27.5334.0": "2.32",
}
"""Neuron SDK that a neuronx-cc came with (Neuron SDK, ``n2-manifest.json`` and release notes)."""
RUNTIME_OF_SDK = {"2.32": "2.34.10"}
"""aws-neuronx-runtime-lib of an SDK, where it is known (the same manifest)."""


def check_artifact(
    folder: Path,
    *,
    on: Place = "target",
    public_key: Path | None = None,
    progress: Progress = SILENT,
) -> tuple[Answer, ...]:
    """Every answer about the artifact in ``folder``.

    Args:
        folder: An artifact or bundle.
        on: Where it would run.
        public_key: PEM file of the key that has to have signed it; None asks for no signature.
        progress: Told of the digests.

    Raises:
        InputError: there is no manifest that can be read.
    """
    from neuronc.artifact.check_trust import check_trust

    manifest = read_manifest(folder)
    target = "cpu" if on == "cpu" else manifest.target
    runs = (
        (_runs_on_cpu(folder, manifest), _relinking(folder, manifest))
        if target == "cpu"
        else (_runs_on_neuron(manifest), _compiling(manifest), _runtime(folder, manifest))
    )
    trust = check_trust(folder, manifest, public_key=public_key, progress=progress)
    return (*trust, *runs, _verification(manifest), _left_out(target))


def failure(folder: Path, answers: tuple[Answer, ...]) -> NeuroncError | None:
    """The error that answers end in: damage first, then what cannot be loaded here; or None."""
    kinds = (
        ("damaged", InputError, "is damaged"),
        ("cannot load", ToolchainError, "cannot run here"),
    )
    for fault, kind, words in kinds:
        found = [answer for answer in answers if answer.fault == fault]
        if found:
            told = "; ".join(answer.detail for answer in found)
            return kind(f"{folder} {words}: {told}", hint=found[0].hint)
    return None


def _listed(manifest: Manifest, name: str) -> list[str]:
    """Programs whose file ``name`` the manifest lists."""
    paths = {file.path for file in manifest.files}
    return [p.name for p in manifest.programs if f"{PROGRAMS_DIR}/{p.name}/{name}" in paths]


def _runs_on_cpu(folder: Path, manifest: Manifest) -> Answer:
    question = "runs on this CPU"
    relink = f"neuronc compile --relink {folder} compiles its programs for this machine"
    missing = len(manifest.programs) - len(_listed(manifest, EXECUTABLE))
    if missing:
        detail = f"{missing} of {len(manifest.programs)} programs are not compiled for a CPU"
        return _cannot(question, detail, relink)
    try:
        require_host(manifest.host)
    except KeyError as error:
        detail = f"the manifest does not say for which {error.args[0]} it was compiled"
        return _cannot(question, detail, relink)
    except ToolchainError as error:
        return _cannot(question, error.message.partition(": ")[2], relink)
    if not manifest.has_weights:
        return _no_weights(question)
    cores = os.cpu_count() or 1
    few = f"; {manifest.tp} ranks share {cores} cores" if manifest.tp > cores else ""
    return Answer(
        question=question,
        verdict="yes",
        detail=f"jaxlib {manifest.host['jaxlib']}, CPU extensions and architecture fit{few}",
    )


def _relinking(folder: Path, manifest: Manifest) -> Answer:
    """Whether `relink` is needed, which traces nothing, and whether it can do."""
    needed = _runs_on_cpu(folder, manifest).fault != "" and manifest.has_weights
    detail = (
        "from the lowered programs in it, without the checkpoint" if needed else "runs as it is"
    )
    return Answer(question="needs relinking", verdict="yes" if needed else "no", detail=detail)


def _runs_on_neuron(manifest: Manifest) -> Answer:
    from neuronc.targets.neuron.doctor import check_runtime, num_cores

    question = f"runs on {manifest.target} here"
    if len(_listed(manifest, NEFF)) < len(manifest.programs):
        detail = "it is a bundle: its programs are not compiled yet"
        return _cannot(question, detail, "neuronc compile BUNDLE -o DIR, where neuronx-cc is")
    if not manifest.has_weights:
        return _no_weights(question)
    lacking = [check for check in check_runtime() if not check.ok]
    if lacking:
        detail = "; ".join(f"{check.name}: {check.found}" for check in lacking)
        hint = "; ".join(filter(None, (check.hint for check in lacking)))
        return _cannot(question, detail, f"{hint}; or run it on the CPU with --on cpu")
    cores = num_cores()
    if cores is not None and cores < manifest.tp:
        detail = f"{manifest.tp} ranks need a core each; there are {cores}"
        return _cannot(question, detail, f"use a machine with {manifest.tp} cores")
    told = "neuron-ls does not say how many cores there are" if cores is None else f"{cores} cores"
    return Answer(question=question, verdict="yes", detail=f"runtime and devices are here, {told}")


def _compiling(manifest: Manifest) -> Answer:
    question, neuron = "needs compiling", manifest.neuron or {}
    compiler = neuron.get("compiler")
    if compiler is None:
        return Answer(question=question, verdict="yes", detail="it is a bundle")
    version = str(compiler["version"])
    if is_stand_in(version):
        detail = f"{version} is a test double, and no device runs what it made"
        return Answer(question=question, verdict="yes", detail=detail, warns=True)
    detail = f"compiled by neuronx-cc {version}; whether a later one does better is not known"
    return Answer(question=question, verdict="no", detail=detail)


def _runtime(folder: Path, manifest: Manifest) -> Answer:
    """AWS documents which runtime comes with a compiler, and no least one for a NEFF."""
    question = "needs which Neuron runtime"
    try:
        headers = [
            read_neff_header(folder / PROGRAMS_DIR / name / NEFF)
            for name in _listed(manifest, NEFF)
        ]
    except InputError as error:
        return Answer(
            question=question, verdict="no", detail=error.message, fault="damaged", hint=error.hint
        )
    if not headers:
        return Answer(question=question, verdict="not checked", detail="there are no NEFFs")
    forms = ", ".join(sorted({_form(header) for header in headers}))
    version = str(((manifest.neuron or {}).get("compiler") or {}).get("version", ""))
    sdk = SDK_OF_COMPILER.get(version.partition("+")[0])
    runtime = RUNTIME_OF_SDK.get(sdk or "")
    told = f"its neuronx-cc {version} came with " + (
        "an SDK that is not known here"
        if sdk is None
        else f"SDK {sdk}" + (f" and runtime {runtime}" if runtime else "")
    )
    detail = f"{forms}; {told}; AWS documents no least runtime of a NEFF"
    return Answer(question=question, verdict="unknown", detail=detail)


def _form(header: NeffHeader) -> str:
    major, minor = header.version
    return (
        f"NEFF {major}.{minor}, package {header.package_version}, features {header.feature_bits:#x}"
    )


def _verification(manifest: Manifest) -> Answer:
    question, found = "verified against the original model", manifest.verification
    if found is None:
        detail = "neuronc verify does it"
        return Answer(question=question, verdict="no", detail=detail, warns=True)
    passed = found.get("passed") is True
    place = shown(found.get("target", "cpu"))
    detail = f"{'passed' if passed else 'FAILED'} on {place}, as the manifest says:"
    return Answer(
        question=question,
        verdict="yes" if passed else "no",
        detail=f"{detail} no digest or signature covers that",
        warns=not passed,
    )


def _left_out(target: str) -> Answer:
    what = "the numbers, which neuronc verify compares; executables and weights were not opened"
    if target != "cpu":
        what += "; nor whether the devices here are of the target's kind"
    return Answer(question="what else", verdict="not checked", detail=what)


def _cannot(question: str, detail: str, hint: str) -> Answer:
    return Answer(question=question, verdict="no", detail=detail, fault="cannot load", hint=hint)


def _no_weights(question: str) -> Answer:
    hint = "neuronc compile BUNDLE --weights SPLIT -o DIR puts weights in"
    return _cannot(question, "it was lowered from a config alone and has no weights", hint)
