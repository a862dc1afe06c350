"""The numbers people quote, each with its interval and what it means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neuronc.bench.outputs.html.words import words_of
from neuronc.bench.outputs.reading import (
    DASH,
    Document,
    NamedRuns,
    representative_runs,
    short,
    tail_of,
)

SHOWN = {
    "latency": ("ttft_ms.p50", "tpot_ms.p50", "user_tokens_per_s", "e2e_ms.p50"),
    "throughput": ("output_tokens_per_s", "requests_per_s", "occupancy"),
    "serve": (
        "goodput_requests_per_s",
        "attainment",
        "output_tokens_per_s",
        "user_tokens_per_s_p95",
        "ttft_ms.p99",
        "tpot_ms.p99",
    ),
    "sweep": ("goodput_requests_per_s", "output_tokens_per_s", "ttft_ms.p99", "tpot_ms.p99"),
}
MODES = {
    "latency": "One request at a time",
    "throughput": "All requests at once",
    "serve": "Requests as they arrive",
    "sweep": "Under rising load",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One number.

    Attributes:
        number: As printed, without its unit.
        interval: What is known about its uncertainty, or why nothing is.
    """

    label: str
    number: str
    unit: str
    interval: str
    says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CardGroup:
    """Cards of one mode."""

    title: str
    sentence: str
    cards: tuple[Card, ...]


def card_groups(document: Document) -> Iterator[CardGroup]:
    """A group for each mode that ran with requests."""
    for named in representative_runs(document):
        cards = [_metric_card(named, metric) for metric in SHOWN[named.mode]]
        if named.mode == "sweep":
            cards = [*_sweep_cards(document["modes"]["sweep"]), *cards]
        cards += [_stall_card(named.runs), _jitter_card(named), _gap_card(named.runs)]
        made = tuple(card for card in cards if card is not None)
        yield CardGroup(title=_title(named), sentence=_sentence(named), cards=made)


def _title(named: NamedRuns) -> str:
    return f"{MODES[named.mode]} ({named.label})"


def _sentence(named: NamedRuns) -> str:
    runs = named.runs
    repeats = runs["repeats"]
    sent, failed = (sum(run[key] for run in repeats) for key in ("num_requests", "num_failed"))
    load = {"closed": f"{runs['concurrency']} at a time", "at once": "All at once"}.get(
        runs["arrival"], f"Arrivals: {runs['arrival']}"
    )
    if runs["rate"]:
        load += f", {runs['rate']:g} a second"
    count = f"{len(repeats)} repeat{'s' if len(repeats) > 1 else ''}"
    state = "converged" if runs["converged"] else "not converged"
    return f"{load}; {count}, {sent} requests, {failed} failed; {state}: {runs['why_stopped']}."


def _metric_card(named: NamedRuns, metric: str) -> Card | None:
    estimate = named.runs["estimates"].get(metric)
    if estimate is None or (estimate["value"] is None and metric.startswith(("good", "att"))):
        return None
    words = words_of(metric)
    if metric == "attainment" and named.runs["slo"]:
        return _attainment_card(named.runs["slo"])
    number = None if estimate["value"] is None else words.scale * estimate["value"]
    return Card(
        label=words.label,
        number=short(number),
        unit=words.unit if number is not None else "",
        interval=_interval(estimate, words.scale),
        says=words.says,
    )


def _interval(estimate: Mapping[str, Any], scale: float) -> str:
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return f"no interval: {estimate['reason']}"
    percent = f"{100 * estimate['confidence']:g} %"
    return f"{percent}: {short(scale * low)} {DASH} {short(scale * high)}"


def _attainment_card(slo: Mapping[str, Any]) -> Card:
    joint, words = slo["joint"], words_of("attainment")
    limits = [
        f"{words_of(name).label} up to {slo[name]:g} ms"
        for name in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
        if name in slo
    ]
    each = [
        f"{name.removesuffix('_ms').upper()} {100 * found['attainment']:.0f} %"
        for name, found in slo["marginal"].items()
        if found["attainment"] is not None
    ]
    alone = f" Each alone: {', '.join(each)}." if each else ""
    share = None if joint["attainment"] is None else 100 * joint["attainment"]
    return Card(
        label=words.label,
        number=short(share),
        unit="%",
        interval=f"{joint['good']:,} of {joint['sent']:,} requests",
        says=f"{' and '.join(limits)}; a failed request did not.{alone}",
    )


def _sweep_cards(sweep: Mapping[str, Any]) -> Iterator[Card]:
    unit = "requests/s" if sweep["by"] == "rate" else "at a time"
    best, knee = sweep["best"], sweep["knee"]
    if best is not None:
        found = best["attainment"]
        yield Card(
            label="largest load that met the objectives",
            number=f"{best['at']:g}",
            unit=unit,
            interval=f"{found['good']} of {found['sent']} requests met them",
            says="beyond it, too many requests come too late",
        )
    if knee is not None:
        yield Card(label="knee", number=f"{knee['at']:g}", unit=unit, interval="", says=knee["why"])


def _jitter_card(named: NamedRuns) -> Card | None:
    decode = {n: s for n, s in named.runs["steps"].items() if n.startswith("decode")}
    if not decode:
        return None
    name = max(decode, key=lambda one: int(decode[one]["count"]))
    tail_name, tail = tail_of(decode[name])
    if tail is None:
        return None
    return Card(
        label=f"jitter of {name}",
        number=f"{tail:.2f}",
        unit="times",
        interval=f"{decode[name]['count']:,} steps",
        says=f"{tail_name} of all steps over the median; 1 is perfectly steady",
    )


def _stall_card(runs: Mapping[str, Any]) -> Card | None:
    stalls = runs["stalls"]
    if not stalls["count"] or stalls["share_of_itl_time"] is None:
        return None
    middle = stalls["itl_ms"] and stalls["itl_ms"]["percentiles"]["p50"]["value"]
    return Card(
        label="stalled by prefills",
        number=short(100 * stalls["share_of_itl_time"]),
        unit="%",
        interval=f"{stalls['count']:,} gaps, median {short(middle)} ms",
        says="of all time between tokens went into gaps that held another request's prefill",
    )


def _gap_card(runs: Mapping[str, Any]) -> Card | None:
    gaps = runs["host_gap_ms"]
    if gaps is None or not gaps["n"]:
        return None
    tail = gaps["percentiles"]["p99"]["value"]
    return Card(
        label="host gap, median",
        number=short(gaps["percentiles"]["p50"]["value"]),
        unit="ms",
        interval=f"p99 {short(tail)} ms, {gaps['n']:,} gaps",
        says="between two program calls: scheduling, sampling and recording",
    )
