"""What every way to an artifact gives back."""

from dataclasses import dataclass
from pathlib import Path

from neuronc.artifact.manifest import WEIGHTS_DIR, Manifest
from neuronc.lower.jobs import Programs
from neuronc.parallel.split_manifest import SPLIT_FILE, SplitManifest, read_split_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """An artifact on disk.

    Attributes:
        folder: Where it is.
        manifest: Its manifest, with the verification result if there is one.
        split: Manifest of its weights; None for a bundle lowered from config alone.
        programs: Which were made now; None if nothing was, since the artifact was there already.
        elapsed_s: Wall time of everything.
        reused: The artifact was there already.
        reproduced: A second build gave the same.
    """

    folder: Path
    manifest: Manifest
    split: SplitManifest | None
    programs: Programs | None
    elapsed_s: float
    reused: bool = False
    reproduced: bool = False


def split_in(folder: Path) -> SplitManifest | None:
    """The manifest of an artifact's weights; None for a bundle lowered from config alone."""
    weights = folder / WEIGHTS_DIR
    return read_split_manifest(weights) if (weights / SPLIT_FILE).is_file() else None
