from dataclasses import replace

import pytest

from neuronc.bench.run_summary import stats_of, summarize_run
from neuronc.bench.settings import Settings
from tests.unit.bench.fake_engine import FakeBench, lengths

OVERLOADED = Settings(
    modes=("serve",), workload=lengths(3, 3), num_requests=20, rates=(1000.0,), run_limit_s=0.1
)


def test_failures_stand_above_every_value_in_the_percentiles() -> None:
    found = stats_of("ttft_ms", [3.0, 1.0, 2.0], failures=2)
    assert found["ttft_ms.p50"] == 3.0  # the third of five
    assert found["ttft_ms.p90"] is None
    assert (found["ttft_ms.mean"], found["ttft_ms.max"]) == (2.0, 3.0)
    assert stats_of("ttft_ms", [3.0, 1.0, 2.0], failures=0)["ttft_ms.p90"] == pytest.approx(2.8)


def test_a_run_is_no_faster_for_the_requests_that_failed() -> None:
    timeline = FakeBench().run(OVERLOADED)
    assert 0 < timeline.num_failed < 20
    cut = summarize_run(timeline).metrics
    whole = summarize_run(FakeBench().run(replace(OVERLOADED, run_limit_s=None))).metrics
    assert cut["ttft_ms.p99"] is None
    assert whole["ttft_ms.p99"] is not None
    assert cut["itl_ms.p99"] is not None


def test_what_one_user_reads_is_1_over_tpot_and_failures_take_the_tail_away() -> None:
    whole = summarize_run(FakeBench().run(replace(OVERLOADED, run_limit_s=None))).metrics
    tpot_ms = whole["tpot_ms.p95"]
    assert tpot_ms is not None
    assert whole["user_tokens_per_s_p95"] == pytest.approx(1000 / tpot_ms)
    assert (whole["user_tokens_per_s"] or 0) >= (whole["user_tokens_per_s_p95"] or 0) > 0
    cut = summarize_run(FakeBench().run(OVERLOADED)).metrics
    assert cut["user_tokens_per_s_p95"] is None
    one = replace(OVERLOADED, workload=lengths(3, 1), run_limit_s=None)
    assert summarize_run(FakeBench().run(one)).metrics["user_tokens_per_s"] is None
