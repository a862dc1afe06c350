"""What a build was made of, as in-toto resource descriptors: files with digests, and the tools.

Nothing here depends on the machine: no absolute path, no time, no user. A local checkpoint is known
by the names and digests of its files alone.
"""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

from neuronc.artifact.manifest import Manifest
from neuronc.artifact.weights import Source
from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.checkpoint.lora_config import ADAPTER_CONFIG
from neuronc.checkpoint.remote.mirror import mirror_of
from neuronc.checkpoint.source import resolve_source
from neuronc.checkpoint.tensor_info import MergedAdapter
from neuronc.checkpoint.used_files import used_files
from neuronc.parallel.split_manifest import SPLIT_FILE, SplitManifest
from neuronc.progress import SILENT, Progress
from neuronc.provenance.model_card import ModelCard, read_model_card
from neuronc.recipe import Recipe
from neuronc.targets.neuron.compiler.toolchain import AWS_INDEX

Descriptor = dict[str, Any]

CHECKPOINT = "checkpoint"
MANIFEST_DIGEST = "neuroncManifestV1"
"""sha256 of what an artifact is: `Manifest.digest`, not of the bytes of ``manifest.json``."""
FILES_DIGEST = "neuroncFilesV1"
"""sha256 of lines ``SHA256  NAME``, sorted by name, as ``sha256sum`` writes them."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def describe_inputs(
    recipe: Recipe, source: Source, *, progress: Progress = SILENT
) -> tuple[Descriptor, ...]:
    """The checkpoint, every file of it that takes part, and the adapter.

    Local files are read once more, for their sha256; weights that are read by ranges from a URL are
    named by their version there. A split folder's digests are known already.

    Raises:
        InputError: a file cannot be read.
    """
    if source.split is not None and source.folder is not None:
        files = [*_split_files(source.folder), *map(_of_digest, source.split.files)]
        found = [_whole(files, source.split.source, ModelCard()), *files]
        return (*found, *_adapter(source.split.adapter))
    has_weights = source.config_only is None
    path = resolve_source(recipe.checkpoint, revision=recipe.revision, weights=has_weights)
    repository = _hub_uri(path)
    names = used_files(path, weights=has_weights)
    if mirror_of(path) is None:
        files = _hash_all(path if path.is_dir() else path.parent, names, repository, progress)
    else:
        files = _remote_files(path, names)
    adapter = None if source.checkpoint is None else source.checkpoint.adapter
    whole = _whole(files, source.name, read_model_card(path), repository)
    return (whole, *files, *_adapter(adapter))


def describe_split(folder: Path, split: SplitManifest) -> tuple[Descriptor, ...]:
    """A split folder whose files were compared with their digests, and its adapter."""
    files = [*_split_files(folder), *map(_of_digest, split.files)]
    return (_whole(files, split.source, ModelCard()), *files, *_adapter(split.adapter))


def describe_tools(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Packages that decided what the programs are, as package URLs; neuronc itself is the builder."""
    versions = {(n, v) for n, v in manifest.tool_versions.items() if isinstance(v, str)}
    versions.add(("jaxlib", str(manifest.host["jaxlib"])))  # a relinked artifact has two
    tools = [_package(name, version) for name, version in sorted(versions) if name != "neuronc"]
    compiler = (manifest.neuron or {}).get("compiler")
    if compiler is not None:
        tool = _package("neuronx-cc", compiler["version"])
        tools.append({**tool, "uri": f"{tool['uri']}?repository_url={quote(AWS_INDEX, safe='')}"})
    return tuple(tools)


def describe_python() -> Descriptor:
    """The interpreter that runs."""
    version = platform.python_version()
    return {"name": "python", "uri": f"pkg:generic/python@{quote(version, safe='')}"}


def describe_artifact(name: str, digest: str) -> Descriptor:
    """An artifact or bundle that programs were taken from."""
    return {"name": name, "digest": {MANIFEST_DIGEST: digest}}


