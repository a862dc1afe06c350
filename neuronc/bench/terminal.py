"""The document for people at a terminal: what was measured, the numbers, how sure they are."""

from collections.abc import Iterator, Mapping
from typing import Any

from neuronc.bench.terminal_tables import (
    WIDE,
    cells_table,
    classes_tables,
    number,
    share,
    table_of,
    with_interval,
)

Document = Mapping[str, Any]

_LATENCIES = {
    "ttft_ms": "first token (TTFT)",
    "queue_ms": "  waiting for its turn",
    "tpot_ms": "per token (TPOT)",
    "itl_ms": "token gap (ITL)",
    "e2e_ms": "end to end",
}
_PERCENTILES = ("p50", "p90", "p95", "p99")


def render(document: Document, console: Any) -> None:
    """Print ``document``; of an invalid one only why it is."""
    console.print(document["headline"], style="bold")
    if document["status"] == "invalid":
        problems = document["validation"]["problems"]
        console.print(
            f"invalid: {len(problems)} wrong tokens, so no number means anything", style="bold red"
        )
        for problem in problems[:5]:
            console.print(f"  {problem}")
        return
    if document["status"] == "noisy":
        console.print("noisy machine: see the warnings below", style="bold yellow")
    modes = document["modes"]
    wide = console.width >= WIDE
    tables = [
        *(cells_table(modes[name]["cells"], console.width) for name in ("steps",) if name in modes),
        *(
            _runs_table(name, modes[name], wide=wide)
            for name in ("latency", "throughput", "serve")
            if name in modes
        ),
        *(_sweep_table(modes[name], wide=wide) for name in ("sweep",) if name in modes),
        *classes_tables(document, console.width),
        _facts(document),
    ]
    for table in tables:
        if not wide:  # without edges nothing else keeps them apart
            console.print()
        console.print(table)


def _runs_table(name: str, runs: Mapping[str, Any], *, wide: bool) -> Any:
    percentiles = [p for p in _PERCENTILES if wide or p != "p95"]
    columns = ("ms", "mean", "95 % interval", *percentiles, "max", "n")
    table = table_of(_title(name, runs), columns, wide=wide)
    estimates = runs["estimates"]
    for label, found, mean in _rows(runs):
        if found is None:
            table.add_row(label, "-", "-", *("-" for _ in percentiles), "-", "0")
            continue
        cuts = (number(found["percentiles"][p]["value"]) for p in percentiles)
        shown = (number(found["mean"]), "-") if mean is None else with_interval(mean)
        table.add_row(label, *shown, *cuts, number(found["max"]), str(found["n"]))
    table.add_section()
    for metric, label in (
        ("output_tokens_per_s", "output tokens/s"),
        ("output_tokens_per_s_steady", "  in the steady window"),
        ("user_tokens_per_s", "tokens/s for one user"),
        ("user_tokens_per_s_p95", "  95 % get at least"),
        ("requests_per_s", "requests/s"),
        ("goodput_requests_per_s", "good requests/s"),
    ):
        if metric in estimates and estimates[metric]["value"] is not None:
            table.add_row(label, *with_interval(estimates[metric]))
    for metric, label in (("occupancy", "slots in use"), ("pad_waste", "padding in prefill")):
        table.add_row(label, share(estimates[metric]["value"]))
    return table


