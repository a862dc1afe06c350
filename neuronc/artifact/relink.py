"""Compile an artifact's executables again from the lowered programs in it."""

from dataclasses import replace
from pathlib import Path

from neuronc.artifact.atomic import atomic_folder
from neuronc.artifact.contents import digest_files, take_program
from neuronc.artifact.link import link_files
from neuronc.artifact.manifest import PROGRAMS_DIR, Manifest, read_manifest, write_manifest
from neuronc.lower.jobs import ProgramJob, run_jobs
from neuronc.lower.program_files import EXECUTABLE
from neuronc.parallel.split_manifest import check_files
from neuronc.progress import SILENT, Progress
from neuronc.provenance.write import carry_provenance
from neuronc.targets.host import describe_host
from neuronc.trace.program_spec import signature_to_dict


def relink(folder: Path, *, progress: Progress = SILENT) -> Manifest:
    """Compile an artifact's executables again, for this machine, from the lowered programs in it.

    NEFFs stay as they are. Needs neither torch nor the checkpoint. The artifact is unverified afterwards.

    Raises:
        InputError: a file of the artifact changed since it was written.
    """
    manifest = read_manifest(folder)
    kept = tuple(f for f in manifest.files if Path(f.path).name != EXECUTABLE)
    check_files(folder, kept)
    with atomic_folder(folder, overwrite=True) as staging:
        link_files(folder, staging, [file.path for file in kept])
        jobs = []
        for entry in manifest.programs:
            signature = signature_to_dict(entry.signature)
            jobs.append(
                ProgramJob(
                    name=entry.name, tp=manifest.tp, target=manifest.target, signature=signature
                )
            )
        run_jobs(jobs, staging / PROGRAMS_DIR, progress=progress)
        fresh = replace(
            manifest,
            programs=tuple(take_program(staging, entry) for entry in manifest.programs),
            host=describe_host(),
            files=digest_files(staging),
            verification=None,
        )
        write_manifest(fresh, staging)
        carry_provenance(folder, staging, fresh)
    return fresh
