import numpy as np
import pytest

from neuronc.bench.workload.arrivals import parse_arrival
from neuronc.bench.workload.lengths import parse_lengths, parse_mix
from neuronc.errors import UsageError


@pytest.mark.parametrize("text", ["64", "fixed:64", "uniform:3,9", "lognormal:200,150,4,1024"])
def test_what_is_parsed_is_written_back(text: str) -> None:
    made = parse_lengths(text, "--new-tokens")
    assert parse_lengths(str(made), "--new-tokens") == made


def test_uniform_includes_both_ends_equally() -> None:
    drawn = parse_lengths("uniform:3,5", "-").draw(np.random.default_rng(0), 3000)
    counts = [drawn.count(n) for n in (3, 4, 5)]
    assert sum(counts) == 3000
    assert min(counts) > 900


def test_lognormal_has_the_mean_and_deviation_it_names() -> None:
    drawn = parse_lengths("lognormal:200,100,1,100000", "-").draw(np.random.default_rng(0), 40000)
    assert np.mean(drawn) == pytest.approx(200, rel=0.02)
    assert np.std(drawn) == pytest.approx(100, rel=0.05)
    bounded = parse_lengths("lognormal:200,100,150,220", "-").draw(np.random.default_rng(0), 500)
    assert (min(bounded), max(bounded)) == (150, 220)


def test_mix_draws_pairs_by_their_weights() -> None:
    mix = parse_mix("mix:256,128@60;512,512@20", "--lengths")
    drawn = mix.draw(np.random.default_rng(0), 4000)
    assert set(drawn) == {(256, 128), (512, 512)}
    assert drawn.count((256, 128)) == pytest.approx(3000, rel=0.05)
    assert parse_mix(str(mix), "--lengths") == mix


@pytest.mark.parametrize(
    "text",
    ["", "x", "0", "-3", "1.5", "uniform:9,3", "uniform:3", "normal:3,4", "lognormal:0,1,1,2",
     "lognormal:5,1,9,2", "inf", "nan", "uniform:1,2,3"],
)  # fmt: skip
def test_other_lengths_are_refused_by_option(text: str) -> None:
    with pytest.raises(UsageError, match="--new-tokens is"):
        parse_lengths(text, "--new-tokens")


@pytest.mark.parametrize(
    "text", ["", "256,128", "mix:", "mix:256", "mix:1,2@0", "mix:1,2@-1", "mix:0,2"]
)
def test_other_mixes_are_refused_by_option(text: str) -> None:
    with pytest.raises(UsageError, match="--lengths is"):
        parse_mix(text, "--lengths")


@pytest.mark.parametrize(
    ("text", "cv"), [("poisson", 1.0), ("gamma:4", 0.5), ("gamma:0.25", 2.0), ("constant", 0.0)]
)
def test_arrivals_have_the_rate_and_the_burstiness_they_name(text: str, cv: float) -> None:
    arrival = parse_arrival(text)
    assert parse_arrival(str(arrival)) == arrival
    times = arrival.times_s(20001, rate=5.0, seed=3)
    gaps = np.diff(times)
    assert times[0] == 0.0
    assert gaps.mean() == pytest.approx(0.2, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["", "burst", "gamma", "gamma:0", "gamma:-1", "gamma:inf", "poisson:2"]
)
def test_other_arrivals_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--arrival is"):
        parse_arrival(text)
