"""Whether an artifact that is there already is the one that is asked for."""

import hashlib
from pathlib import Path
from typing import Any

from neuronc.artifact.manifest import MANIFEST_FILE, Manifest, read_manifest
from neuronc.checkpoint.fingerprint import file_stats
from neuronc.checkpoint.remote.url import without_secrets
from neuronc.checkpoint.source import resolve_source
from neuronc.errors import UsageError
from neuronc.recipe import Recipe
from neuronc.targets.host import describe_host
from neuronc.targets.neuron.settings import CompileOptions, NeuronSettings
from neuronc.tools import tool_versions

_DEFAULTS = Recipe(checkpoint="").to_dict()
"""Of what an artifact says nothing, since it is older than the option."""


def describe_request(recipe: Recipe, *, config_only: bool = False) -> dict[str, Any]:
    """What was asked for, and of which files: stored in the manifest, compared before a build.

    The files of checkpoint and adapter are told apart by name, size and modification time (behind a
    URL by their version there); they are not read.
    """
    asked = {**recipe.to_dict(), "config_only": config_only}
    del asked["out"]
    asked["checkpoint"] = without_secrets(recipe.checkpoint)
    if recipe.adapter is not None:
        asked["adapter_files"] = _state_of(Path(recipe.adapter))
    path = resolve_source(recipe.checkpoint, revision=recipe.revision, weights=not config_only)
    return {**asked, "checkpoint_files": _state_of(path)}


def _state_of(path: Path) -> str:
    return hashlib.sha256(repr(file_stats(path)).encode()).hexdigest()


def find_reusable(
    out_dir: Path,
    recipe: Recipe,
    options: CompileOptions,
    settings: NeuronSettings | None,
    *,
    need_verified: bool,
) -> Manifest | None:
    """The manifest in ``out_dir`` if it is what ``recipe`` asks for; None if nothing is there.

    For a Neuron target the compiler and every argument it would get have to be the same, too.

    Raises:
        UsageError: something else is there; the first thing that differs is named.
    """
    if not out_dir.exists():
        return None
    difference = "it is not an artifact"
    if (out_dir / MANIFEST_FILE).is_file():
        manifest = read_manifest(out_dir)
        difference = _difference(manifest, recipe, config_only=options.config_only)
        difference = difference or _neuron_difference(manifest, settings)
        if not difference and need_verified and _is_unverified(manifest):
            difference = "it is not verified"
        if manifest.is_bundle != options.lower_only:
            difference = f"it is {'a bundle' if manifest.is_bundle else 'compiled already'}"
        if not difference:
            return manifest
    message = f"output folder {out_dir} exists and is not what is asked for: {difference}"
    raise UsageError(message, hint="choose another folder, or pass --overwrite to replace it")


def _neuron_difference(manifest: Manifest, settings: NeuronSettings | None) -> str:
    if settings is None:
        return ""
    there, here = dict(manifest.neuron or {}), settings.describe()
    for key, words in (("args", "arguments"), ("neuron_cc_flags", "NEURON_CC_FLAGS")):
        if there.get(key) != here[key]:
            return f"its {words} are {there.get(key)!r}, here {here[key]!r}"
    version = (there.get("compiler") or {}).get("version")
    if settings.compiler is not None and version != settings.compiler.version:
        return f"it was compiled by neuronx-cc {version}, here is {settings.compiler.version}"
    return ""


def _is_unverified(manifest: Manifest) -> bool:
    """What was lowered from a config alone has nothing that could be verified."""
    return manifest.has_weights and not (manifest.verification or {}).get("passed")


def _difference(manifest: Manifest, recipe: Recipe, *, config_only: bool) -> str:
    for key, value in describe_request(recipe, config_only=config_only).items():
        there = manifest.request.get(key, _DEFAULTS.get(key))
        if there != value:
            return f"{key} was {there!r}, asked {value!r}"
    for label, tools, here in (
        ("made with", dict(manifest.tool_versions), tool_versions()),
        ("compiled for", dict(manifest.host), describe_host()),
    ):
        for key, value in here.items():
            if key != "cpus" and tools.get(key) != value:  # it runs on any number
                return f"{label} {key} {tools.get(key)!r}, here {value!r}"
    return ""
