"""Whether an artifact that is there already is the one that is asked for."""

import hashlib
from pathlib import Path
from typing import Any

from neuronc.artifact.manifest import MANIFEST_FILE, Manifest, read_manifest
from neuronc.checkpoint.folder import TORCH
from neuronc.checkpoint.source import resolve_source
from neuronc.errors import UsageError
from neuronc.parallel.layouts.names import NXDI_WEIGHTS
from neuronc.recipe import Recipe
from neuronc.targets.host import describe_host
from neuronc.targets.neuron.settings import CompileOptions
from neuronc.tools import tool_versions


def describe_request(recipe: Recipe, *, config_only: bool = False) -> dict[str, Any]:
    """What was asked for, and of which files: stored in the manifest, compared before a build.

    The checkpoint's files are told apart by name, size and modification time; they are not read.
    """
    asked = {**recipe.to_dict(), "config_only": config_only}
    del asked["out"]
    path = resolve_source(recipe.checkpoint, revision=recipe.revision, weights=not config_only)
    folders = (path, path / TORCH, path / NXDI_WEIGHTS) if path.is_dir() else ()
    files = [f for folder in folders if folder.is_dir() for f in sorted(folder.iterdir())] or [path]
    base = path if path.is_dir() else path.parent
    stats = [
        (str(f.relative_to(base)), f.stat().st_size, f.stat().st_mtime_ns)
        for f in files
        if f.is_file()
    ]
    return {**asked, "checkpoint_files": hashlib.sha256(repr(stats).encode()).hexdigest()}


def find_reusable(
    out_dir: Path, recipe: Recipe, options: CompileOptions, *, need_verified: bool
) -> Manifest | None:
    """The manifest in ``out_dir`` if it is what ``recipe`` asks for; None if nothing is there.

    Raises:
        UsageError: something else is there; the first thing that differs is named.
    """
    if not out_dir.exists():
        return None
    difference = "it is not an artifact"
    if (out_dir / MANIFEST_FILE).is_file():
        manifest = read_manifest(out_dir)
        difference = _difference(
            manifest, recipe, need_verified=need_verified, config_only=options.config_only
        )
        if manifest.is_bundle != options.lower_only:
            difference = f"it is {'a bundle' if manifest.is_bundle else 'compiled already'}"
        if not difference:
            return manifest
    message = f"output folder {out_dir} exists and is not what is asked for: {difference}"
    raise UsageError(message, hint="choose another folder, or pass --overwrite to replace it")


def _difference(
    manifest: Manifest, recipe: Recipe, *, need_verified: bool, config_only: bool
) -> str:
    for key, value in describe_request(recipe, config_only=config_only).items():
        if manifest.request.get(key) != value:
            return f"{key} was {manifest.request.get(key)!r}, asked {value!r}"
    for label, there, here in (
        ("made with", dict(manifest.tool_versions), tool_versions()),
        ("compiled for", dict(manifest.host), describe_host()),
    ):
        for key, value in here.items():
            if there.get(key) != value:
                return f"{label} {key} {there.get(key)!r}, here {value!r}"
    if need_verified and not (manifest.verification or {}).get("passed"):
        return "it is not verified"
    return ""
