"""The engine over a toy model: who runs when, who gets which tokens, what is refused."""

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronc.errors import InputError, NeuroncError, PlanError, UsageError
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import PrefillPolicy, Request, SamplingParams, StepRecord, TokenEvent
from tests.unit.runtime.toy_programs import VOCAB_SIZE, greedy_answer, open_toy, toy_logits


def ask(name: str, prompt: tuple[int, ...] = (1, 2, 3), new: int = 4, **fields: Any) -> Request:
    return Request(request_id=name, prompt_ids=prompt, max_new_tokens=new, **fields)


def drain(engine: Engine) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    while engine.has_work:
        events.extend(engine.step())
    return events


@st.composite
def traffic(draw: st.DrawFn) -> tuple[dict[str, Any], list[Request]]:
    max_length = draw(st.integers(4, 40))
    sizes = st.integers(1, max_length)
    artifact = {
        "batch_size": draw(st.integers(1, 4)),
        "max_length": max_length,
        "prefill_buckets": tuple(sorted(draw(st.sets(sizes, min_size=1, max_size=3)))),
        "decode_buckets": tuple(sorted(draw(st.sets(sizes, max_size=2)) | {max_length})),
        "on_device_sampling": draw(st.booleans()),
    }
    tokens = st.integers(0, VOCAB_SIZE - 1)
    requests = []
    for number in range(draw(st.integers(1, 8))):
        num_prompt = draw(st.integers(1, max_length - 1))
        request = ask(
            str(number),
            tuple(draw(st.lists(tokens, min_size=num_prompt, max_size=num_prompt))),
            draw(st.integers(1, max_length - num_prompt)),
            stop_ids=draw(st.frozensets(tokens, max_size=3)),
        )
        requests.append(request)
    return artifact, requests


POLICIES: tuple[PrefillPolicy, ...] = get_args(PrefillPolicy)


@settings(max_examples=200, deadline=None)
@given(traffic(), st.sampled_from(POLICIES))
def test_every_answer_is_that_of_the_request_alone(
    case: tuple[dict[str, Any], list[Request]], policy: PrefillPolicy
) -> None:
    artifact, requests = case
    steps: list[StepRecord] = []
    engine = Engine(open_toy(**artifact), on_step=steps.append, prefill_policy=policy)
    answers = engine.run(requests)
    assert answers == {r.request_id: greedy_answer(r) for r in requests}
    # Padding, free slots and tokens processed twice are not counted.
    num_prompt = sum(s.num_tokens for s in steps if s.phase == "prefill")
    assert num_prompt == sum(len(r.prompt_ids) for r in requests)
    for step in steps:
        assert step.active_slots <= (artifact["batch_size"] if step.phase == "decode" else 1)
        assert step.num_tokens == step.active_slots or step.phase == "prefill"
        assert step.start_ns <= step.end_ns
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(steps))


def test_finished_slot_is_refilled_while_the_other_goes_on() -> None:
    steps: list[StepRecord] = []
    engine = Engine(open_toy(), on_step=steps.append)
    for request in (ask("long", new=9), ask("short", new=2), ask("next", new=3)):
        engine.submit(request)
    events = drain(engine)
    assert [(s.phase, s.active_slots) for s in steps[:5]] == [
        ("prefill", 1),  # long
        ("prefill", 1),  # short
        ("decode", 2),  # short ends
        ("prefill", 1),  # next, in the slot of short
        ("decode", 2),
    ]
    ids = [event.request_id for event in events]
    first, last = ids.index("next"), len(ids) - 1 - ids[::-1].index("next")
    assert "long" in ids[:first]
    assert "long" in ids[first:last]
    assert "long" in ids[last:]


@pytest.mark.parametrize(
    ("policy", "phases"),
    [
        ("first", "P DD PPP DDDD"),  # the long prompt's three chunks stop the other's tokens
        ("alternate", "P DD PDPDP DDD"),
        ("drain", "P DDDDDD PPP DDD"),
    ],
)
def test_when_a_prompt_that_comes_later_is_processed(policy: PrefillPolicy, phases: str) -> None:
    steps: list[StepRecord] = []
    engine = Engine(open_toy(), on_step=steps.append, prefill_policy=policy)
    engine.submit(ask("early", new=7))
    for _ in range(3):
        engine.step()
    engine.submit(ask("late", (1,) * 40, new=4))
    drain(engine)
    assert "".join("P" if s.phase == "prefill" else "D" for s in steps) == phases.replace(" ", "")


