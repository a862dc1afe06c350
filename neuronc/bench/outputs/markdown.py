"""A short result for a pull request: what was measured, the numbers people quote, the caveats."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neuronc.bench.outputs.reading import (
    NOT_DEFINED,
    Document,
    NamedRuns,
    is_invalid,
    named_runs,
    short,
    verdict,
    with_interval,
)

# metric, label, factor
ROWS = (
    ("output_tokens_per_s", "output tokens/s", 1.0),
    ("user_tokens_per_s", "tokens/s for one user", 1.0),
    ("requests_per_s", "requests/s", 1.0),
    ("goodput_requests_per_s", "goodput, requests/s", 1.0),
    ("attainment", "SLO attainment, %", 100.0),
    ("ttft_ms.p50", "TTFT p50, ms", 1.0),
    ("ttft_ms.p99", "TTFT p99, ms", 1.0),
    ("tpot_ms.p50", "TPOT p50, ms", 1.0),
    ("itl_ms.p99", "ITL p99, ms", 1.0),
    ("e2e_ms.p50", "end to end p50, ms", 1.0),
    ("occupancy", "slot occupancy, %", 100.0),
)
SPECIAL = "\\`*_[]|#~@"


def markdown_lines(document: Document) -> Iterator[str]:
    """Heading, verdict, tables of results, caveats; an invalid run has no table."""
    model, made = document["fingerprint"]["model"], document["fingerprint"]
    name = escape(model["source"] or model["model_type"])
    yield f"### {name}: {escape(document['headline'])}"
    yield ""
    found = verdict(document)
    if found is not None:
        yield f"> **{escape(found)}**"
        yield ""
    if not is_invalid(document):
        yield from _results(document)
    yield (
        f"{escape(made['dtype'])}, tp {made['tp']}, {made['batch_size']} slots of "
        f"{made['max_length']} tokens; {escape(_workload(document['workload']))}; artifact "
        f"`{made['artifact_digest'][:12]}`, {'' if made['verified'] else 'not '}verified; "
        f"{escape(str(document['environment'].get('cpu_model') or 'CPU unknown'))}."
    )
    if document["caveats"]:
        yield ""
        yield "Caveats:"
        yield ""
        yield from (f"- {escape(caveat)}" for caveat in document["caveats"])


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{char}" if char in SPECIAL else char for char in flat)


def _results(document: Document) -> Iterator[str]:
    runs = tuple(named_runs(document))
    if runs:
        headings = [named.label for named in runs]
        yield from _table(["", *headings], [row for row in _metric_rows(runs) if row])
        repeats = sorted({len(named.runs["repeats"]) for named in runs})
        counts = " or ".join(map(str, repeats))
        yield "One repeat." if repeats == [1] else f"Mean over {counts} repeats (95 % interval)."
        yield ""
    cells = document["modes"].get("steps", {"cells": ()})["cells"]
    if cells:
        headings = ["step", "slots", "context", "p50, ms", "tokens/s", "predicted, ms"]
        headings += ["measured / predicted", "MBU, %", "MFU, %"]
        yield from _table(headings, [_cell_row(cell) for cell in cells])


def _metric_rows(runs: Sequence[NamedRuns]) -> Iterator[list[str]]:
    for metric, label, factor in ROWS:
        found = [named.runs["estimates"].get(metric) for named in runs]
        if any(estimate and estimate["value"] is not None for estimate in found):
            yield [label, *(with_interval(e, scale=factor) if e else NOT_DEFINED for e in found)]


def _cell_row(cell: Mapping[str, Any]) -> list[str]:
    used = (None if cell[key] is None else 100 * cell[key] for key in ("mbu", "mfu"))
    middle = with_interval(cell["ms"]["percentiles"]["p50"])
    place = [cell["class"], str(cell["active_slots"]), str(cell["context"])]
    predicted = (cell["floor_ms"], cell.get("over_floor"))
    return [*place, middle, short(cell["tokens_per_s"]), *map(short, (*predicted, *used))]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|-|{'-:|' * (len(headings) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _workload(workload: Mapping[str, Any]) -> str:
    prompt, new, arrival = (workload[key] for key in ("prompt_tokens", "new_tokens", "arrival"))
    arrivals = "" if arrival == "by mode" else f" {arrival} arrivals,"
    return (
        f"{workload['num_requests']} requests, {prompt} prompt and {new} new tokens,{arrivals}"
        f" seed {workload['seed']}"
    )
