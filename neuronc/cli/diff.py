"""neuronc diff: what differs between two artifacts, and what of it forced a compile."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report

if TYPE_CHECKING:
    from neuronc.artifact.diff_programs import ProgramDifference
    from neuronc.artifact.diff_weights import WeightsDifference

EXAMPLES = (
    "neuronc diff before after",
    "neuronc diff before after --json",
)
_SHOWN = 3


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="An artifact or bundle.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    *,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Say what changed from artifact A to B: options, tools, host, programs, weights.

    Per program: the same, compiled again, or another one, and because of which difference. Weights
    are compared by tensor, and never make a program another one. Exit 0 whatever differs.
    """
    from neuronc.artifact.diff import find_differences, open_side
    from neuronc.artifact.diff_programs import compare_programs
    from neuronc.artifact.diff_weights import compare_weights
    from neuronc.cli.progress import make_progress

    sides, manifests = (a, b), (open_side(a), open_side(b))
    differences = find_differences(sides, manifests)
    programs = compare_programs(sides, manifests, differences, progress=make_progress(quiet))
    weights = compare_weights(sides, manifests)
    recompiled = [p.name for p in programs if p.state in ("compiled again", "another program")]
    digests = [manifest.digest for manifest in manifests]
    data: dict[str, object] = {
        "a": {"path": str(a), "artifact_digest": digests[0]},
        "b": {"path": str(b), "artifact_digest": digests[1]},
        "same_artifact": digests[0] == digests[1],
        "differences": [asdict(found) for found in differences],
        "programs": [asdict(found) for found in programs],
        "recompiled": recompiled,
        "forced_by": list(dict.fromkeys(why for program in programs for why in program.because)),
        "weights": asdict(weights),
    }

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_pairs, draw_table

        if digests[0] == digests[1]:
            console.print(f"both are the same artifact, {digests[0]}")
        else:
            pairs = {"A": f"{a}  {digests[0][:16]}", "B": f"{b}  {digests[1][:16]}"}
            draw_pairs(console, {**pairs, **_weights_lines(weights)})
        if differences:
            rows = [(d.kind, d.name, _short(d.a), _short(d.b), d.effect) for d in differences]
            draw_table(console, ("kind", "what", "A", "B", "changes"), rows)
        draw_table(console, ("program", "state", "because", "operators"), _rows(programs))

    return Report(command="diff", data=data, text=draw)


def _rows(programs: "tuple[ProgramDifference, ...]") -> list[tuple[str, ...]]:
    return [
        (p.name, p.state, "; ".join(p.because), _operators(p.operators) or _bytes(p))
        for p in programs
    ]


def _operators(changes: Mapping[str, int]) -> str:
    largest = sorted(changes.items(), key=lambda item: -abs(item[1]))
    told = ", ".join(f"{name} {change:+d}" for name, change in largest[:_SHOWN])
    more = len(largest) - _SHOWN
    return f"{told} and {more} more" if more > 0 else told


def _bytes(program: "ProgramDifference") -> str:
    if program.state == "another program":
        return "the same numbers of each"
    return "other bytes" if program.state == "same" and program.same_bytes is False else ""


def _weights_lines(found: "WeightsDifference") -> dict[str, str]:
    parts = {"changed": found.changed, "reshaped": found.reshaped}
    parts |= {"only in A": found.only_a, "only in B": found.only_b}
    told = [f"{len(names)} {what}, first {names[0]}" for what, names in parts.items() if names]
    same = [f"not compared: {found.unknown}"] if found.unknown else [f"{found.num_same} the same"]
    lines = {"weights": "; ".join(same + told)}
    return {**lines, **({"other files": ", ".join(found.files)} if found.files else {})}


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