def test_a_step_names_its_slots_and_their_requests() -> None:
    steps: list[StepRecord] = []
    Engine(open_toy(), on_step=steps.append).run([ask("a", new=2), ask("b", new=3)])
    assert [(s.slots, s.request_ids) for s in steps] == [
        ((0,), ("a",)),
        ((1,), ("b",)),
        ((0, 1), ("a", "b")),
        ((1,), ("b",)),
    ]


def test_finished_request_does_not_keep_the_others_in_a_large_bucket() -> None:
    steps: list[StepRecord] = []
    Engine(open_toy(), on_step=steps.append).run([ask("long", (1,) * 40, 2), ask("short", new=4)])
    assert [s.bucket for s in steps if s.phase == "decode"] == [64, 32, 32]


def test_events_of_a_request_are_numbered_in_order_of_time() -> None:
    engine = Engine(open_toy())
    for name in "abc":
        engine.submit(ask(name))
    events = drain(engine)
    times = [event.time_ns for event in events]
    assert times == sorted(times)
    for name in "abc":
        mine = [event for event in events if event.request_id == name]
        assert [event.index for event in mine] == [0, 1, 2, 3]
        assert [event.finish_reason for event in mine] == [None, None, None, "length"]


def test_stop_token_ends_the_request_and_is_not_in_the_answer() -> None:
    answer = greedy_answer(ask("free", new=8))
    stop = next(token for token in answer if token not in answer[:2])
    request = ask("stopped", new=8, stop_ids=frozenset({stop}))
    engine = Engine(open_toy())
    engine.submit(request)
    events = drain(engine)
    assert (events[-1].token_id, events[-1].finish_reason) == (stop, "stop")
    assert Engine(open_toy()).run([request])["stopped"] == answer[: answer.index(stop)]


def test_stop_token_that_comes_first_gives_an_empty_answer() -> None:
    stop = greedy_answer(ask("a", new=1))[0]
    assert Engine(open_toy()).run([ask("a", stop_ids=frozenset({stop}))]) == {"a": ()}


def test_one_new_token_needs_no_decode_step() -> None:
    steps: list[StepRecord] = []
    answers = Engine(open_toy(), on_step=steps.append).run([ask("a", new=1)])
    assert answers == {"a": greedy_answer(ask("a", new=1))}
    assert [s.phase for s in steps] == ["prefill"]


def test_sampled_request_does_not_depend_on_the_others() -> None:
    sampled = ask("s", new=20, sampling=SamplingParams(temperature=1.0, top_k=9, seed=5))
    others = [ask(str(n), (n,), 3 + n, sampling=SamplingParams(temperature=2.0)) for n in range(6)]
    alone = Engine(open_toy()).run([sampled])["s"]
    assert Engine(open_toy()).run([*others[:3], sampled, *others[3:]])["s"] == alone
    assert alone != greedy_answer(sampled)


REFUSED = [
    (ask("r", (1,) * 61, 4), PlanError, r"needs 61 prompt tokens and 4 new ones; .*length is 64"),
    (ask("r", ()), UsageError, "has 0 prompt tokens"),
    (ask("r", new=0), UsageError, "asks for 0 new ones"),
    (ask("r", (1, VOCAB_SIZE, 2)), UsageError, f"token {VOCAB_SIZE}, .* vocabulary of"),
    (ask("r", (5, -1)), UsageError, "token -1, which is outside"),
    (ask("r", sampling=SamplingParams(seed=-1)), UsageError, "--seed"),
    (ask("running"), UsageError, "'running' is in use"),
    (ask("waiting"), UsageError, "'waiting' is in use"),
]


@pytest.mark.parametrize(("request_", "kind", "message"), REFUSED, ids=lambda value: str(value)[:9])
def test_refused_request_leaves_the_others_as_they_were(
    request_: Request, kind: type[NeuroncError], message: str
) -> None:
    engine = Engine(open_toy(batch_size=1))
    for name in ("running", "waiting"):
        engine.submit(ask(name))
    events = list(engine.step())
    with pytest.raises(kind, match=message):
        engine.submit(request_)
    events += drain(engine)
    for name in ("running", "waiting"):
        tokens = [event.token_id for event in events if event.request_id == name]
        assert tuple(tokens) == greedy_answer(ask(name))


