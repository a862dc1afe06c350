"""``NAME.lock`` beside ``NAME.toml``: which inputs and tools its artifacts were made of.

It holds the commit of every Hub id; sha256 of every file of checkpoints and adapters that a build
reads (behind a URL, the version that the server tells); versions of the tools; each cell's options;
and, once a cell was built, the digest of its artifact. Places of outputs are not in it, and neither
are folders of this machine: sources stand as they were written.

- ``neuronc lock FILE`` writes it for every cell, and builds nothing.
- ``neuronc build FILE --update-lock`` writes it for the cells that it builds, with their digests.
- ``neuronc build FILE --locked`` refuses, before anything is built, whatever of that is another now.
- With neither flag a build does not look at it.

Both flags build a Hub id at the commit that is written down: with ``--locked`` that of the file,
wherever the branch is by then. An artifact's digest is a result and no input: one that differs from
the file's is told with its likely reason, and the artifact stays. Flags that replace keys of the
recipe are part of the cells' options, so the same ones have to be given again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from neuronc.checkpoint.remote.url import without_secrets
from neuronc.matrix.cells import Cell
from neuronc.matrix.inputs import Input, read_input
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Recipe
from neuronc.targets.neuron.settings import CompileOptions
from neuronc.tools import tool_versions

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest

_DEFAULTS = Recipe(checkpoint="").to_dict()
_ELSEWHERE = ("out", "checkpoint", "adapter")


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedCell:
    """What a cell's artifact is made of, and what it was.

    Attributes:
        options: Of the recipe and the command line, where they are not the defaults.
        checkpoint: Key of its input.
        adapter: Key of its adapter's input; None without one.
        artifact_digest: Of the last artifact that was made of just this; None before.
        made_on: What that one depends on besides: kind of machine, version of neuronx-cc.
    """

    options: Mapping[str, Any]
    checkpoint: str
    adapter: str | None = None
    artifact_digest: str | None = None
    made_on: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """Contents of a lock file.

    Attributes:
        tools: Version by name.
        inputs: Checkpoints and adapters by key: as written, with the revision asked for.
        cells: By name.
    """

    tools: Mapping[str, str | None]
    inputs: Mapping[str, Input]
    cells: Mapping[str, LockedCell]


def resolve(
    cells: Iterable[Cell],
    options: CompileOptions,
    *,
    commits: Mapping[str, str | None] | None = None,
    progress: Progress = SILENT,
) -> Lock:
    """What ``cells`` would be built of now; every input is read once.

    Args:
        cells: Of one file.
        options: Of the command line.
        commits: Commits to look for, by input; what is not in it is looked up.
        progress: Told of the bytes that are read.

    Raises:
        InputError: a checkpoint is missing or cannot be read.
    """
    inputs: dict[str, Input] = {}
    locked = {}
    for cell in cells:
        entry = _entry(cell, options)
        locked[cell.name] = entry
        if entry.checkpoint not in inputs:
            recipe = at_commit(cell.recipe, (commits or {}).get(entry.checkpoint))
            weights = not options.config_only
            inputs[entry.checkpoint] = read_input(
                recipe.checkpoint, revision=recipe.revision, weights=weights, progress=progress
            )
        if entry.adapter is not None and entry.adapter not in inputs:
            inputs[entry.adapter] = read_input(str(cell.recipe.adapter), progress=progress)
    return Lock(tools=tool_versions(), inputs=inputs, cells=locked)


def at_commit(recipe: Recipe, commit: str | None) -> Recipe:
    """``recipe`` with its Hub id at ``commit``; as it is without one."""
    if commit is None:
        return recipe
    return replace(recipe, checkpoint=recipe.checkpoint.partition("@")[0], revision=commit)


def pinned(cell: Cell, lock: Lock) -> Cell:
    """``cell`` at the commit of the Hub that ``lock`` has for it."""
    commit = lock.inputs[lock.cells[cell.name].checkpoint].revision
    return replace(cell, recipe=at_commit(cell.recipe, commit))


def made_on(manifest: "Manifest") -> dict[str, str | None]:
    """What an artifact depends on that is no input: of the machine, and of Amazon's compiler."""
    host = hashlib.sha256(json.dumps(dict(manifest.host), sort_keys=True).encode()).hexdigest()
    compiler = (manifest.neuron or {}).get("compiler") or {}
    return {"kind of machine": host[:16], "neuronx-cc": compiler.get("version")}


def _entry(cell: Cell, options: CompileOptions) -> LockedCell:
    recipe = cell.recipe.to_dict()
    differing = {
        key: value
        for key, value in recipe.items()
        if key not in _ELSEWHERE and value != _DEFAULTS[key]
    }
    flags = {key: True for key in ("lower_only", "config_only") if getattr(options, key)}
    revision = "" if cell.recipe.revision is None else f" at {cell.recipe.revision}"
    return LockedCell(
        options={**differing, **flags},
        checkpoint=f"{without_secrets(cell.source)}{revision}",
        adapter=None if cell.adapter is None else f"adapter {cell.adapter}",
    )