def _hash_all(
    folder: Path, names: Sequence[str], repository: str | None, progress: Progress
) -> list[Descriptor]:
    with (
        progress.stage("digests of the checkpoint", total=len(names), unit="files") as stage,
        ThreadPoolExecutor(max_workers=4) as pool,  # hashing releases the interpreter lock
    ):
        files = []
        for name, sha256 in zip(
            names, pool.map(lambda name: sha256_file(folder / name), names), strict=True
        ):
            size_bytes = (folder / name).stat().st_size
            file = _file(name, size_bytes, {"sha256": sha256})
            files.append(file if repository is None else {**file, "uri": f"{repository}#{name}"})
            stage.advance(1, note=name)
    return files


def _remote_files(path: Path, names: Sequence[str]) -> list[Descriptor]:
    mirror = mirror_of(path)
    assert mirror is not None, "the caller looked"
    files = []
    for file in mirror.seen:
        if file.name in names:
            copy = mirror.folder / file.name
            digest = {"sha256": sha256_file(copy)} if copy.is_file() else {}
            found = _file(file.name, file.size_bytes, digest)
            found["annotations"]["version"] = " ".join(file.version)
            files.append({**found, "uri": str(file)})
    return sorted(files, key=lambda file: str(file["name"]))


def _file(name: str, size_bytes: int, digest: Mapping[str, str]) -> Descriptor:
    told = {"digest": dict(digest)} if digest else {}
    return {"name": f"{CHECKPOINT}/{name}", **told, "annotations": {"size_bytes": size_bytes}}


def _of_digest(file: FileDigest) -> Descriptor:
    return _file(file.path, file.size_bytes, {"sha256": file.sha256})


def _split_files(folder: Path) -> list[Descriptor]:
    path = folder / SPLIT_FILE
    return [_file(SPLIT_FILE, path.stat().st_size, {"sha256": sha256_file(path)})]


def _whole(
    files: Sequence[Descriptor], source: str, card: ModelCard, repository: str | None = None
) -> Descriptor:
    """The checkpoint as one thing; it has a digest where all its files have."""
    digests = {file["name"]: file.get("digest", {}).get("sha256") for file in files}
    told: dict[str, str] = {}
    if all(digests.values()):
        lines = [f"{sha256}  {name}\n" for name, sha256 in sorted(digests.items())]
        told[FILES_DIGEST] = hashlib.sha256("".join(lines).encode()).hexdigest()
    if repository is not None:
        told["gitCommit"] = repository.rpartition("@")[2]
    return {
        "name": CHECKPOINT,
        **({} if repository is None else {"uri": repository}),
        **({"digest": told} if told else {"uri": source}),
        "annotations": {
            "source": source,
            "license": card.license,
            "base_models": list(card.base_models),
            "said_in": card.found_in,
        },
    }


def _adapter(adapter: MergedAdapter | None) -> tuple[Descriptor, ...]:
    if adapter is None:
        return ()
    digests = {adapter.file: adapter.sha256, ADAPTER_CONFIG: adapter.config_sha256}
    return tuple(
        {
            "name": f"adapter/{name}",
            "digest": {"sha256": sha256},
            "annotations": {"source": adapter.name},
        }
        for name, sha256 in digests.items()
    )


def _hub_uri(path: Path) -> str | None:
    """Package URL of a snapshot in the cache of huggingface_hub; None for any other folder."""
    repository, is_snapshot = path.parent.parent, path.parent.name == "snapshots"
    kind, _, name = repository.name.partition("--")
    if not (is_snapshot and kind == "models" and _COMMIT.fullmatch(path.name)):
        return None
    return f"pkg:huggingface/{quote(name.replace('--', '/'))}@{path.name}"


def _package(name: str, version: str) -> Descriptor:
    return {"name": name, "uri": f"pkg:pypi/{name}@{quote(version, safe='')}"}