def test_prompt_and_answer_that_just_fit_are_accepted() -> None:
    requests = [ask("a", (1,) * 63, 1), ask("b", (1,), 63)]
    assert Engine(open_toy()).run(requests) == {r.request_id: greedy_answer(r) for r in requests}


def test_run_with_one_refused_request_runs_none() -> None:
    engine = Engine(open_toy())
    for bad in (ask("bad", ()), ask("good")):
        with pytest.raises(UsageError):
            engine.run([ask("good"), bad])
        assert not engine.has_work
    assert set(engine.run([ask("other")])) == {"other"}


def test_run_also_answers_what_was_submitted_before() -> None:
    engine = Engine(open_toy())
    engine.submit(ask("early"))
    assert set(engine.run([ask("late")])) == {"early", "late"}


def test_id_can_be_used_again_when_its_request_is_done() -> None:
    engine = Engine(open_toy())
    assert engine.run([ask("a")]) == engine.run([ask("a")])


def test_engine_without_work_does_nothing() -> None:
    steps: list[StepRecord] = []
    engine = Engine(open_toy(), on_step=steps.append)
    assert not engine.has_work
    assert engine.step() == ()
    assert engine.run([]) == {}
    assert steps == []


def test_logits_that_are_not_finite_end_the_run_with_a_reason() -> None:
    rows = np.stack([toy_logits([1]), toy_logits([2])])
    rows[0, 7] = np.nan
    engine = Engine(open_toy(rows_changed={1: rows}))
    with pytest.raises(InputError, match="not finite: nan for token 7"):
        engine.run([ask("a"), ask("b")])


def watched(engine: Engine) -> list[tuple[int, ...]]:
    """Filled with the outputs that every step brings to the host."""
    seen: list[tuple[int, ...]] = []
    ranks: Any = engine._session.ranks
    start = ranks.start

    def watch(*args: Any, wanted: Any) -> Any:
        seen.append(tuple(wanted))
        return start(*args, wanted=wanted)

    ranks.start = watch
    return seen


def test_greedy_steps_bring_tokens_alone_and_others_logits_alone() -> None:
    logits, tokens = (0,), (2,)
    sampled = ask("s", new=2, sampling=SamplingParams(temperature=1.0, seed=5))
    requests = [ask("a", new=3), sampled, ask("b", new=2)]
    engine = Engine(open_toy(on_device_sampling=True))
    seen = watched(engine)

    answers = engine.run(requests)

    assert answers == Engine(open_toy()).run(requests)
    # Prefill of each of the first two, a step of both; then b comes in, and the last step.
    assert seen == [tokens, logits, logits, tokens, tokens]
    plain = Engine(open_toy())
    seen = watched(plain)
    plain.run(requests)
    assert set(seen) == {logits}


def decode_log(engine: Engine) -> list[str]:
    """Filled with ``start`` and ``arrived`` as decode steps are started and their tokens read.

    A step that is not given the tokens of the one before, but what the host read, is a ``new``.
    """
    log: list[str] = []
    session: Any = engine._session
    last: list[Any] = [None]
    start, arrived = session.start_decode, session.arrived

    def watch_start(token_ids: Any, positions: Any, *, bucket: int) -> Any:
        log.append("start" if token_ids is last[0] else "new")
        last[0] = start(token_ids, positions, bucket=bucket)
        return last[0]

    def watch_arrived(tokens: Any) -> Any:
        log.append("arrived")
        return arrived(tokens)

    session.start_decode, session.arrived = watch_start, watch_arrived
    return log


def test_a_step_starts_before_the_tokens_of_the_last_are_read_and_none_too_many() -> None:
    steps: list[StepRecord] = []
    engine = Engine(open_toy(on_device_sampling=True), on_step=steps.append)
    log = decode_log(engine)
    engine.run([ask("a", new=5)])
    assert log == ["new", "start", "arrived", "start", "arrived", "start", "arrived", "arrived"]
    assert [s.phase for s in steps] == ["prefill", *["decode"] * 4]
    assert engine._ahead is None