def _rows(runs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Label, distribution, and the mean over repeats where there is one; None: nothing to show."""
    pooled, stalled, gaps = runs["pooled"], runs["stalls"]["itl_ms"], runs["host_gap_ms"]
    for metric, label in _LATENCIES.items():
        yield label, pooled[metric], runs["estimates"][f"{metric}.mean"]
        if metric == "itl_ms" and stalled is not None:
            yield "  gaps with a prefill", stalled, None
        is_open = runs["rate"] is not None or runs["arrival"] == "trace"
        if metric == "queue_ms" and is_open and pooled.get("late_ms") is not None:
            yield "  sent late", pooled["late_ms"], runs["estimates"]["late_ms.mean"]
    if gaps is not None:
        yield "between programs", gaps, None


def _title(name: str, runs: Mapping[str, Any]) -> str:
    requests = runs["repeats"][0]["num_requests"]
    how = {"closed": f"{runs['concurrency']} at a time", "at once": "all at once"}.get(
        runs["arrival"],
        f"{runs['arrival']} arrivals"
        + ("" if runs["rate"] is None else f", {runs['rate']:g} a second"),
    )
    repeats = len(runs["repeats"])
    return f"{name}: {requests} requests, {how}; {repeats} repeat{'s' * (repeats > 1)}"


def _sweep_table(sweep: Mapping[str, Any], *, wide: bool) -> Any:
    columns = (sweep["by"], "tok/s", "req/s", "TTFT p50", "p99", "TPOT p50", "p99", "SLO met")
    table = table_of(f"sweep by {sweep['by']}", columns, wide=wide)
    marks = {"knee": sweep["knee"], "best": sweep["best"]}
    for point in sweep["points"]:
        runs, at = point["runs"], point["at"]
        names = [mark for mark, found in marks.items() if found and found["at"] == at]
        cuts = [
            number(_cut(runs["pooled"][m], p))
            for m in ("ttft_ms", "tpot_ms")
            for p in ("p50", "p99")
        ]
        rates = (runs["estimates"][m]["value"] for m in ("output_tokens_per_s", "requests_per_s"))
        met = runs["slo"]["joint"]["attainment"] if runs["slo"] else None
        label = " ".join([f"{at:g}", *names])
        table.add_row(label, *(number(rate) for rate in rates), *cuts, share(met))
    return table


def _cut(distribution: Mapping[str, Any] | None, percentile: str) -> float | None:
    return None if distribution is None else distribution["percentiles"][percentile]["value"]


def _facts(document: Document) -> Any:
    from rich.table import Table

    workload, load, checked = document["workload"], document["load"], document["validation"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    lengths = f"{workload['prompt_tokens']} prompt, {workload['new_tokens']} new tokens"
    table.add_row("workload", f"{lengths}, seed {workload['seed']}")
    table.add_row("tokens", _checked(checked))
    slowest = max(_slow_steps(document["modes"]), key=lambda s: s["times_median"], default=None)
    if slowest is not None:
        times = f"{number(slowest['ms'])} ms, {slowest['times_median']:.1f} times its median"
        table.add_row("slowest step", f"{slowest['class']}: {times} ({slowest['likely']})")
    table.add_row("load time", f"{load['load_s']:.2f} s")
    table.add_row("peak memory", f"{load['peak_rss_bytes'] / 1e9:.2f} GB")
    host = document["environment"]
    threads = host.get("threads_visible") or "unknown"
    table.add_row("host", f"{host.get('cpu_model') or 'unknown CPU'}, {threads} threads")
    table.add_row("artifact", document["fingerprint"]["artifact_digest"])
    return table


def _slow_steps(modes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("latency", "throughput", "serve"):
        yield from modes.get(name, {"slowest_steps": ()})["slowest_steps"]
    for point in modes.get("sweep", {"points": ()})["points"]:
        yield from point["runs"]["slowest_steps"]


def _checked(found: Mapping[str, Any]) -> str:
    """What the tokens of timed runs were held against."""
    total, compared = found["tokens_checked"], found["tokens_with_reference"]
    others = found["tokens_not_repeated"]
    alike = f"but for {others} requests alike in all runs" if others else "alike in all runs"
    told = [f"{total:,}, {alike}"]
    if found.get("requests"):
        checked = f"{found['requests_checked']:,} of {found['requests']:,} timed requests"
        told.append(f"{checked} checked whole against answers made alone or the record")
    return "; ".join([*told, f"{compared:,} tokens compared with the original model's"])
