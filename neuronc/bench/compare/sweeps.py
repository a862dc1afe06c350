"""Sweeps as a comparison sees them: runs at each load, and each repeat of the whole as one run.

How far the load can go is one number of a whole sweep, so every repeat of it gives one: `find_knee`
and `find_best` of the repeats of that number at all loads. Where no load qualifies, half of the
smallest stands for it; where the knee was not reached, the largest load does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from neuronc.bench.compare.names import BEST, KNEE
from neuronc.bench.modes.sweep import KEEPS_UP, Axis, Point, find_best, find_knee
from neuronc.errors import InputError

Json = Mapping[str, Any]
BEST_RULE = "best<-5%"
"""Beside the default rules, where sweeps have objectives."""


def points_of(modes: Json) -> dict[float, Json]:
    """The runs at each load of a sweep, by that load; none without a sweep.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It is no sweep of a document.
    """
    sweep = modes.get("sweep")
    if sweep is None:
        return {}
    _axis(sweep)
    found = {}
    for point in sweep["points"]:
        at = point["at"]
        if isinstance(at, bool) or not isinstance(at, int | float) or not 0 < at < float("inf"):
            message = f"a load of {at!r}"
            raise ValueError(message)
        found[float(at)] = point["runs"]
    return dict(sorted(found.items()))


def loads_of(modes: Json) -> Iterator[dict[str, float | None]]:
    """The knee and the best load of every repeat that all loads have, by metric."""
    points = points_of(modes)
    if not points:
        return
    axis = _axis(modes["sweep"])
    repeats = min(len(runs["repeats"]) for runs in points.values())
    for number in range(repeats):
        made = [_point(at, runs["repeats"][number]) for at, runs in points.items()]
        yield {KNEE: _knee(made, axis), BEST: _best(made, _wanted(points))}


def require_points(a: Json, b: Json, *, paths: tuple[object, object]) -> tuple[float, ...]:
    """Loads that two sweeps have in common.

    Raises:
        InputError: There are none.
    """
    of_a, of_b = points_of(a), points_of(b)
    common = tuple(at for at in of_a if at in of_b) if axis_of(a) == axis_of(b) else ()
    if not common:
        told = (f"{path} by {_told(modes)}" for path, modes in zip(paths, (a, b), strict=True))
        message = f"the sweeps have no load in common: {' and '.join(told)}"
        hint = "measure both with --mode sweep and the same --rate or --concurrency"
        raise InputError(message, hint=hint)
    return common


def axis_of(modes: Json) -> str | None:
    """What a sweep goes by; None without one."""
    sweep = modes.get("sweep")
    return None if sweep is None else _axis(sweep)


def has_objectives(modes: Json) -> bool:
    """Whether every load of the sweep was judged by objectives."""
    points = points_of(modes)
    return bool(points) and all(runs.get("slo") for runs in points.values())


def _told(modes: Json) -> str:
    return f"{axis_of(modes)} at {', '.join(f'{at:g}' for at in points_of(modes))}"


def _axis(sweep: Json) -> Axis:
    by: Axis = sweep["by"]
    if by not in ("rate", "concurrency"):
        message = f"a sweep by {by!r}"
        raise ValueError(message)
    return by


def _wanted(points: Mapping[float, Json]) -> float | None:
    found: list[float | None] = [
        (runs.get("slo") or {}).get("wanted_attainment") for runs in points.values()
    ]
    known = [share for share in found if share is not None]
    return max(known) if known and len(known) == len(found) else None


def _point(at: float, run: Json) -> tuple[Point, bool]:
    """The load, and whether it says how fast first tokens came."""
    metrics, sent = run["metrics"], int(run["num_requests"])
    share, kept_up = metrics.get("attainment"), metrics.get("kept_up")
    point = Point(
        at=at,
        output_tokens_per_s=metrics.get("output_tokens_per_s") or 0.0,
        kept_up=1.0 if kept_up is None else kept_up,
        good=None if share is None else round(share * sent),
        sent=sent,
    )
    return point, kept_up is not None


def _knee(made: list[tuple[Point, bool]], axis: Axis) -> float | None:
    points = [point for point, _ in made]
    if axis == "rate":
        if not all(known for _, known in made):
            return None
        if points[0].kept_up < KEEPS_UP:
            return points[0].at / 2
    knee = find_knee(points, axis)
    return points[-1].at if knee is None else knee.at


def _best(made: list[tuple[Point, bool]], wanted: float | None) -> float | None:
    points = [point for point, _ in made]
    if wanted is None or any(point.good is None for point in points):
        return None
    best = find_best(points, wanted)
    return points[0].at / 2 if best is None else best.at
