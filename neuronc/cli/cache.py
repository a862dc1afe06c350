"""neuronc cache: what is kept of builds, why something is missing, and moving it about."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.build_flags import BuildFlags, CacheOption, takes_build_flags
from neuronc.cli.cache_transfer import KindOption, damage_error, pull, push
from neuronc.cli.options import (
    ByteSize,
    JsonFlag,
    QuietFlag,
    Seconds,
    parse_bytes,
    parse_duration,
)
from neuronc.cli.output import Report
from neuronc.errors import FrozenError, NeuroncError, UsageError
from neuronc.recipe import Recipe, merge_flags
from neuronc.recipe_file import load_recipe

if TYPE_CHECKING:
    from neuronc.cache.maintenance import Listed

HELP = "Show, check, clean and copy what is kept of builds."


def ls(
    *,
    kind: KindOption = None,
    cache: CacheOption = None,
    _quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """List what is kept: what it is, how large, how old, and how long it took to make."""
    from neuronc.cache.cache import open_place
    from neuronc.cache.maintenance import list_store
    from neuronc.cli import cache_tables

    store = open_place(cache)
    found = list_store(store, kind)
    data: dict[str, object] = {
        "cache": store.shown,
        "entries": [_entry(one) for one in found.entries],
        "totals": cache_tables.totals(found.entries),
        "damaged": [asdict(one) for one in found.damaged],
        "damaged_aside": found.num_aside,
        "failed_compiles": found.num_failed,
    }
    return Report(
        command="cache ls",
        data=data,
        text=partial(cache_tables.draw_listing, store.shown, found),
        warnings=tuple(f"damaged: {one.why}" for one in found.damaged),
    )


@takes_build_flags
def explain(
    recipe: Annotated[str, typer.Argument(help="A .toml recipe, or a checkpoint.")],
    *,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="CHECKPOINT", help="In place of the recipe's."),
    ] = None,
    flags: BuildFlags,
) -> Report:
    """Say of every program of a build whether it is kept, and what differs if not.

    Takes the command line of the build; nothing is made. With --frozen it exits as that would.
    """
    from neuronc.cache.explain_build import explain_build
    from neuronc.cli import cache_tables
    from neuronc.cli.progress import make_progress

    asked = _asked(recipe, {**flags.overrides, "checkpoint": checkpoint})
    if flags.dump_ir is not None:
        message = "--dump-ir lowers every program anew, whatever is kept"
        raise UsageError(message, hint="leave out --dump-ir")
    if (cache := flags.open_cache()) is None:
        message = "there is no cache to look into: it is off"
        raise UsageError(message, hint="pass --cache DIR|URL, or unset NEURONC_CACHE")
    parts = [
        replace(part, program=f"{name}{part.program}")
        for name, one in asked
        for part in explain_build(
            one, flags.compile_options, cache, progress=make_progress(flags.quiet)
        )
    ]
    num_missing = sum(part.state in ("miss", "unknown") for part in parts)
    error: NeuroncError | None = None
    if flags.frozen and num_missing:
        message = f"--frozen, and the cache lacks {num_missing} of {len(parts)}"
        error = FrozenError(message, hint="build once without --frozen, or neuronc cache pull URL")
    data: dict[str, object] = {
        "cache": cache.shown,
        "parts": [part.to_dict() for part in parts],
        "found": len(parts) - num_missing,
        "missing": num_missing,
    }
    text = partial(cache_tables.draw_explained, cache.shown, parts)
    return Report(command="cache explain", data=data, text=text, error=error)


def _asked(recipe: str, overrides: dict[str, Any]) -> list[tuple[str, Recipe]]:
    """The builds of ``recipe``, each with what comes before its programs' names."""
    from neuronc.matrix.cells import has_builds, load_cells

    if not recipe.endswith(".toml"):
        return [("", merge_flags(Recipe(checkpoint=recipe), **overrides))]
    if has_builds(Path(recipe)):
        return [(f"{cell.name}/", cell.recipe) for cell in load_cells(Path(recipe), overrides)]
    return [("", merge_flags(load_recipe(Path(recipe)), **overrides))]


