"""Sampling against its definition, written out in full as one distribution over the vocabulary."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from neuronc.errors import InputError, UsageError
from neuronc.runtime.request import SamplingParams
from neuronc.runtime.sampling import check_sampling, sample

Array = np.ndarray[Any, Any]
NUM_DRAWS = 4000


def defined_distribution(logits: Array, params: SamplingParams) -> Array:
    """Probability of every token: softmax, then the k best, then the fewest that reach p."""
    exact = logits.astype(np.float64) / params.temperature
    probabilities = np.exp(exact - exact.max()) / np.exp(exact - exact.max()).sum()
    ranking = sorted(range(len(logits)), key=lambda i: (-probabilities[i], i))
    kept = ranking[: params.top_k] if params.top_k else ranking
    mass_of_kept = sum(probabilities[i] for i in kept)
    nucleus, reached = [], 0.0
    for i in kept:
        nucleus.append(i)
        reached += probabilities[i] / mass_of_kept
        if params.top_p < 1.0 and reached >= params.top_p:
            break
    result = np.zeros(len(logits))
    result[nucleus] = probabilities[nucleus] / probabilities[nucleus].sum()
    return result


def draw(logits: Array, params: SamplingParams, num_draws: int = NUM_DRAWS) -> Array:
    rng = np.random.default_rng(params.seed)
    return np.array([sample(logits, params, rng) for _ in range(num_draws)])


def assert_drawn_from(expected: Array, draws: Array) -> None:
    counts = np.bincount(draws, minlength=len(expected))
    assert not counts[expected == 0.0].any(), "a token was drawn that has no probability"
    # Tokens too rare for the test are counted together.
    common = expected * len(draws) >= 5
    counts = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * len(draws)
    counts, wanted = counts[wanted > 0], wanted[wanted > 0]
    chi_square = ((counts - wanted) ** 2 / wanted).sum()
    # Mean and variance of chi-square are its degrees of freedom and twice that; 5 sigma.
    freedom = len(wanted) - 1
    assert chi_square <= freedom + 5 * np.sqrt(2 * freedom) + 1e-9


def random_logits(size: int = 40, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(scale=2.0, size=size).astype(np.float32)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.5, seed=1),
        SamplingParams(temperature=2.5, seed=2),
        SamplingParams(temperature=1.0, top_k=5, seed=3),
        SamplingParams(temperature=0.8, top_p=0.7, seed=4),
        SamplingParams(temperature=1.3, top_k=12, top_p=0.8, seed=5),
        SamplingParams(temperature=1.3, top_k=500, seed=6),
        SamplingParams(temperature=1.0, top_p=0.999, seed=7),
    ],
    ids=str,
)
def test_tokens_are_drawn_from_the_defined_distribution(params: SamplingParams) -> None:
    logits = random_logits()
    assert_drawn_from(defined_distribution(logits, params), draw(logits, params))


def test_a_wrong_distribution_would_be_noticed() -> None:
    logits = random_logits()
    wrong = SamplingParams(temperature=1.1)
    with pytest.raises(AssertionError):
        assert_drawn_from(
            defined_distribution(logits, SamplingParams(temperature=1.0)),
            draw(logits, wrong, 5 * NUM_DRAWS),
        )


@pytest.mark.parametrize("seed", range(30))
def test_exactly_the_defined_tokens_can_be_drawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that ties stand at the edges of top-k and top-p.
    logits = rng.integers(0, 6, size=50).astype(np.float32)
    params = SamplingParams(
        temperature=float(rng.uniform(0.5, 3)),
        top_k=int(rng.integers(0, 60)),
        top_p=float(rng.uniform(0.05, 1)),
    )
    expected, drawn = defined_distribution(logits, params), set(draw(logits, params, 3000))
    assert drawn <= set(np.flatnonzero(expected))
    assert drawn >= set(np.flatnonzero(expected > 0.01))  # missed once in 10**13 runs


def test_greedy_takes_the_largest_logit() -> None:
    logits = random_logits()
    assert sample(logits, SamplingParams(), np.random.default_rng()) == int(logits.argmax())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=str)
def test_greedy_takes_the_first_of_equal_logits(dtype: Any) -> None:
    logits = np.array([0, 7, 1, 7, 7], dtype=dtype)
    assert sample(logits, SamplingParams(), np.random.default_rng()) == 1


def test_greedy_ignores_top_k_and_top_p_and_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    params = SamplingParams(top_k=2, top_p=0.1)
    assert sample(random_logits(), params, rng) == int(random_logits().argmax())
    assert rng.random() == np.random.default_rng(0).random()


def test_top_k_of_one_is_greedy() -> None:
    params = SamplingParams(temperature=5.0, top_k=1)
    assert set(draw(random_logits(), params, 50)) == {int(random_logits().argmax())}


def test_top_k_keeps_the_lower_ids_of_equal_logits() -> None:
    params = SamplingParams(temperature=1.0, top_k=3)
    assert set(draw(np.zeros(8, dtype=np.float32), params, 300)) == {0, 1, 2}


def test_top_p_that_one_token_reaches_alone_is_greedy() -> None:
    logits = np.log(np.array([0.25, 0.5, 0.25], dtype=np.float32))
    assert set(draw(logits, SamplingParams(temperature=1.0, top_p=0.49), 50)) == {1}


@pytest.mark.parametrize("temperature", [1e-310, 1e-30, 1e-3])
def test_tiny_temperature_is_greedy(temperature: float) -> None:
    logits = np.array([3.0, -200.0, 3.5, 3.4], dtype=np.float32)
    assert set(draw(logits, SamplingParams(temperature=temperature), 50)) == {2}


def test_huge_temperature_is_uniform() -> None:
    params = SamplingParams(temperature=1e300)
    assert_drawn_from(np.full(40, 1 / 40), draw(random_logits(), params))


def test_token_with_logit_minus_infinity_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], dtype=np.float32)
    assert set(draw(logits, SamplingParams(temperature=1.0), 200)) == {1, 3}


def test_same_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    logits = random_logits()
    first = draw(logits, SamplingParams(temperature=1.0, seed=7), 40)
    again = draw(logits, SamplingParams(temperature=1.0, seed=7), 40)
    other = draw(logits, SamplingParams(temperature=1.0, seed=8), 40)
    assert (first == again).all()
    assert (first != other).any()


def test_one_token_takes_one_number_from_the_stream() -> None:
    rng = np.random.default_rng(5)
    sample(random_logits(), SamplingParams(temperature=1.0, top_k=5, top_p=0.5), rng)
    expected = np.random.default_rng(5).random(2)[1]
    assert rng.random() == expected


def test_logits_are_left_as_they_are() -> None:
    logits = random_logits()
    logits.flags.writeable = False  # as the runtime gives them
    sample(logits, SamplingParams(temperature=1.0, top_k=5, top_p=0.5), np.random.default_rng())
    assert (logits == random_logits()).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused_by_token(bad: float, temperature: float) -> None:
    logits = random_logits()
    logits[17] = bad
    with pytest.raises(InputError, match=r"not finite: (nan|inf) for token 17"):
        sample(logits, SamplingParams(temperature=temperature), np.random.default_rng())


def test_logits_that_are_all_minus_infinity_are_refused() -> None:
    logits = np.full(4, -np.inf, dtype=np.float32)
    with pytest.raises(InputError, match="not finite"):
        sample(logits, SamplingParams(), np.random.default_rng())


@pytest.mark.parametrize(
    ("params", "option"),
    [
        (SamplingParams(temperature=-0.1), "--temperature is -0.1"),
        (SamplingParams(temperature=float("nan")), "--temperature is nan"),
        (SamplingParams(temperature=float("inf")), "--temperature is inf"),
        (SamplingParams(top_k=-1), "--top-k is -1"),
        (SamplingParams(top_p=0.0), "--top-p is 0.0"),
        (SamplingParams(top_p=1.01), "--top-p is 1.01"),
        (SamplingParams(top_p=float("nan")), "--top-p is nan"),
        (SamplingParams(seed=-1), "--seed is -1"),
    ],
    ids=str,
)
def test_value_without_a_meaning_is_refused_by_option(params: SamplingParams, option: str) -> None:
    with pytest.raises(UsageError, match=option) as refused:
        check_sampling(params)
    assert refused.value.exit_code == 2


def test_values_at_the_edges_are_accepted() -> None:
    check_sampling(SamplingParams(temperature=0.0, top_k=0, top_p=1.0, seed=0))
    check_sampling(SamplingParams(temperature=1e-9, top_k=10**9, top_p=1e-9, seed=2**70))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("special", [[], [0.0, -0.0], [-np.nan], [np.nan], [-np.inf], [np.inf]])
def test_greedy_in_every_dtype_is_the_first_of_the_largest(
    dtype: Any, special: list[float]
) -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        pool = rng.standard_normal(6).tolist() if special[:1] != [0.0] else [-1.0]
        logits = np.array(rng.choice([*pool, *special], size=40), dtype=dtype)
        wide = logits.astype(np.float32)
        if not np.isfinite(wide.max()):
            with pytest.raises(InputError, match="not finite"):
                sample(logits, SamplingParams(), rng)
        else:
            assert sample(logits, SamplingParams(), rng) == int(np.argmax(wide))
