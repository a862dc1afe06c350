from neuronc.bench.step_classes import slowest_steps, summary_by_class, times_by_class
from neuronc.bench.timeline import Timeline, Usage
from tests.unit.bench.fake_engine import MS, make_step, make_timeline

QUIET = Usage(minor_faults=0, major_faults=0, involuntary_switches=0)


def steady_with_one_slow(after: Usage = QUIET, gc_ms: tuple[int, int] | None = None) -> Timeline:
    """Five steps of 10 ms, the fourth takes 30; ``after`` is counted from then on."""
    starts = (0, 10, 20, 30, 60)
    steps = tuple(make_step("decode", s, s + (30 if s == 30 else 10)) for s in starts)
    usage = (QUIET,) * 4 + (after,) * 2
    collections = () if gc_ms is None else ((gc_ms[0] * MS, gc_ms[1] * MS),)
    return make_timeline(steps=steps, usage=usage, collections_ns=collections)


def test_steps_are_kept_apart_by_phase_and_bucket_in_order() -> None:
    steps = (
        make_step("decode", 41, 46),
        make_step("prefill", 0, 40, bucket=128),
        make_step("prefill", 47, 57, bucket=32),
        make_step("decode", 58, 64),
    )
    timeline = make_timeline(steps=steps)
    assert list(times_by_class([timeline])) == ["prefill/32", "prefill/128", "decode/32"]
    assert times_by_class([timeline, timeline])["decode/32"] == [5, 6, 5, 6]
    assert summary_by_class(timeline)["decode/32"] == {"count": 2, "mean_ms": 5.5, "total_ms": 11}


def test_the_slowest_step_is_named_with_its_place() -> None:
    (slow,) = slowest_steps([make_timeline(), steady_with_one_slow()])
    assert (slow.step_class, slow.ms, slow.times_median) == ("decode/32", 30, 3)
    assert (slow.repeat, slow.at_s, slow.likely) == (1, 0.03, "unexplained")
    assert slow.to_dict()["class"] == "decode/32"


def test_what_the_system_counted_during_the_step_explains_it() -> None:
    for after, reason in (
        (Usage(minor_faults=0, major_faults=1, involuntary_switches=9), "major page faults"),
        (Usage(minor_faults=999, major_faults=0, involuntary_switches=2), "involuntary switches"),
        (Usage(minor_faults=65, major_faults=0, involuntary_switches=0), "minor page faults"),
        (Usage(minor_faults=64, major_faults=0, involuntary_switches=0), "unexplained"),
    ):
        (slow,) = slowest_steps([steady_with_one_slow(after)])
        assert slow.likely.startswith(reason)
        assert slow.involuntary_switches == after.involuntary_switches


def test_garbage_collection_counts_only_inside_the_step() -> None:
    (slow,) = slowest_steps([steady_with_one_slow(gc_ms=(25, 45))])
    assert (slow.gc_ms, slow.likely) == (15, "garbage collection")
    (slow,) = slowest_steps([steady_with_one_slow(gc_ms=(0, 30))])
    assert (slow.gc_ms, slow.likely) == (0, "unexplained")


def test_steps_that_are_alike_are_not_slow() -> None:
    assert slowest_steps([make_timeline(steps=(make_step("decode", 0, 10),) * 5)]) == []
