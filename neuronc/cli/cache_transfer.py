"""neuronc cache push and pull: entries from one store to another."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from neuronc.cache.key import KINDS, Kind
from neuronc.cli.build_flags import CacheOption
from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report
from neuronc.errors import InputError

if TYPE_CHECKING:
    from neuronc.cache.local_store import Damage
    from neuronc.cache.transfer import Transferred

KindOption = Annotated[
    Kind | None, typer.Option("--kind", help="Only this kind of entry (default: all).")
]
UrlArgument = Annotated[
    str, typer.Argument(metavar="URL", help="Such as s3://bucket/prefix, or a folder.")
]


def push(
    url: UrlArgument,
    *,
    kind: KindOption = None,
    cache: CacheOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Upload what the store behind a URL lacks.

    An interrupted upload is invisible there; the same command goes on with it.
    """
    from neuronc.cache.cache import open_answering, open_folder_named
    from neuronc.cache.transfer import transfer
    from neuronc.cli.progress import make_progress

    local, remote = open_folder_named(cache), open_answering(url)
    moved = transfer(local, remote, _kinds(kind), progress=make_progress(quiet))
    return _moved("push", local.shown, remote.shown, moved)


def pull(
    url: UrlArgument,
    *,
    kind: KindOption = None,
    cache: CacheOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Download what the store behind a URL has and this machine's lacks."""
    from neuronc.cache.cache import open_answering, open_folder_named
    from neuronc.cache.transfer import transfer
    from neuronc.cli.progress import make_progress

    local, remote = open_folder_named(cache), open_answering(url)
    moved = transfer(remote, local, _kinds(kind), progress=make_progress(quiet))
    return _moved("pull", remote.shown, local.shown, moved)


def _moved(verb: str, source: str, target: str, moved: "Transferred") -> Report:
    from neuronc.cli.cache_tables import totals_of
    from neuronc.cli.tables import draw_pairs

    data: dict[str, object] = {
        "from": source,
        "to": target,
        "copied": len(moved.copied),
        "copied_bytes": moved.size_bytes,
        "copied_by_kind": totals_of(moved.copied),
        "there_before": moved.there,
        "damaged": [asdict(one) for one in moved.damaged],
    }
    lines = {
        "from": source,
        "to": target,
        "copied": f"{len(moved.copied)} entries, {moved.size_bytes / 1e6:.1f} MB",
        "there before": f"{moved.there} entries",
    }
    hint = "neuronc cache verify --remove takes them away, there or here (--cache URL)"
    return Report(
        command=f"cache {verb}",
        data=data,
        text=lambda console: draw_pairs(console, lines),
        error=damage_error(moved.damaged, source, hint),
    )


def damage_error(damaged: "Sequence[Damage]", where: str, hint: str) -> InputError | None:
    """The failure of a command that found ``damaged``; None if it found nothing."""
    if not damaged:
        return None
    reasons = "; ".join(one.why for one in damaged[:5])
    more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    return InputError(f"{len(damaged)} damaged in {where}: {reasons}{more}", hint=hint)


def _kinds(kind: Kind | None) -> tuple[Kind, ...]:
    return KINDS if kind is None else (kind,)
