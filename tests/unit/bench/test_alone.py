"""Answers made alone: as many as there is time for, and what they say of timed runs."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from neuronc.bench.alone import Alone, answer_alone, prompts_of
from neuronc.bench.caveats import find_caveats
from neuronc.bench.reference import KnownSequence, TokenCheck, allowed_error, check_tokens
from neuronc.bench.settings import Settings
from neuronc.bench.terminal import _checked
from neuronc.bench.workload.requests import TimedRequest
from neuronc.errors import BenchmarkError
from neuronc.progress import SILENT
from tests.unit.bench.fake_engine import (
    FakeBench,
    FakeSession,
    FakeToken,
    lengths,
    make_record,
    make_timeline,
)

Tokens = tuple[FakeToken, ...]
SETTINGS = Settings(modes=("throughput",), workload=lengths(3, 3), num_requests=5, repeats=2)


@dataclass(frozen=True, kw_only=True)
class Summing(FakeSession):
    """Says the sum of all tokens its slot has seen, and is as sure as ``gap`` of it."""

    cache: dict[int, int] = field(default_factory=dict)
    gap: float = 1.0

    def prefill(self, slot: int, token_ids: Any, *, start: int = 0) -> Any:
        self.cache.update(enumerate(token_ids, start=start))
        return self._logits(start + len(token_ids))

    def decode(self, token_ids: Any, positions: Any, *, bucket: int | None = None) -> Any:
        assert bucket == self.decode_bucket(int(positions[0]))
        self.cache[int(positions[0])] = int(token_ids[0])
        return np.stack([self._logits(int(positions[0]) + 1)] * self.batch_size)

    def _logits(self, seen: int) -> Any:
        logits = np.zeros(self.vocab_size)
        best = sum(self.cache[at] for at in range(seen)) % self.vocab_size
        logits[best], logits[best - 1] = 1.0, 1.0 - self.gap
        return logits


def answer(
    wanted: dict[tuple[int, ...], int], session: FakeSession | None = None, **changes: Any
) -> dict[tuple[int, ...], Alone]:
    given: dict[str, Any] = {"stop_ids": frozenset(), "allowed": 0.01, "budget_s": 60.0, **changes}
    with SILENT.stage("") as stage:
        return answer_alone(session or Summing(), wanted, stage=stage, **given)


def test_an_answer_goes_on_from_its_own_tokens() -> None:
    found = answer({(3, 4): 4})
    assert found == {(3, 4): Alone(token_ids=(7, 14, 28, 6), near_ties=frozenset())}


def test_a_long_prompt_is_taken_in_chunks() -> None:
    assert answer({(1,) * 20: 2})[(1,) * 20].token_ids == (20, 40)


def test_a_stop_token_ends_it_and_is_part_of_it() -> None:
    assert answer({(3, 4): 4}, stop_ids=frozenset({14}))[3, 4].token_ids == (7, 14)


@pytest.mark.parametrize(
    ("gap", "allowed", "near"),
    [(0.02, 0.01, {0, 1}), (0.021, 0.01, set()), (0.0, None, None)],
)
def test_near_ties_are_those_within_twice_what_verification_allows(
    gap: float, allowed: float | None, near: set[int] | None
) -> None:
    found = answer({(3, 4): 2}, Summing(gap=gap), allowed=allowed)[3, 4]
    assert found.near_ties == near


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="not finite"):
        answer({(3, 4): 2}, Summing(gap=float("nan")))


def test_answers_end_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    wanted: dict[tuple[int, ...], int] = {(number,): 2 for number in range(2, 12)}
    # what is spent and one more at that pace: 1, 2 + 2, 3 + 1.5, but 4 + 1.3 is too much
    assert list(answer(wanted, budget_s=5.0)) == [(2,), (3,), (4,)]
    assert answer(wanted, budget_s=0.0) == {}


def test_equal_prompts_share_an_answer_and_all_runs_get_their_first_ones_first() -> None:
    def request(number: int, *prompt: int, new: int) -> TimedRequest:
        return TimedRequest(request_id=f"request-{number}", prompt_ids=prompt, new_tokens=new)

    runs = [
        [request(0, 1, new=5), request(1, 4, new=1), request(2, 5, new=1)],
        [request(0, 1, new=3), request(1, 2, new=3)],
    ]
    assert list(prompts_of(runs).items()) == [((1,), 5), ((4,), 1), ((2,), 3), ((5,), 1)]


def check(answer: tuple[int, ...], *, near: set[int] | None, same_bits: bool = False) -> TokenCheck:
    request = TimedRequest(request_id="request-0", prompt_ids=(5, 9), new_tokens=len(answer))
    record = replace(make_record(0, *range(1, len(answer) + 1)), token_ids=answer)
    expected = Alone(token_ids=(2, 4, 8), near_ties=None if near is None else frozenset(near))
    runs = [((request,), make_timeline(record))]
    return check_tokens(runs, (), same_bits=same_bits, alone={(5, 9): expected})


def test_the_same_tokens_are_counted() -> None:
    found = check((2, 4, 8), near=set())
    assert found == TokenCheck(requests=1, requests_checked=1, tokens_checked=3, tokens_alone=3)


def test_another_token_makes_the_run_invalid_unless_it_is_a_near_tie_of_another_program() -> None:
    wrong = ["request-0: token 1 is 5, made alone 4"]
    assert check((2, 5, 5), near=set()).problems == wrong
    assert check((2, 5, 5), near={0, 2}).problems == wrong
    assert check((2, 5, 5), near={1}, same_bits=True).problems == wrong
    near = check((2, 5, 5), near={1})
    assert (near.problems, near.tokens_within_margin, near.tokens_alone) == ([], 1, 2)
    unknown = check((2, 5, 5), near=None)
    assert (unknown.problems, unknown.tokens_not_repeated) == ([], 1)
    assert check((2, 5, 5), near=None, same_bits=True).problems == wrong


def test_every_request_of_every_run_is_checked() -> None:
    found = FakeBench().measure(SETTINGS).tokens
    assert (found.problems, found.requests, found.requests_checked) == ([], 10, 10)
    assert found.tokens_alone == found.tokens_checked == 30


def test_one_wrong_token_of_the_last_request_is_found_though_all_runs_give_it() -> None:
    def spoil(tokens: Tokens) -> Tokens:
        return tuple(
            replace(t, token_id=9) if (t.request_id, t.index) == ("request-4", 2) else t
            for t in tokens
        )

    found = FakeBench().measure(SETTINGS, spoil, decode_buckets=(64,)).tokens
    assert found.problems == ["request-4: token 2 is 9, made alone 2"] * 2


def test_a_prompt_that_the_record_tells_whole_is_not_answered_again() -> None:
    known = KnownSequence(
        tokens=(5, 6, 7, 0, 1, 2),
        prompt_tokens=3,
        next_tokens=(6, 7, 0, 1, 2),
        near_ties=frozenset(),
    )
    found = FakeBench().measure(SETTINGS, known=(known,)).tokens
    assert (found.requests_checked, found.tokens_alone) == (10, 24)
    shorter = replace(known, tokens=(5, 6, 7, 0, 1), next_tokens=(6, 7, 0, 1))
    found = FakeBench().measure(SETTINGS, known=(shorter,)).tokens
    assert (found.requests_checked, found.tokens_alone) == (10, 30)


def test_what_there_was_no_time_to_check_is_said() -> None:
    measured = FakeBench().measure(replace(SETTINGS, time_budget_s=1e-9))
    assert (measured.tokens.requests, measured.tokens.requests_checked) == (10, 0)
    told = " ".join(find_caveats(measured, batch_size=2, verified=True))
    assert "of 10 timed requests, 0 were compared whole" in told
    assert "10% of the time budget" in told


def test_the_terminal_says_how_many_were_checked() -> None:
    counts = {"tokens_checked": 3000, "tokens_with_reference": 5, "tokens_not_repeated": 0}
    told = _checked({**counts, "requests": 100, "requests_checked": 90})
    assert "90 of 100 timed requests checked whole" in told
    assert "timed requests" not in _checked(counts)  # a document from before they were counted


def test_what_a_verification_allows() -> None:
    passed = {"passed": True, "tolerance_ulp": 4.0}
    assert allowed_error(passed, "bf16") == 4 * 2**-7
    assert allowed_error({**passed, "passed": False}, "bf16") is None
    assert allowed_error({"passed": True}, "bf16") is allowed_error(None, "f32") is None
