"""Writing provenance and BOM beside a manifest; the last step of whatever makes an artifact."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.artifact.weights import Source
from neuronc.errors import InputError
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.progress import SILENT, Progress
from neuronc.provenance.bom import make_bom
from neuronc.provenance.consistent import find_differences, is_tool
from neuronc.provenance.inputs import (
    Descriptor,
    describe_artifact,
    describe_inputs,
    describe_split,
)
from neuronc.provenance.names import BOM_FILE, PROVENANCE_FILE
from neuronc.provenance.read import dependencies_of, read_statement
from neuronc.provenance.statement import make_statement, to_bytes
from neuronc.recipe import Recipe


def put_provenance(
    folder: Path, recipe: Recipe, source: Source, *, progress: Progress = SILENT
) -> None:
    """Write provenance and BOM of the artifact in ``folder``, whose manifest is written.

    Args:
        folder: The artifact.
        recipe: What ``source`` was opened with.
        source: What it was made of.
        progress: Told of the digests that are taken.

    Raises:
        InputError: a file of the checkpoint cannot be read.
    """
    manifest = read_manifest(folder)
    inputs = list(describe_inputs(recipe, source, progress=progress))
    if isinstance(before := manifest.request.get("refit_of"), str):
        inputs.append(describe_artifact("programs", before))
    write_documents(folder, manifest, inputs)


def carry_provenance(
    before: Path, folder: Path, manifest: Manifest, *, weights: Path | None = None
) -> Manifest:
    """Write provenance and BOM of an artifact made of the one in ``before``, whose inputs are its own.

    Inputs that ``before`` does not tell, or tells of another artifact, are unknown from then on:
    `neuronc check` calls such a statement incomplete.

    Args:
        before: The artifact or bundle that it was made of.
        folder: The new artifact.
        manifest: Of the new artifact.
        weights: The split folder that gave it its weights, where the bundle had none.

    Returns:
        ``manifest``.
    """
    old = read_manifest(before)
    inputs = _inputs_of(before, old)
    if weights is not None:
        kept = [found for found in inputs if not found["name"].startswith("checkpoint/")]
        split = describe_split(weights, read_split_manifest(weights))
        inputs = [*(found for found in kept if found["name"] != "checkpoint"), *split]
    inputs.append(describe_artifact("bundle" if old.is_bundle else "artifact", old.digest))
    write_documents(folder, manifest, inputs)
    return manifest


def _inputs_of(folder: Path, manifest: Manifest) -> list[Descriptor]:
    try:
        statement = read_statement(folder)
    except InputError:
        return []
    if statement is None or find_differences(statement, manifest):
        return []
    return [found for found in dependencies_of(statement) if not is_tool(found)]


def write_documents(folder: Path, manifest: Manifest, inputs: Sequence[Descriptor]) -> None:
    """Write BOM and statement into ``folder``; the same arguments give the same bytes."""
    bom = to_bytes(make_bom(manifest, inputs), subject=str(folder / BOM_FILE))
    digest = sha256(bom).hexdigest()
    statement = make_statement(manifest, inputs, bom_sha256=digest)
    told = to_bytes(statement, subject=str(folder / PROVENANCE_FILE))
    (folder / BOM_FILE).write_bytes(bom)
    (folder / PROVENANCE_FILE).write_bytes(told)