def verify(
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take damaged entries away.")] = False,
    cache: CacheOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Compare everything that is kept with its digests; exit 3 if something is damaged."""
    from neuronc.cache.cache import open_place
    from neuronc.cache.maintenance import verify_store
    from neuronc.cli.progress import make_progress
    from neuronc.cli.tables import draw_pairs

    store = open_place(cache)
    found = verify_store(store, remove=remove, progress=make_progress(quiet))
    stays = [one for one in found.damaged if one.digest not in found.removed]
    data: dict[str, object] = {
        "cache": store.shown,
        "entries": found.num_entries,
        "size_bytes": found.size_bytes,
        "damaged": [asdict(one) for one in found.damaged],
        "removed": list(found.removed),
    }
    lines = {
        "cache": store.shown,
        "compared": f"{found.num_entries} entries",
        "damaged": str(len(found.damaged)),
        "removed": str(len(found.removed)),
    }
    hint = "they cannot be removed" if remove else "neuronc cache verify --remove takes them away"
    return Report(
        command="cache verify",
        data=data,
        text=lambda console: draw_pairs(console, lines),
        warnings=tuple(f"taken away: {d.why}" for d in found.damaged if d not in stays),
        error=damage_error(stays, store.shown, hint),
    )


def gc(
    *,
    max_size: Annotated[
        ByteSize | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            parser=partial(parse_bytes, "--max-size"),
            help="Of all entries together, afterwards; those used last stay.",
        ),
    ] = None,
    older_than: Annotated[
        Seconds | None,
        typer.Option(
            "--older-than",
            metavar="TIME",
            parser=partial(parse_duration, "--older-than"),
            help="Entries not used for this long go, such as 30d or 12h.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    cache: CacheOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Take away what was not used for longest, and what was left behind.

    Damaged entries, failed compiles, locks and unfinished entries go after a day. What was used in
    the last ten minutes stays, so it may run beside builds.
    """
    from neuronc.cache.cache import open_folder_named
    from neuronc.cache.maintenance import collect
    from neuronc.cli import cache_tables
    from neuronc.cli.progress import make_progress

    store = open_folder_named(cache)
    found = collect(
        store,
        max_bytes=max_size,
        older_than_s=older_than,
        dry_run=dry_run,
        progress=make_progress(quiet),
    )
    data: dict[str, object] = {
        "cache": store.shown,
        "dry_run": dry_run,
        "removed": [_entry(one) for one in found.removed],
        "removed_bytes": sum(one.entry.size_bytes for one in found.removed),
        "leftovers": list(found.leftovers),
        "kept_entries": found.kept_entries,
        "kept_bytes": found.kept_bytes,
    }
    is_too_much = max_size is not None and found.kept_bytes > max_size
    warning = f"{found.kept_bytes} bytes stay: what is in use, or was a moment ago, is not removed"
    return Report(
        command="cache gc",
        data=data,
        text=partial(cache_tables.draw_collected, store.shown, found, dry_run=dry_run),
        warnings=(warning,) if is_too_much else (),
    )


def _entry(one: "Listed") -> dict[str, Any]:
    entry = one.entry
    return {
        "kind": entry.key.kind,
        "key": entry.key.digest,
        "inputs": dict(entry.key.inputs),
        "size_bytes": entry.size_bytes,
        "last_used_s": one.last_used_s,
        "facts": dict(entry.facts),
    }


COMMANDS: Mapping[str, tuple[Callable[..., Report], tuple[str, str]]] = {
    "ls": (ls, ("neuronc cache ls", "neuronc cache ls --kind neff --json")),
    "explain": (
        explain,
        (
            "neuronc cache explain recipes/smollm2/135m_cpu_tp2.toml",
            "neuronc cache explain org/model --tp 2 --max-length 512 --frozen --json",
        ),
    ),
    "verify": (
        verify,
        ("neuronc cache verify --remove", "neuronc cache verify --cache s3://bucket/prefix"),
    ),
    "gc": (
        gc,
        (
            "neuronc cache gc --max-size 10GB --older-than 30d",
            "neuronc cache gc --max-size 10GB --dry-run --json",
        ),
    ),
    "push": (
        push,
        (
            "neuronc cache push s3://bucket/prefix",
            "neuronc cache push file:///mnt/team --kind executable",
        ),
    ),
    "pull": (
        pull,
        (
            "neuronc cache pull s3://bucket/prefix",
            "neuronc cache pull s3://bucket/prefix --cache DIR --kind neff",
        ),
    ),
}
