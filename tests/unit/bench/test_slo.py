from dataclasses import replace

import pytest

from neuronc.bench import slo
from neuronc.bench.slo import Slo, parse_slo
from neuronc.errors import UsageError
from tests.unit.bench.fake_engine import MS, make_record, make_timeline

FAST = make_record(0, 30, 40, 50, request_id="fast")
LATE = make_record(0, 90, 100, 110, request_id="late")
STUTTERS = make_record(0, 30, 31, 60, request_id="stutters")
FAILED = make_record(0, 10, request_id="failed", finish="failed")
ONE_TOKEN = make_record(0, 20, request_id="one token")


def test_bounds_are_parsed_with_their_units() -> None:
    assert parse_slo("ttft=500ms, tpot=50") == Slo(ttft_ms=500, tpot_ms=50)
    assert parse_slo("e2e=2s,itl=80ms", 0.9) == Slo(e2e_ms=2000, itl_ms=80, attainment=0.9)


@pytest.mark.parametrize(
    "text",
    ["", "ttft", "ttft=", "ttft=0", "ttft=-1", "ttft=1h", "speed=3", "ttft=1,ttft=2", "ttft=1.2.3"],
)
def test_other_bounds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--slo has"):
        parse_slo(text)


@pytest.mark.parametrize("attainment", [0.0, -1.0, 1.5, float("nan")])
def test_attainment_is_a_share(attainment: float) -> None:
    with pytest.raises(UsageError, match="--attainment is"):
        parse_slo("ttft=1", attainment)


def test_good_requests_keep_every_bound_and_failed_ones_none() -> None:
    timeline = make_timeline(FAST, LATE, STUTTERS, FAILED, ONE_TOKEN, end_ns=1000 * MS)
    found = slo.judge(timeline, Slo(ttft_ms=50, itl_ms=20))
    assert (found.sent, found.good) == (5, 2)
    assert found.good_by_metric == {"ttft_ms": 3, "itl_ms": 3}
    assert slo.goodput_requests_per_s(timeline, found) == pytest.approx(2 / 1.0)


def test_a_bound_is_kept_where_it_is_just_reached() -> None:
    assert slo.judge(make_timeline(FAST), Slo(ttft_ms=30, tpot_ms=10, e2e_ms=50)).good == 1
    assert slo.judge(make_timeline(FAST), Slo(ttft_ms=29.9)).good == 0


def test_fluidity_lets_slack_carry_over_and_begins_anew_after_a_miss() -> None:
    # due 40, 50, 60: 1 ms before 31 and the next due at 60 are early; 60 is in time
    early = slo.judge(make_timeline(STUTTERS), Slo(ttft_ms=40, tpot_ms=10))
    assert (early.deadlines_met, early.deadlines) == (3, 3)
    # due 50 and missed at 90: the next are due 100 and 110
    late = slo.judge(make_timeline(LATE), Slo(ttft_ms=50, tpot_ms=10))
    assert (late.deadlines_met, late.deadlines) == (2, 3)
    assert late.fluidity == pytest.approx(2 / 3)
    assert slo.judge(make_timeline(LATE), Slo(ttft_ms=50)).fluidity is None


def test_tokens_after_a_stop_were_never_due() -> None:
    stopped = replace(FAST, new_tokens=9, finish="stop")
    found = slo.judge(make_timeline(stopped), Slo(ttft_ms=50, tpot_ms=10))
    assert (found.deadlines_met, found.deadlines) == (3, 3)
    failed = replace(FAST, new_tokens=9, finish="failed")
    assert slo.judge(make_timeline(failed), Slo(ttft_ms=50, tpot_ms=10)).deadlines == 9


def test_results_of_runs_add_up() -> None:
    wanted = Slo(ttft_ms=50, tpot_ms=10)
    both = slo.judge(make_timeline(FAST), wanted) + slo.judge(make_timeline(LATE), wanted)
    assert both == slo.judge(make_timeline(FAST, LATE), wanted)
    data = slo.to_dict(wanted, both)
    assert data["joint"]["attainment"] == 0.5
    assert 0 < data["joint"]["low"] < 0.5 < data["joint"]["high"] < 1
