"""From the files of a finished build to its manifest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronc.artifact.manifest import (
    MANIFEST_FILE,
    PROGRAMS_DIR,
    WEIGHTS_DIR,
    Manifest,
    ProgramEntry,
    program_entry,
)
from neuronc.artifact.weights import Source
from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.checkpoint.folder import read_config
from neuronc.lower.program_files import SIGNATURE
from neuronc.parallel.split_manifest import SplitManifest
from neuronc.provenance.names import BESIDE_MANIFEST
from neuronc.recipe import Recipe
from neuronc.targets.host import describe_host
from neuronc.tools import tool_versions
from neuronc.trace.program_spec import ProgramSpec


def make_manifest(
    folder: Path,
    recipe: Recipe,
    source: Source,
    weights: SplitManifest | None,
    specs: tuple[ProgramSpec, ...],
    *,
    request: dict[str, Any],
    neuron: dict[str, Any] | None = None,
) -> Manifest:
    """The manifest of the artifact whose files lie in ``folder``."""
    programs = tuple(take_program(folder, spec) for spec in specs)
    weights_dir = folder / WEIGHTS_DIR
    written = weights.files if weights else ()
    known = {f"{WEIGHTS_DIR}/{file.path}": file.sha256 for file in written}
    files = digest_files(folder, known=known)
    return Manifest(
        model={
            "model_type": str(read_config(weights_dir)["model_type"]),
            "source": source.name,
            "config_sha256": sha256_file(weights_dir / "config.json"),
        },
        tp=source.tp,
        batch_size=recipe.batch_size,
        max_length=specs[0].max_length,
        dtype=source.dtype,
        quantize=source.quantize,
        target=recipe.target,
        programs=programs,
        tool_versions=tool_versions(),
        host=describe_host(),
        neuron=neuron,
        files=files,
        request=request,
    )


def digest_files(folder: Path, *, known: Mapping[str, str] | None = None) -> tuple[FileDigest, ...]:
    """Size and sha256 of every file below ``folder``, sorted by path.

    The manifest, and what lies beside it to describe the artifact, are none of its files.

    Args:
        folder: The artifact.
        known: sha256 by path of files whose digest was taken already; they are not read again.
    """
    taken = known or {}
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_FILE):
        name = path.relative_to(folder).as_posix()
        if name in BESIDE_MANIFEST:
            continue
        sha256 = taken.get(name) or sha256_file(path)
        found.append(FileDigest(path=name, size_bytes=path.stat().st_size, sha256=sha256))
    return tuple(found)


def take_program(folder: Path, program: ProgramSpec | ProgramEntry) -> ProgramEntry:
    """The entry of a program just compiled; its signature moves from a file into the manifest."""
    path = folder / PROGRAMS_DIR / program.name / SIGNATURE
    data = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return program_entry(data, name=program.name, phase=program.phase, bucket=program.bucket)
