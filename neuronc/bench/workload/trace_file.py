"""Requests of a JSONL file: a line each, of our names or of Mooncake's traces.

{"prompt_tokens": 812, "new_tokens": 64, "arrival_s": 0.25}
{"input_length": 812, "output_length": 64, "timestamp": 250}      (timestamp in ms)
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from neuronc.bench.workload.shapes import RequestShape
from neuronc.checkpoint.paths import shown
from neuronc.errors import InputError, UsageError

_NAMES = {
    "prompt_tokens": ("prompt_tokens", "input_length"),
    "new_tokens": ("new_tokens", "output_length"),
}
MAX_ARRIVAL = 1e15
"""Larger than any clock in ms since 1970."""


def read_trace(path: Path) -> tuple[RequestShape, ...]:
    """The requests of ``path``, by arrival; the first arrival is moved to 0.

    Raises:
        UsageError: the file cannot be read.
        InputError: a line is no such request; it is named by number.
    """
    try:
        lines = path.read_text("utf-8").split("\n")  # str.splitlines ends lines within strings, too
    except (OSError, UnicodeDecodeError) as error:
        message = f"the trace {path} cannot be read: {error}"
        raise UsageError(message, hint="pass a JSONL file, a request per line") from error
    found = [_parse(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        message = f"the trace {path} has no requests"
        raise InputError(message, hint="a line is {'prompt_tokens': 812, 'new_tokens': 64}")
    timed = [shape.arrival_s for shape in found if shape.arrival_s is not None]
    if 0 < len(timed) < len(found):
        message = f"the trace {path} gives arrival times for {len(timed)} of {len(found)} requests"
        raise InputError(message, hint="give all of them one, or none")
    if not timed:
        return tuple(found)
    found.sort(key=lambda shape: shape.arrival_s or 0.0)
    begin_s = min(timed)
    return tuple(
        RequestShape(
            prompt_tokens=s.prompt_tokens,
            new_tokens=s.new_tokens,
            arrival_s=(s.arrival_s or 0.0) - begin_s,
        )
        for s in found
    )


def trace_lines(requests: Iterable[RequestShape]) -> Iterator[str]:
    """A line for each of ``requests``, as `read_trace` reads them."""
    for shape in requests:
        line: dict[str, float] = {
            "prompt_tokens": shape.prompt_tokens,
            "new_tokens": shape.new_tokens,
        }
        if shape.arrival_s is not None:
            line["arrival_s"] = shape.arrival_s
        yield json.dumps(line)


def _parse(path: Path, number: int, line: str) -> RequestShape:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, f"is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise _damaged(path, number, "is not a JSON object")
    return RequestShape(
        prompt_tokens=_length(path, number, data, "prompt_tokens"),
        new_tokens=_length(path, number, data, "new_tokens"),
        arrival_s=_arrival_s(path, number, data),
    )


def _length(path: Path, number: int, data: dict[str, Any], name: str) -> int:
    value = next((data[key] for key in _NAMES[name] if key in data), None)
    if type(value) is not int or value < 1:
        raise _damaged(path, number, f"has {name} {shown(value)}; expected an integer from 1")
    return value


def _arrival_s(path: Path, number: int, data: dict[str, Any]) -> float | None:
    value, scale = data.get("arrival_s"), 1.0
    if value is None:
        value, scale = data.get("timestamp"), 1e-3
    if value is None:
        return None
    # Bounded: a whole number of JSON may be too large for a float, and no run takes longer.
    if type(value) not in (int, float) or not 0 <= value <= MAX_ARRIVAL:
        raise _damaged(
            path, number, f"has arrival {shown(value)}; expected a time from 0 to {MAX_ARRIVAL:g}"
        )
    return float(value * scale)


def _damaged(path: Path, number: int, what: str) -> InputError:
    message = f"{path}, line {number}, {what}"
    return InputError(message, hint='a line is {"prompt_tokens": 812, "new_tokens": 64}')
