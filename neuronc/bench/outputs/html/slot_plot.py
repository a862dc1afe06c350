"""Who had which slot when, and who waited for whose prefill."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuronc.bench.outputs.html.figure import (
    BAD,
    QUIET,
    Absent,
    Figure,
    Plot,
    class_colors,
    class_order,
    hover,
    label,
)
from neuronc.bench.outputs.reading import NS_PER_MS, Document, Json

NS_PER_S = 1e9
STALLED = "stalled by a prefill"
WINDOW_S = 4.0  # of a longer run this much is shown at first
TITLE = "Who had which slot, and who waited for whose prefill"


@dataclass(kw_only=True, slots=True)
class Bar:
    """A stretch of one slot: a prefill, decode steps without a break, or a stall."""

    kind: str
    slot: int
    begin_ns: int
    end_ns: int
    request: str
    steps: int = 1
    last: int = 0
    note: str = ""


def slot_plot(document: Document) -> Plot:
    """Lanes of slots over time; of a long run the neighbourhood of its longest stall."""
    timeline = document["timeline"]
    if timeline is None or not timeline["steps"]:
        return Absent(title=TITLE, sentence="The document holds no timeline of this run.")
    bars = list(slot_bars(timeline["steps"]))
    groups: defaultdict[str, list[Bar]] = defaultdict(list)
    for bar in bars:
        groups[bar.kind].append(bar)
    colors = class_colors(document)
    order = class_order(kind for kind in groups if kind != STALLED)
    traces = [_bars(kind, groups[kind], colors.get(kind, QUIET)) for kind in order]
    if STALLED in groups:
        traces.append(_bars(STALLED, groups[STALLED], "var(--stall)"))
    end_s = timeline["steps"][-1]["end_ns"] / NS_PER_S
    begin, width = _window(groups[STALLED] or bars, end_s)
    more = f" Shown first: {width:.3g} of {end_s:.3g} s." if width < end_s else ""
    cut = " Only the first steps of the run were kept." if timeline["truncated"] else ""
    return Figure(
        id="slots",
        title=TITLE,
        sentence="A lane is a slot; empty is idle. Warm colours are prefills (one prompt at a "
        "time), cool ones decode (all slots at once). Hatched: the slot held a request, but stood "
        f"still for the prefill of another; point at it to see whose.{more}{cut}",
        traces=[*traces, *_marks(timeline)],
        layout=_layout(timeline["batch_size"], begin, width),
        height=150 + _lane_height(timeline["batch_size"]) * (timeline["batch_size"] + 1),
        pages=(width, end_s) if width < end_s else None,
    )


def _lane_height(num_slots: int) -> int:
    return max(18, min(46, 500 // num_slots))


def slot_bars(steps: Sequence[Mapping[str, Any]]) -> Iterator[Bar]:
    """The stretches of all slots; decode steps of a request that follow one another are one."""
    last_step = {r: index for index, step in enumerate(steps) for r in step["request_ids"]}
    running: dict[int, Bar] = {}
    holder: dict[int, str] = {}
    for index, step in enumerate(steps):
        for slot, request in zip(step["slots"], step["request_ids"], strict=True):
            holder[slot] = request
            bar = running.get(slot)
            if _continues(bar, step, request, index):
                assert bar is not None
                bar.end_ns, bar.steps, bar.last = step["end_ns"], bar.steps + 1, index
                continue
            if bar is not None:
                yield bar
            running[slot] = _bar(step, slot, request, index)
        if step["phase"] == "prefill":
            yield from _stalls(step, {s: r for s, r in holder.items() if last_step[r] > index})
    yield from running.values()


def _continues(bar: Bar | None, step: Mapping[str, Any], request: str, index: int) -> bool:
    return (
        bar is not None
        and bar.request == request
        and bar.kind == step["class"]
        and bar.last == index - 1
        and step["phase"] == "decode"
    )


def _bar(step: Mapping[str, Any], slot: int, request: str, index: int) -> Bar:
    padding = step["bucket"] - step["num_tokens"]
    note = f"{step['num_tokens']} tokens and {padding} of padding"
    return Bar(
        kind=step["class"],
        slot=slot,
        begin_ns=step["start_ns"],
        end_ns=step["end_ns"],
        request=request,
        last=index,
        note=note if step["phase"] == "prefill" else "",
    )


def _stalls(step: Mapping[str, Any], holders: Mapping[int, str]) -> Iterator[Bar]:
    blame = f"for the {step['class']} of {', '.join(step['request_ids'])}"
    for slot, request in holders.items():
        if slot not in step["slots"]:
            begin, end = step["start_ns"], step["end_ns"]
            yield Bar(
                kind=STALLED, slot=slot, begin_ns=begin, end_ns=end, request=request, note=blame
            )


def _bars(kind: str, bars: Sequence[Bar], color: str) -> Json:
    marker: Json = {"color": color, "line": {"width": 0}}
    if kind == STALLED:
        pattern = {"shape": "/", "fgcolor": color, "bgcolor": "var(--stall, 0.12)", "size": 5}
        marker = {"color": color, "pattern": pattern | {"solidity": 0.35}}
    return {
        "type": "bar",
        "orientation": "h",
        "y": [bar.slot for bar in bars],
        "base": [bar.begin_ns / NS_PER_S for bar in bars],
        "x": [(bar.end_ns - bar.begin_ns) / NS_PER_S for bar in bars],
        "width": 0.72,
        "marker": marker,
        "name": kind,
        "hoverinfo": "text",
        "hovertext": [_told(bar) for bar in bars],
        "textposition": "none",
    }


def _told(bar: Bar) -> str:
    ms = (bar.end_ns - bar.begin_ns) / NS_PER_MS
    who = f"<b>{label(bar.request)}</b> in slot {bar.slot}"
    when = f"at {bar.begin_ns / NS_PER_S:.3f} s"
    if bar.kind == STALLED:
        return hover(who, f"waits {ms:.1f} ms {label(bar.note)}", when)
    if bar.note:
        return hover(who, f"{bar.kind}: {ms:.1f} ms", bar.note, when)
    return hover(who, f"{bar.kind}: {bar.steps} steps, {ms / bar.steps:.1f} ms each", when)


def _waiting(requests: Sequence[Mapping[str, Any]]) -> Iterator[Json]:
    """How many requests wait for a slot, as a line within the lane of arrivals."""
    admitted = [r for r in requests if r["admit_ns"] is not None]
    changes = [(r["sched_ns"], 1) for r in admitted] + [(r["admit_ns"], -1) for r in admitted]
    count, count_at = 0, dict[int, int]()
    for at_ns, change in sorted(changes):
        count += change
        count_at[at_ns] = count  # of changes at one moment the last counts
    counts = [(at_ns / NS_PER_S, count) for at_ns, count in count_at.items()]
    most = max(count_at.values(), default=0)
    if most > 1:
        yield {
            "x": [at_s for at_s, _ in counts],
            "y": [-0.62 - 0.76 * count / most for _, count in counts],
            "mode": "lines",
            "line": {"shape": "hv", "width": 1.5, "color": QUIET},
            "name": f"waiting (up to {most})",
            "hoverinfo": "text",
            "hovertext": [f"{count} waiting" for _, count in counts],
        }


def _marks(timeline: Mapping[str, Any]) -> Iterator[Json]:
    requests = timeline["requests"]
    yield from _waiting(requests)
    yield {
        "x": [r["sched_ns"] / NS_PER_S for r in requests],
        "y": [-1] * len(requests),
        "mode": "markers",
        "marker": {"symbol": "line-ns-open", "size": 14, "color": "var(--ink)"},
        "name": "arrival",
        "hoverinfo": "text",
        "hovertext": [
            hover(f"<b>{label(r['request_id'])}</b> arrives", f"{r['prompt_tokens']} prompt tokens")
            for r in requests
        ],
    }
    failed = [r for r in requests if r["finish"] == "failed"]
    if failed:
        slots = _slots_of(timeline["steps"])
        ends = [(r["token_times_ns"] or [r["sched_ns"]])[-1] for r in failed]
        yield {
            "x": [end / NS_PER_S for end in ends],
            "y": [slots.get(r["request_id"], -1) for r in failed],
            "mode": "markers",
            "marker": {"symbol": "x", "size": 11, "color": BAD},
            "name": "failed",
            "hoverinfo": "text",
            "hovertext": [
                hover(f"<b>{label(r['request_id'])}</b> failed", label(r["error"])) for r in failed
            ],
        }


def _slots_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    pairs = (zip(step["request_ids"], step["slots"], strict=True) for step in steps)
    return {request: slot for step in pairs for request, slot in step}


def _window(bars: Sequence[Bar], end_s: float) -> tuple[float, float]:
    if end_s <= 1.5 * WINDOW_S:
        return 0.0, end_s
    longest = max(bars, key=lambda bar: bar.end_ns - bar.begin_ns)
    begin = longest.begin_ns / NS_PER_S - WINDOW_S / 2
    return min(max(0.0, begin), end_s - WINDOW_S), WINDOW_S


def _layout(num_slots: int, begin: float, width: float) -> Json:
    return {
        "barmode": "overlay",
        "xaxis": {
            "title": {"text": "time since the begin of the run, s"},
            "range": [begin - 0.01 * width, begin + 1.01 * width],
        },
        "yaxis": {
            "tickvals": [-1, *range(num_slots)],
            "ticktext": ["arrivals", *(f"slot {slot}" for slot in range(num_slots))],
            "range": [num_slots - 0.5, -1.5],
            "fixedrange": True,
            "showgrid": False,
            "zeroline": False,
        },
        "dragmode": "pan",
    }
