"""What a checkpoint or adapter consists of, by digest: the files that a build reads of it."""

from dataclasses import dataclass
from pathlib import Path

from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.fingerprint import file_stats
from neuronc.checkpoint.remote.mirror import mirror_of, named_by_url
from neuronc.checkpoint.remote.url import is_url, local_form
from neuronc.checkpoint.source import is_hub_id, resolve_source
from neuronc.checkpoint.used_files import CARD_FILE, used_files
from neuronc.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """One file that a build reads.

    Attributes:
        path: Below the checkpoint's folder.
        size_bytes: Of the file.
        sha256: Hex; None behind a URL, where the file is not read for it.
        version: Behind a URL what the server tells versions apart by; None otherwise.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """A checkpoint or adapter as it is now.

    Attributes:
        revision: Commit of a Hub id; None for anything else.
        files: Sorted by path.
    """

    revision: str | None
    files: tuple[InputFile, ...]


def read_input(
    source: str, *, revision: str | None = None, weights: bool = True, progress: Progress = SILENT
) -> Input:
    """The commit and file digests of a CHECKPOINT; every file is read once.

    A Hub id is looked up as a build does, so it needs no network for a commit that is in the cache.

    Args:
        source: A folder, ``.gguf`` file, ``package:NAME/FILE``, URL or Hub id.
        revision: Of a Hub id.
        weights: Whether the weights are read as well.
        progress: Told of the bytes.

    Raises:
        InputError: nothing is there, or a file cannot be read.
    """
    path = resolve_source(source, revision=revision, weights=weights)
    if mirror_of(path) is not None:
        with named_by_url(path):
            stats = sorted(file_stats(path))
        return Input(
            revision=None,
            files=tuple(InputFile(path=n, size_bytes=s, version=v) for n, s, v in stats),
        )
    base = path if path.is_dir() else path.parent
    names = [name for name in used_files(path, weights=weights) if name != CARD_FILE]
    files = []
    total = sum((base / name).stat().st_size for name in names)
    with progress.stage(f"digests of {path.name}", total=total, unit="bytes") as stage:
        for name in names:
            file = base / name
            size_bytes = file.stat().st_size
            files.append(InputFile(path=name, size_bytes=size_bytes, sha256=sha256_file(file)))
            stage.advance(size_bytes, name)
    return Input(revision=_commit(source, path), files=tuple(files))


def _commit(source: str, path: Path) -> str | None:
    source = local_form(source)
    is_hub = not is_url(source) and is_hub_id(source)
    return path.name if is_hub and path.parent.name == "snapshots" else None
