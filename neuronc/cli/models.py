"""neuronc models: which model families are covered, and by which test."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report

if TYPE_CHECKING:
    from neuronc.families.verified import Verified

EXAMPLES = (
    "neuronc models",
    "neuronc models gpt_neox --json",
)


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="transformers' name of a family, such as gpt_neox."),
    ] = None,
    *,
    _quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """List the model families that tests cover, or say what is known about one.

    Every build is verified against the model itself, whatever its family.
    """
    from neuronc.families.verified import find_verified, verified

    known = verified()
    shown = known.variants if name is None else {name: find_verified(name)}
    data: dict[str, object] = {
        "checks": {key: asdict(check) for key, check in known.checks.items()},
        "families": {family: _about(family, shown[family]) for family in shown},
    }
    draw = _draw_list(known) if name is None else _draw_one(name, known)
    return Report(command="models", data=data, text=draw)


def _about(family: str, variants: tuple[str, ...]) -> dict[str, Any]:
    return {"variants": list(variants), "about": _words(family), "plan": _plan(family)}


def _words(family: str) -> str:
    """What the family's file says of it; empty for one without a file."""
    from neuronc.families.find import own_file

    describe = own_file(family)
    if describe is None:
        return ""
    import sys

    words = sys.modules[describe.__module__].__doc__ or ""
    return " ".join(words.split("\n\n")[0].split())


def _plan(family: str) -> str:
    from neuronc.families.find import own_file

    own = own_file(family)
    return own.__module__.replace(".", "/") + ".py" if own else "transformers' tensor-parallel plan"


def _degrees(tp: tuple[int, ...]) -> str:
    is_run = len(tp) > 2 and tp == tuple(range(tp[0], tp[-1] + 1))
    return f"{tp[0]}-{tp[-1]}" if is_run else ", ".join(map(str, tp))


def _draw_list(known: "Verified") -> Callable[[Any], None]:
    def draw(console: Any) -> None:
        from rich.table import Table

        table = Table()
        for title in ("family", *(f"{name}, tp" for name in known.checks), "variants"):
            table.add_column(title, no_wrap=title != "variants")
        degrees = [_degrees(check.tp) for check in known.checks.values()]
        for family, variants in known.variants.items():
            others = [variant.removeprefix(f"{family}, ") for variant in variants[1:]]
            table.add_row(family, *degrees, "; ".join(others))
        console.print(table)
        console.print(f"{len(known.variants)} families; each check against transformers:")
        for name, check in known.checks.items():
            console.print(f"  {name}: {check.how} ({check.test})", soft_wrap=True)

    return draw


def _draw_one(family: str, known: "Verified") -> Callable[[Any], None]:
    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs

        pairs: Mapping[str, str] = {
            "family": family,
            "about": _words(family) or "nothing beyond transformers' own plan",
            "plan": _plan(family),
            "variants": "; ".join(known.variants[family]),
            **{
                name: f"at tp {_degrees(check.tp)}: {check.how} ({check.test})"
                for name, check in known.checks.items()
            },
        }
        draw_pairs(console, pairs)

    return draw
