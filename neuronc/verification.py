"""Verifies an artifact and records the result in its manifest, and in the store."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronc.artifact.manifest import Manifest, read_manifest, write_manifest
from neuronc.cache.cache import Cache
from neuronc.cache.program_keys import verification_key
from neuronc.cache.reports import keep_report, take_report
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.errors import VerificationError
from neuronc.progress import Progress
from neuronc.recipe import Place


def record_verification(
    folder: Path, checkpoint: Checkpoint | None, progress: Progress, *, on: Place = "cpu"
) -> tuple[Manifest, VerificationError | None]:
    """Verify the artifact in ``folder`` and write the result into its manifest, where that is possible.

    Returns:
        The manifest, and the error that tells of a failure; None if it passed.
    """
    from neuronc.verify.verify import failure, verify_artifact

    found = verify_artifact(folder, checkpoint=checkpoint, on=on, progress=progress)
    there = read_manifest(folder)
    manifest = replace(there, verification=_with_known_cost(found.to_dict(), there))
    if manifest.neuron is not None and found.target == manifest.target:
        proven = {**manifest.neuron, "hardware": "verified on a Neuron device"}
        manifest = replace(manifest, neuron=proven)
    if os.access(folder, os.W_OK):
        write_manifest(manifest, folder)
    return manifest, failure(found, "the artifact")


def verify_new(
    folder: Path,
    manifest: Manifest,
    checkpoint: Checkpoint | None,
    cache: Cache | None,
    progress: Progress,
) -> Manifest:
    """Verify a new artifact, unless the store has the report of just these files.

    Raises:
        VerificationError: the numbers differ.
    """
    key = verification_key(manifest)
    if cache is not None and (report := take_report(cache, key)) is not None:
        manifest = replace(manifest, verification=report)
        write_manifest(manifest, folder)
        return manifest
    manifest, error = record_verification(folder, checkpoint, progress)
    if error is not None:
        raise error
    if cache is not None and manifest.verification is not None:
        keep_report(cache, key, manifest.verification)
    return manifest


def _with_known_cost(found: dict[str, Any], there: Manifest) -> dict[str, Any]:
    """``found`` with what quantisation was measured to cost before: the weights are the same."""
    before = there.verification or {}
    known = before.get("quantization") if before.get("passed") else None
    if known is not None and found["quantization"]["cost"] is None:
        return {**found, "quantization": known}
    return found
