"""neuronc models: which model families are covered, and by which test."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report

if TYPE_CHECKING:
    from neuronc.families.verified import Task, Verified

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
    from neuronc.families.sweep import count_ok, swept
    from neuronc.families.verified import find_verified, verified

    known = verified()
    if name in swept() and name not in known.families():
        return _report_swept(str(name))
    shown = known.families() if name is None else {name: find_verified(name)}
    data: dict[str, object] = {
        "checks": {
            task: {key: asdict(check) for key, check in checks.items()}
            for task, checks in known.checks.items()
        },
        "families": {family: _about(family, *found) for family, found in shown.items()},
        "sweep": {"entries": len(swept()), "ok": count_ok()},
    }
    draw = _draw_list(known) if name is None else _draw_one(name, *shown[name], known)
    return Report(command="models", data=data, text=draw)


def _about(family: str, task: "Task", variants: tuple[str, ...]) -> dict[str, Any]:
    from neuronc.families.sweep import swept

    about, plan = _words(family, task), _plan(family, task)
    found = {"task": task, "variants": list(variants), "about": about, "plan": plan}
    return {**found, "sweep": dict(swept().get(family, {}))}


def _report_swept(family: str) -> Report:
    """A family that no test covers: what the sweep saw of it."""
    from neuronc.families.sweep import swept

    answers = dict(swept()[family])
    data: dict[str, object] = {"families": {family: {"task": "generate", "sweep": answers}}}

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs

        told = {tp: f"a tiny random clone: {answer}" for tp, answer in answers.items()}
        draw_pairs(console, {"family": family, "tests": "none; only make sweep", **told})

    return Report(command="models", data=data, text=draw)


def _words(family: str, task: "Task") -> str:
    """What the family's file says of it; empty for one without a file."""
    describe = _own_file(family, task)
    if describe is None:
        return ""
    import importlib

    words = importlib.import_module(describe).__doc__ or ""
    return " ".join(words.split("\n\n")[0].split())


def _plan(family: str, task: "Task") -> str:
    own = _own_file(family, task)
    return own.replace(".", "/") + ".py" if own else "transformers' tensor-parallel plan"


def _own_file(family: str, task: "Task") -> str | None:
    from neuronc.families.find import file_of

    return file_of(family, embeds=task == "embed")


def _degrees(tp: tuple[int, ...]) -> str:
    is_run = len(tp) > 2 and tp == tuple(range(tp[0], tp[-1] + 1))
    return f"{tp[0]}-{tp[-1]}" if is_run else ", ".join(map(str, tp))


def _draw_list(known: "Verified") -> Callable[[Any], None]:
    from neuronc.families.sweep import count_ok, swept

    def draw(console: Any) -> None:
        from rich.table import Table

        table = Table()
        for title in ("family", "task", *_tp_titles(known), "variants"):
            table.add_column(title, no_wrap=title != "variants")
        for family, (task, variants) in known.families().items():
            degrees = [_degrees(check.tp) for check in known.checks[task].values()]
            others = [variant.removeprefix(f"{family}, ") for variant in variants[1:]]
            table.add_row(family, task, *degrees, "; ".join(others))
        console.print(table)
        console.print(f"{len(known.families())} families; each check against transformers:")
        for task, checks in known.checks.items():
            for name, check in checks.items():
                console.print(f"  {task}, {name}: {check.how} ({check.test})", soft_wrap=True)
        counts = ", ".join(f"{number} at {tp}" for tp, number in count_ok().items())
        what = f"{len(swept())} causal LMs of transformers, as tiny random clones"
        console.print(f"{what}: {counts} match and lower (make sweep)", soft_wrap=True)

    return draw


def _tp_titles(known: "Verified") -> list[str]:
    return [f"{name}, tp" for name in known.checks["generate"]]


def _draw_one(
    family: str, task: "Task", variants: tuple[str, ...], known: "Verified"
) -> Callable[[Any], None]:
    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs

        pairs: Mapping[str, str] = {
            "family": family,
            "task": task,
            "about": _words(family, task) or "nothing beyond transformers' own plan",
            "plan": _plan(family, task),
            "variants": "; ".join(variants),
            **{
                name: f"at tp {_degrees(check.tp)}: {check.how} ({check.test})"
                for name, check in known.checks[task].items()
            },
        }
        draw_pairs(console, pairs)

    return draw
