import pytest

from neuronc.bench.compare.names import HIGHER_IS_BETTER, LOWER_IS_BETTER, STATS, TIMES
from neuronc.bench.compare.rules import DEFAULT_RULES, parse_rules
from neuronc.errors import UsageError


def test_rules_of_the_issue_are_read_with_full_names() -> None:
    rules = parse_rules("tpot.p50>+5%, ttft.p99>+10%,throughput<-5%")
    assert [(r.metric, r.mode, r.percent, r.worse) for r in rules] == [
        ("tpot_ms.p50", None, 5.0, 1),
        ("ttft_ms.p99", None, 10.0, 1),
        ("output_tokens_per_s", None, -5.0, -1),
    ]


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("serve:ttft_ms.p99.9>5%", "ttft_ms.p99_9"),
        ("goodput<-5%", "goodput_requests_per_s"),
        ("requests<-5%", "requests_per_s"),
        ("pad_waste>+1%", "pad_waste"),
        ("duration>+1%", "duration_s"),
    ],
)
def test_short_names(text: str, metric: str) -> None:
    (rule,) = parse_rules(text)
    assert rule.metric == metric


@pytest.mark.parametrize("metric", [f"{time}.{stat}" for time in TIMES for stat in STATS])
def test_every_time_and_statistic_can_be_named_in_full(metric: str) -> None:
    assert parse_rules(f"{metric}>+5%")[0].metric == metric


@pytest.mark.parametrize("metric", [*HIGHER_IS_BETTER, *LOWER_IS_BETTER])
def test_every_scalar_is_worse_in_one_direction_only(metric: str) -> None:
    more = metric in HIGHER_IS_BETTER
    assert parse_rules(f"{metric}{'<-' if more else '>+'}5%")[0].worse == (-1 if more else 1)
    with pytest.raises(UsageError, match="would fail on an improvement"):
        parse_rules(f"{metric}{'>+' if more else '<-'}5%")


def test_rule_that_fails_on_an_improvement_names_the_one_that_is_meant() -> None:
    with pytest.raises(UsageError, match=r"more of output_tokens_per_s is better") as told:
        parse_rules("throughput>+5%")
    assert told.value.hint == "write throughput<-5%"


def test_an_improvement_can_be_demanded() -> None:
    (rule,) = parse_rules("tpot.p50>-10%")
    assert (rule.worse, rule.percent) == (1, -10.0)


@pytest.mark.parametrize(
    ("text", "told", "way_out"),
    [
        ("", "cannot read ''", "--fail-on"),
        ("tpot.p50", "cannot read 'tpot.p50'", "--fail-on"),
        ("tpot.p50>+5", "cannot read 'tpot.p50>\\+5'", "--fail-on"),
        ("tpot.p50=>+5%", "cannot read 'tpot.p50=>", "--fail-on"),
        ("tpot.p50>+5%,", "cannot read ''", "--fail-on"),
        ("tpto.p50>+5%", "no metric 'tpto.p50'; the nearest is tpot.p50", "throughput"),
        ("troughput<-5%", "the nearest is throughput", ""),
        ("xyzzy<-5%", "no metric 'xyzzy'$", "tpot"),
        ("tpot>+5%", "'tpot' names no statistic", "tpot.p50"),
        ("tpot.p75>+5%", "'tpot.p75' names an unknown one", "tpot.p50"),
        ("throughput.p50<-5%", "is one number a run", "write throughput"),
        ("servr:tpot.p50>+5%", "no mode 'servr'; the nearest is serve", "latency"),
        ("throughput<-100%", "limit -100%", ""),
        ("tpot.p50>+1.2.3%", "limit \\+1.2.3%", ""),
        ("tpot.p50>+5%,tpot_ms.p50>+6%", "two rules for tpot_ms.p50", "weaker"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_way_out(
    text: str, told: str, way_out: str
) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        parse_rules(text)
    assert way_out in refused.value.hint


def test_same_metric_of_two_modes_is_two_rules() -> None:
    assert [r.mode for r in parse_rules("latency:tpot.p50>+5%,serve:tpot.p50>+5%")] == [
        "latency",
        "serve",
    ]


def test_default_rules_are_three() -> None:
    assert len(parse_rules(DEFAULT_RULES)) == 3