def test_a_step_after_a_stop_token_is_dropped() -> None:
    request = ask("a", new=9)
    answer = greedy_answer(request)
    stopped = ask("a", new=9, stop_ids=frozenset({answer[3]}))
    expected = greedy_answer(stopped)
    steps: list[StepRecord] = []
    engine = Engine(open_toy(on_device_sampling=True), on_step=steps.append)
    log = decode_log(engine)
    assert engine.run([stopped]) == {"a": expected}
    assert log.count("arrived") == len(expected) == len(steps) - 1
    assert len(log) - log.count("arrived") == len(expected) + 1
    assert engine.run([request]) == {"a": answer}


def test_a_prompt_that_waits_keeps_steps_from_running_ahead() -> None:
    engine = Engine(open_toy(batch_size=1, on_device_sampling=True))
    log = decode_log(engine)
    engine.submit(ask("a", new=4))
    engine.submit(ask("b", new=2))
    drain(engine)
    assert log == ["new", "arrived"] * 3 + ["new", "arrived"]


def test_a_prompt_that_comes_while_a_step_runs_ahead_is_next() -> None:
    steps: list[StepRecord] = []
    engine = Engine(open_toy(on_device_sampling=True), on_step=steps.append)
    engine.submit(ask("a", new=6))
    for _ in range(2):
        engine.step()
    engine.submit(ask("b", new=2))
    events = drain(engine)
    assert "".join("P" if s.phase == "prefill" else "D" for s in steps) == "PDDPDDD"
    told = tuple(e.token_id for e in events if e.request_id == "b")
    assert told == greedy_answer(ask("b", new=2))


def test_a_started_step_reads_copies_of_what_the_host_changes() -> None:
    session: Any = open_toy(on_device_sampling=True)
    given: list[Any] = []
    start = session.ranks.start

    def watch(phase: Any, bucket: int, data: list[Any], *, wanted: Any) -> Any:
        given.extend(data)
        return start(phase, bucket, data, wanted=wanted)

    session.ranks.start = watch
    step = np.array([3, 3], np.int32), np.array([0, 0], np.int32)
    session.start_decode(*step, bucket=32)
    assert all(not np.shares_memory(mine, theirs) for mine in step for theirs in given)
    assert len(given) == len(step)


@pytest.mark.parametrize("position", [-1, 32])
def test_a_step_is_not_started_outside_its_bucket(position: int) -> None:
    session = open_toy(on_device_sampling=True)
    positions = np.array([0, position], np.int32)
    with pytest.raises(PlanError, match="not all inside decode bucket 32"):
        session.start_decode(np.array([3, 3], np.int32), positions, bucket=32)


def test_sampled_requests_do_not_run_ahead() -> None:
    engine = Engine(open_toy(on_device_sampling=True))
    log = decode_log(engine)
    engine.run([ask("a", sampling=SamplingParams(temperature=1.0, seed=5))])
    assert log == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tokens_of_logits_that_are_not_finite_end_the_run_with_a_reason(bad: float) -> None:
    rows = np.stack([toy_logits([1]), toy_logits([2])])
    rows[0, 7] = bad
    engine = Engine(open_toy(rows_changed={1: rows}, on_device_sampling=True))
    with pytest.raises(InputError, match="not finite: its program gave 24 as the most likely"):
        engine.run([ask("a"), ask("b")])
    assert InputError.exit_code == 3


def test_what_no_program_gives_is_an_error_of_the_caller() -> None:
    session = open_toy()
    with pytest.raises(ValueError, match="no output tokens"):
        session.prefill_token(0, [1, 2])
    with pytest.raises(ValueError, match="no output tokens"):
        session.decode_tokens(np.zeros(2, np.int32), np.zeros(2, np.int32))


def test_tokens_of_a_session_are_the_first_largest_of_its_logits() -> None:
    session = open_toy(on_device_sampling=True)
    assert session.prefill_token(0, [1, 2]) == int(session.prefill(1, [1, 2]).argmax())
    step = (np.array([3, 3], np.int32), np.array([2, 2], np.int32))
    assert session.decode_tokens(*step).tolist() == session.decode(*step).argmax(-1).tolist()
