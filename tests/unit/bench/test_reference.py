from dataclasses import replace

from neuronc.bench.reference import KnownSequence, TokenCheck, check_tokens, read_known
from neuronc.bench.workload.requests import TimedRequest
from tests.unit.bench.fake_engine import make_record, make_timeline

# After 5 6 7 the original says 8, then 9, then 3.
KNOWN = KnownSequence(
    tokens=(5, 6, 7, 8, 9), prompt_tokens=3, next_tokens=(6, 1, 8, 9, 3), near_ties=frozenset({3})
)


def check(prompt: tuple[int, ...], *answers: tuple[int, ...], same_bits: bool = True) -> TokenCheck:
    runs = []
    for tokens in answers:
        request = TimedRequest(request_id="request-0", prompt_ids=prompt, new_tokens=len(tokens))
        record = replace(make_record(0, *range(1, len(tokens) + 1)), token_ids=tokens)
        runs.append(((request,), make_timeline(record)))
    return check_tokens(runs, [KNOWN], same_bits=same_bits)


def test_right_tokens_are_counted() -> None:
    found = check((5, 6, 7), (8, 9, 3, 44))
    assert found == TokenCheck(requests=1, tokens_checked=4, tokens_with_reference=3)


def test_a_wrong_token_is_a_problem_and_ends_the_comparison() -> None:
    found = check((5, 6, 7), (2, 2, 2))
    assert found.problems == ["request-0: token 0 is 2, the original model's 8"]
    assert found.tokens_with_reference == 1


def test_a_near_tie_may_go_either_way() -> None:
    found = check((5, 6, 7), (8, 2, 2))  # 9 or 2: after position 3
    assert (found.problems, found.tokens_within_margin, found.tokens_with_reference) == ([], 1, 2)


def test_of_a_shorter_prompt_the_first_token_is_known() -> None:
    assert check((5, 6), (1, 8)).tokens_with_reference == 1
    assert check((5, 6), (7, 8)).problems == ["request-0: token 0 is 7, the original model's 1"]


def test_another_prompt_is_compared_between_runs_only() -> None:
    found = check((5, 9), (2, 2), (2, 2))
    assert found == TokenCheck(requests=2, tokens_checked=4)
    found = check((5, 9), (2, 2), (2, 4))
    assert found.problems == ["request-0: token 1 is 4, another run's 2"]


def test_a_run_that_was_cut_short_has_the_beginning_of_the_others() -> None:
    assert check((5, 9), (2,), (2, 3), (2, 3)).problems == []
    assert check((5, 9), (2,), (2, 3), (2, 4)).problems != []


def test_several_programs_may_round_differently() -> None:
    found = check((5, 9), (2, 2), (2, 4), same_bits=False)
    assert (found.problems, found.tokens_not_repeated) == ([], 1)


def test_what_verification_recorded_is_read() -> None:
    recorded = {"tokens": [5, 6, 7, 8, 9], "prompt_tokens": 3, "next_tokens": [6, 1, 8, 9, 3]}
    assert read_known({"reference_tokens": [{**recorded, "near_ties": [3]}]}) == (KNOWN,)
    assert read_known({"passed": True}) == read_known(None) == ()
