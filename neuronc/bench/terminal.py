"""The document for people at a terminal: what was measured, the numbers, how sure they are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

_LATENCIES = {
    "ttft_ms": "first token (TTFT)",
    "queue_ms": "  waiting for its turn",
    "tpot_ms": "per token (TPOT)",
    "itl_ms": "token gap (ITL)",
    "e2e_ms": "end to end",
}
_PERCENTILES = ("p50", "p90", "p95", "p99")
_WIDE = 100
"""Columns of a terminal that shows every percentile, with room between; fewer show p95 nowhere."""


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
    wide = console.width >= _WIDE
    tables = [
        *(_steps_table(modes[name]["cells"], wide=wide) for name in ("steps",) if name in modes),
        *(
            _runs_table(name, modes[name], wide=wide)
            for name in ("latency", "throughput", "serve")
            if name in modes
        ),
        *(_sweep_table(modes[name], wide=wide) for name in ("sweep",) if name in modes),
        _facts(document),
    ]
    for table in tables:
        if not wide:  # without edges nothing else keeps them apart
            console.print()
        console.print(table)


def _table(title: str, columns: Sequence[str], *, wide: bool) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    if not wide:  # one blank between columns, so that 80 hold all digits
        table.padding, table.show_edge = (0, 0), False
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _steps_table(cells: Sequence[Mapping[str, Any]], *, wide: bool) -> Any:
    columns = ("ms", "slots", "p50", "95 % interval", "p99", "max", "n", "tok/s", "MBU", "MFU")
    table = _table("programs alone", columns, wide=wide)
    for cell in cells:
        found = cell["ms"]["percentiles"]
        table.add_row(
            cell["class"],
            str(cell["active_slots"]),
            *_with_interval(found["p50"]),
            number(found["p99"]["value"]),
            number(cell["ms"]["max"]),
            str(cell["n"]),
            number(cell["tokens_per_s"]),
            share(cell["mbu"]),
            share(cell["mfu"]),
        )
    return table


def _runs_table(name: str, runs: Mapping[str, Any], *, wide: bool) -> Any:
    percentiles = [p for p in _PERCENTILES if wide or p != "p95"]
    columns = ("ms", "mean", "95 % interval", *percentiles, "max", "n")
    table = _table(_title(name, runs), columns, wide=wide)
    estimates = runs["estimates"]
    for metric, label in _LATENCIES.items():
        pooled = runs["pooled"][metric]
        if pooled is None:
            table.add_row(label, "-", "-", *("-" for _ in percentiles), "-", "0")
            continue
        cuts = (number(pooled["percentiles"][p]["value"]) for p in percentiles)
        mean = _with_interval(estimates[f"{metric}.mean"])
        table.add_row(label, *mean, *cuts, number(pooled["max"]), str(pooled["n"]))
    for label, found in (
        ("  gaps with a prefill", runs["stalls"]["itl_ms"]),
        ("between programs", runs["host_gap_ms"]),
    ):
        if found is not None:
            cuts = (number(found["percentiles"][p]["value"]) for p in percentiles)
            table.add_row(
                label, number(found["mean"]), "-", *cuts, number(found["max"]), str(found["n"])
            )
    table.add_section()
    for metric, label in (
        ("output_tokens_per_s", "output tokens/s"),
        ("output_tokens_per_s_steady", "  in the steady window"),
        ("requests_per_s", "requests/s"),
        ("goodput_requests_per_s", "good requests/s"),
    ):
        if metric in estimates and estimates[metric]["value"] is not None:
            table.add_row(label, *_with_interval(estimates[metric]))
    for metric, label in (("occupancy", "slots in use"), ("pad_waste", "padding in prefill")):
        table.add_row(label, share(estimates[metric]["value"]))
    return table


def _title(name: str, runs: Mapping[str, Any]) -> str:
    requests = runs["repeats"][0]["num_requests"]
    how = {"closed": f"{runs['concurrency']} at a time", "at once": "all at once"}.get(
        runs["arrival"], f"{runs['arrival']} arrivals, {runs['rate']} a second"
    )
    return f"{name}: {requests} requests, {how}; {len(runs['repeats'])} repeats"


def _sweep_table(sweep: Mapping[str, Any], *, wide: bool) -> Any:
    columns = (sweep["by"], "tok/s", "req/s", "TTFT p50", "p99", "TPOT p50", "p99", "SLO met")
    table = _table(f"sweep by {sweep['by']}", columns, wide=wide)
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


def _with_interval(found: Mapping[str, Any]) -> tuple[str, str]:
    if found["value"] is None:
        return "-", "-"
    low, high = found["low"], found["high"]
    known = low is not None and high is not None
    return number(found["value"]), f"{number(low)} to {number(high)}" if known else "-"


def number(value: float | None) -> str:
    """Three digits or more in at most six characters up to 999999; ``-`` where undefined."""
    if value is None:
        return "-"
    size = abs(value)
    return f"{value:.{3 if size < 1 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


def share(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{100 * value:.0f} %"
