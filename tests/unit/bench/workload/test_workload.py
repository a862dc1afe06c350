from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench.workload.arrivals import Arrival
from neuronc.bench.workload.conversations import Conversations
from neuronc.bench.workload.lengths import Fixed, Uniform, parse_mix
from neuronc.bench.workload.load import Load
from neuronc.bench.workload.requests import TimedRequest, allowed_ids, make_requests
from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.workload import Trace, Workload
from neuronc.errors import InputError, PlanError, UsageError

WORKLOAD = Workload(prompt_tokens=Fixed(6), new_tokens=Uniform(2, 9))
OPEN_LOOP = Load(rate=2.0)


def make(
    workload: Workload = WORKLOAD,
    load: Load = OPEN_LOOP,
    count: int = 5,
    vocab_size: int = 1000,
    **fields: Any,
) -> tuple[TimedRequest, ...]:
    shapes = workload.shapes(count, max_length=64)
    return make_requests(workload, load, shapes, allowed_ids(vocab_size, ()), **fields)


def test_same_settings_give_the_same_requests() -> None:
    assert make() == make(replace(WORKLOAD))


def test_another_seed_gives_other_prompts_lengths_and_arrivals() -> None:
    here, there = (make(replace(WORKLOAD, seed=seed), count=9) for seed in (0, 1))
    assert all(a.prompt_ids != b.prompt_ids for a, b in zip(here, there, strict=True))
    assert all(a.arrival_s != b.arrival_s for a, b in zip(here[1:], there[1:], strict=True))
    assert [r.new_tokens for r in here] != [r.new_tokens for r in there]


def test_prompts_of_one_run_differ_from_each_other() -> None:
    assert len({request.prompt_ids for request in make()}) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"load": Load(rate=9.0)},
        {"load": Load(concurrency=2)},
        {"load": Load(rate=2.0, arrival=Arrival(0.5))},
        {"workload": replace(WORKLOAD, new_tokens=Fixed(1))},
        {"count": 9},
    ],
    ids=str,
)
def test_no_other_setting_shifts_the_prompts(change: dict[str, Any]) -> None:
    assert [r.prompt_ids for r in make(**change)[:5]] == [r.prompt_ids for r in make()]


@pytest.mark.parametrize(
    "change",
    [{"workload": replace(WORKLOAD, prompt_tokens=Uniform(3, 8))}, {"count": 9}],
    ids=str,
)
def test_no_other_setting_shifts_the_arrivals_or_answer_lengths(change: dict[str, Any]) -> None:
    before, after = make(), make(**change)[:5]
    assert [r.arrival_s for r in after] == [r.arrival_s for r in before]
    assert [r.new_tokens for r in after] == [r.new_tokens for r in before]


def test_another_rate_stretches_the_same_pattern() -> None:
    slow, fast = make(load=Load(rate=1.0)), make(load=Load(rate=4.0))
    assert [r.arrival_s for r in slow] == pytest.approx([4 * (r.arrival_s or 0) for r in fast])


def test_closed_loop_has_no_arrivals_and_no_load_at_all_arrives_at_once() -> None:
    assert {r.arrival_s for r in make(load=Load(concurrency=3))} == {None}
    assert {r.arrival_s for r in make(load=Load())} == {0.0}


def test_known_prompts_are_taken_where_they_are_long_enough() -> None:
    known = [tuple(range(100, 110)), (7, 8)]
    requests = make(known=known)
    assert requests[0].prompt_ids == tuple(range(100, 106))
    assert requests[1].prompt_ids[:2] != (7, 8)
    assert [r.prompt_ids for r in requests[1:]] == [r.prompt_ids for r in make()[1:]]


def test_prompts_hold_no_forbidden_id_and_an_empty_vocabulary_is_refused() -> None:
    allowed = allowed_ids(6, {0, 2, 5})
    shapes = WORKLOAD.shapes(9, max_length=64)
    requests = make_requests(WORKLOAD, OPEN_LOOP, shapes, allowed)
    assert {token for r in requests for token in r.prompt_ids} == {1, 3, 4}
    with pytest.raises(PlanError, match="all 3 of the vocabulary are forbidden"):
        allowed_ids(3, range(3))


def test_request_longer_than_the_artifact_is_refused_with_the_numbers() -> None:
    mix = Workload(joint=parse_mix("mix:4,4;60,5", "--lengths"))
    with pytest.raises(
        PlanError, match=r"of 40 requests .* of 64: .* has 60 prompt \+ 5"
    ) as caught:
        mix.shapes(40, max_length=64)
    assert caught.value.exit_code == 4
    assert "--max-length 65" in caught.value.hint
    assert len(mix.shapes(40, max_length=65)) == 40


def test_trace_is_gone_through_again_after_its_end() -> None:
    shapes = tuple(
        RequestShape(prompt_tokens=n, new_tokens=1, arrival_s=float(n - 1)) for n in (1, 2, 3)
    )
    made = Workload(joint=Trace(name="t", shapes=shapes)).shapes(7, max_length=9)
    assert [s.prompt_tokens for s in made] == [1, 2, 3, 1, 2, 3, 1]
    assert [s.arrival_s for s in made] == [0, 1, 2, 3, 4, 5, 6]


def test_traces_own_times_are_kept_or_stretched_to_a_rate() -> None:
    shapes = tuple(
        RequestShape(prompt_tokens=1, new_tokens=1, arrival_s=time_s) for time_s in (0.0, 1.0, 4.0)
    )
    assert Load(arrival=None).times_s(shapes, 0) == (0.0, 1.0, 4.0)
    assert Load(arrival=None, rate=4.0).times_s(shapes, 0) == (0.0, 0.125, 0.5)
    with pytest.raises(InputError, match="all at one time"):
        Load(arrival=None, rate=4.0).times_s(shapes[:1], 0)
    with pytest.raises(InputError, match="it has none"):
        Load(arrival=None).times_s(WORKLOAD.shapes(2, max_length=64), 0)


def test_rate_with_concurrency_is_refused() -> None:
    with pytest.raises(UsageError, match="contradict"):
        Load(rate=1.0, concurrency=2)


@pytest.mark.parametrize("max_length", [8, 64, 2048])
def test_conversations_grow_from_turn_to_turn_and_fit(max_length: int) -> None:
    shapes = Workload(joint=Conversations()).shapes(300, max_length=max_length)
    assert len(shapes) == 300
    times = [shape.arrival_s or 0.0 for shape in shapes]
    assert times == sorted(times)
    again = Workload(joint=Conversations()).shapes(300, max_length=max_length)
    assert again == shapes
    if max_length > 64:
        prompts = [shape.prompt_tokens for shape in shapes]
        assert max(prompts) > 5 * min(prompts)


def test_traces_of_one_name_are_told_apart_by_their_requests() -> None:
    shapes = (
        RequestShape(prompt_tokens=8, new_tokens=2),
        RequestShape(prompt_tokens=5, new_tokens=1),
    )
    one, same, other = (Trace(name="a.jsonl", shapes=s) for s in (shapes, shapes, shapes[:1]))
    assert str(one).startswith("trace:a.jsonl#")
    assert Workload(joint=one).to_dict() == Workload(joint=same).to_dict()
    assert Workload(joint=one).to_dict() != Workload(joint=other).to_dict()
