"""The parts of the page without a plot: tables, and all that is needed to judge the numbers."""

from collections.abc import Mapping
from typing import Any

from neuronc.bench.outputs.html.compare_plot import differences
from neuronc.bench.outputs.html.markup import (
    bullets,
    facts,
    flat,
    folded,
    panel,
    paragraph,
    section,
    table,
)
from neuronc.bench.outputs.reading import Document, representative_runs, short, with_interval


def slowest_steps(document: Document) -> str:
    """The slowest steps of each mode with what was going on."""
    made = []
    for named in representative_runs(document):
        rows = [
            (
                step["class"],
                step["likely"],
                short(step["ms"]),
                f"{step['times_median']:.2f}",
                f"{step['repeat'] + 1}",
                f"{step['at_s']:.2f}",
                step["active_slots"],
                *(_count(step[key]) for key in ("involuntary_switches", "major_faults")),
                _count(step["minor_faults"]),
                short(step["gc_ms"], absent="?"),
            )
            for step in named.runs["slowest_steps"]
        ]
        body = table(_SLOW_HEADINGS, rows, texts=2) if rows else paragraph("No step was recorded.")
        made.append(panel(f"Slowest steps ({named.label})", body))
    return (
        section(
            "slowest",
            "The slowest steps, and what was going on",
            *made,
            sentence="Compiled programs take the same time each time; what is slower has a cause. "
            "What the system counted during a step is in its row, and the likeliest cause beside it.",
        )
        if made
        else ""
    )


def all_estimates(document: Document) -> str:
    """Every metric of each mode, folded away."""
    made = []
    for named in representative_runs(document):
        rows = [
            (
                metric,
                short(estimate["value"]),
                short(estimate["low"], absent=""),
                short(estimate["high"], absent=""),
                estimate["n"],
                estimate["reason"] or "",
            )
            for metric, estimate in named.runs["estimates"].items()
        ]
        headings = ("metric", "mean of repeats", "low", "high", "repeats", "no interval because")
        made.append(folded(f"All metrics ({named.label})", table(headings, rows)))
    return "".join(made)


_SLOW_HEADINGS = (
    "step",
    "likely cause",
    "ms",
    "times median",
    "repeat",
    "at second",
    "slots",
    "involuntary switches",
    "major faults",
    "minor faults",
    "GC ms",
)


_CELL_HEADINGS = (
    "program",
    "slots",
    "context",
    "median (interval), ms",
    "tokens/s",
    "predicted, ms",
    "measured / predicted",
    "bandwidth, %",
    "arithmetic, %",
    "n",
)


def cell_table(document: Document) -> str:
    """Every prefill bucket and decode cell of the steps mode; empty without it."""
    cells = document["modes"].get("steps", {"cells": ()})["cells"]
    rows = [
        (
            cell["class"],
            cell["active_slots"],
            cell["context"],
            with_interval(cell["ms"]["percentiles"]["p50"]),
            short(cell["tokens_per_s"]),
            short(cell["floor_ms"], absent="?"),
            short(cell.get("over_floor"), absent="?"),
            _percent(cell["mbu"]),
            _percent(cell["mfu"]),
            cell["n"],
        )
        for cell in cells
    ]
    if not rows:
        return ""
    said = "Predicted is what the roof allows, so no program is faster; the shares say how much of it was used."
    made = table(_CELL_HEADINGS, rows)
    return panel("Every program by itself", made, paragraph(said, "note"))


_CHECKED = {
    "requests": "timed requests",
    "requests_checked": "of them, compared whole",
    "tokens_checked": "tokens",
    "tokens_alone": "compared with answers made alone",
    "tokens_with_reference": "compared with the original model's",
    "tokens_within_margin": "other ones, at a near tie",
    "tokens_not_repeated": "not the same in each run",
    "source": "held against",
}


def trust(document: Document) -> str:
    """Noise, validation and caveats."""
    noise, checked = document["noise"], document["validation"]
    counts = {label: checked[key] for key, label in _CHECKED.items() if key in checked}
    verdict = "The machine was noisy:" if noise["noisy"] else "The machine was quiet."
    if not noise["noisy"] and noise["findings"]:
        verdict = "The machine was not noisy. To be noted:"
    valid = "Every token was as it should be." if checked["valid"] else "The output was wrong:"
    return section(
        "trust",
        "How far to trust it",
        "<div class=grid>",
        panel("Caveats", bullets(document["caveats"], "None.")),
        panel(
            "Noise of the machine",
            paragraph(verdict, "strong"),
            bullets(noise["findings"], "Nothing was found before or after the run."),
            _before_and_after(noise["before"], noise["after"]),
        ),
        panel(
            "Validation of the output",
            paragraph(valid, "strong"),
            bullets(checked["problems"], "No problem was found."),
            facts(counts),
        ),
        "</div>",
    )


def _before_and_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    here, there = flat(before), flat(after)
    rows = [(name, here.get(name, "?"), there.get(name, "?")) for name in {**here, **there}]
    return table(("", "before", "after"), rows, wrap=True) if rows else ""


def about(document: Document) -> str:
    """Definitions, workload, artifact and machine."""
    machine = document["machine"]
    peaks = facts(machine) if machine else paragraph("The peaks of the machine were not measured.")
    return section(
        "about",
        "What was measured, where, and how it is defined",
        "<div class=grid>",
        panel("Workload", facts(document["workload"], absent="none")),
        panel("Artifact", facts(document["fingerprint"], absent="none")),
        panel("Environment", facts({"ran_on": document["ran_on"], **document["environment"]})),
        panel("Loading", facts(document["load"])),
        panel("Peaks of the machine", peaks),
        "</div>",
        panel(
            "Definitions",
            table(("name", "is"), document["definitions"].items(), texts=2, wrap=True),
        ),
    )


def differing(document: Document, other: Document) -> str:
    """What besides the numbers differs between the runs."""
    rows = differences(document, other)
    if not rows:
        text = "Artifact, workload and environment are the same in both documents."
        return panel("What else differs", paragraph(text))
    return panel(
        "What else differs", table(("setting", "this run", "other run"), rows, texts=3, wrap=True)
    )


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.0f}"
