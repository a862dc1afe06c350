"""An artifact of the same programs and other weights."""

import time
from pathlib import Path

from neuronc.artifact.atomic import atomic_folder, check_output, require_apart
from neuronc.artifact.manifest import write_manifest
from neuronc.artifact.refit import prepare_refit, put_refit
from neuronc.built import Built
from neuronc.progress import SILENT, Progress
from neuronc.provenance.write import put_provenance
from neuronc.verification import record_verification


def refit(
    artifact: Path,
    weights: str,
    out_dir: Path,
    *,
    revision: str | None = None,
    adapter: str | None = None,
    verify: bool = True,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Built:
    """Make the new artifact ``out_dir`` of the programs of ``artifact`` and other weights.

    Nothing is traced or compiled: the programs are the same files. Only verification imports torch.
    Nothing appears at ``out_dir`` unless everything succeeded, verification included.

    Args:
        artifact: An artifact or bundle with weights.
        weights: CHECKPOINT of the same architecture, or a split folder.
        out_dir: The new artifact.
        revision: Of a Hub id.
        adapter: Folder of a LoRA adapter to merge into ``weights``.
        verify: Compare with the original model before it gets its name.
        overwrite: Replace ``out_dir``.
        progress: Told of every stage.

    Raises:
        NeuroncError: what `prepare_refit` refuses.
        VerificationError: the numbers differ.
    """
    begin = time.perf_counter()
    for what, place in (("artifact", artifact), ("checkpoint", weights), ("adapter", adapter)):
        require_apart(out_dir, what, place)
    check_output(out_dir, overwrite=overwrite)
    found = prepare_refit(artifact, weights, revision=revision, adapter=adapter)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        manifest, split = put_refit(found, folder, progress)
        write_manifest(manifest, folder)
        if verify:
            manifest, error = record_verification(folder, found.source.checkpoint, progress)
            if error is not None:
                raise error
        put_provenance(folder, found.recipe, found.source, progress=progress)
        return Built(
            folder=out_dir,
            manifest=manifest,
            split=split,
            programs=None,
            elapsed_s=time.perf_counter() - begin,
        )
