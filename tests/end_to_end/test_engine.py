"""Continuous batching on a real artifact: slots do not see each other, and nothing is lost.

Who runs when is tested over a toy model in tests/unit/runtime; here the numbers are the compiled
programs' own.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.errors import PlanError, UsageError
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request, SamplingParams, StepRecord, TokenEvent
from neuronc.runtime.session import Session
from tests.tiny_models import TINY_LLAMA

Array = np.ndarray[Any, Any]
SEQUENCE = tuple((7 * i * i + 11 * i + 5) % 126 + 2 for i in range(64))
NUM_STEPS = 6
LENGTHS = {"a": (5, 9), "b": (1, 2), "c": (40, 12), "d": (63, 1), "e": (17, 30), "f": (9, 5)}
"""Prompt and answer lengths of requests of all kinds: one chunk, several, up to the last place."""


@pytest.fixture(scope="module")
def session(tiny_artifact: Path) -> Session:
    """Used over and over, so every test also proves that what was there before does not matter."""
    return Session.open(tiny_artifact)


@pytest.fixture(scope="module")
def expected_logits(tiny_checkpoint: Path) -> Array:
    """``[64, vocab]``: transformers' logits after every token of SEQUENCE."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    with torch.no_grad():
        logits: Array = model(torch.tensor([SEQUENCE])).logits[0].numpy()
    return logits


def make_requests(sampling: SamplingParams | None = None) -> list[Request]:
    return [
        Request(
            request_id=name,
            prompt_ids=SEQUENCE[-num_prompt:],
            max_new_tokens=num_new,
            sampling=sampling or SamplingParams(),
        )
        for name, (num_prompt, num_new) in {**LENGTHS, "g": (5, 9)}.items()
    ]


def prefill(session: Session, slot: int, prompt: tuple[int, ...], done: int = 0) -> Array:
    logits = np.empty(0)
    while done < len(prompt):
        start, done = session.next_chunk(done, len(prompt))
        logits = session.prefill(slot, prompt[start:done], start=start)
    return logits


def forced_rows(session: Session, slot: int, mate: tuple[int, ...], bucket: int) -> Array:
    """Logits of one sequence in ``slot``, prefill first, while ``mate`` goes on in the other."""
    rows = [prefill(session, slot, SEQUENCE[:5])]
    if mate:
        prefill(session, 1 - slot, mate)
    for step in range(NUM_STEPS):
        tokens, positions = np.zeros(2, dtype=np.int32), np.zeros(2, dtype=np.int32)
        tokens[slot], positions[slot] = SEQUENCE[5 + step], 5 + step
        if mate:
            tokens[1 - slot], positions[1 - slot] = 3 * step + 2, len(mate) + step
        rows.append(session.decode(tokens, positions, bucket=bucket)[slot])
    return np.stack(rows)


def assert_close(found: Array, expected: Array) -> None:
    # f32 sums in another order, 2e-6 as measured. A token in a wrong place changes a logit by 1e-2.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(temperature=1.5, seed=9)])
def test_seven_requests_over_two_slots_answer_as_each_does_alone(
    session: Session, tiny_artifact: Path, sampling: SamplingParams
) -> None:
    requests = make_requests(sampling)
    together = Engine(session).run(requests)
    fresh = Session.open(tiny_artifact)
    assert together == {r.request_id: Engine(fresh).run([r])[r.request_id] for r in requests}
    assert {name: len(ids) for name, ids in together.items()} == {
        r.request_id: r.max_new_tokens for r in requests
    }


@pytest.mark.parametrize("bucket", [32, 64])
@pytest.mark.parametrize("slot", [0, 1])
def test_logits_are_bitwise_the_same_whatever_the_other_slot_does(
    session: Session, tiny_artifact: Path, slot: int, bucket: int
) -> None:
    alone = forced_rows(Session.open(tiny_artifact), 0, (), bucket)
    longest = bucket - NUM_STEPS
    for mate in ((), (9,), SEQUENCE[:5], SEQUENCE[20:33], SEQUENCE[-longest:]):
        found = forced_rows(session, slot, mate, bucket)
        assert found.tobytes() == alone.tobytes(), f"{len(mate)} tokens in the other slot"


def test_logits_in_a_larger_decode_bucket_differ_by_rounding_only(session: Session) -> None:
    assert_close(forced_rows(session, 0, (), 64), forced_rows(session, 0, (), 32))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 31, 32, 33, 48, 57, 63, 64])
def test_prompt_of_any_length_has_the_logits_of_transformers(
    session: Session, expected_logits: Array, length: int
) -> None:
    assert_close(prefill(session, 1, SEQUENCE[:length]), expected_logits[length - 1])


@pytest.mark.parametrize("first", [1, 2, 6])
def test_chunk_moved_back_at_the_end_has_the_logits_of_transformers(
    session: Session, expected_logits: Array, first: int
) -> None:
    # An odd first chunk puts the last one where its bucket does not fit any more.
    session.prefill(0, SEQUENCE[:first])
    num_done = first + 48
    assert session.next_chunk(num_done, 63) == (48, 63)
    assert_close(prefill(session, 0, SEQUENCE[:63], done=first), expected_logits[62])
    # It wrote over tokens that were there: the cache still is that of the sequence.
    last = np.array([SEQUENCE[63], 0], dtype=np.int32)
    row = session.decode(last, np.array([63, 0], dtype=np.int32))[0]
    assert_close(row, expected_logits[63])


def test_decode_has_the_logits_of_transformers_at_every_position(
    session: Session, expected_logits: Array
) -> None:
    prefill(session, 0, SEQUENCE[:2])
    prefill(session, 1, SEQUENCE[:1])
    for position in range(2, 64):  # slot 1 follows one behind
        tokens = np.array([SEQUENCE[position], SEQUENCE[position - 1]], dtype=np.int32)
        rows = session.decode(tokens, np.array([position, position - 1], dtype=np.int32))
        assert_close(rows, expected_logits[[position, position - 1]])


def test_finished_slot_is_refilled_while_the_other_goes_on(session: Session) -> None:
    steps: list[StepRecord] = []
    events: list[TokenEvent] = []
    engine = Engine(session, on_step=steps.append)
    for request in make_requests():
        engine.submit(request)
    while engine.has_work:
        events.extend(engine.step())
    # b ends after its second token; c takes its slot between two tokens of a.
    order = [event.request_id for event in events]
    assert order[:4] == ["a", "b", "a", "b"]
    assert order[4] == "c"
    assert "a" in order[5:]
    refill = [(s.phase, s.bucket, s.active_slots, s.num_tokens) for s in steps[:7]]
    assert refill == [
        ("prefill", 8, 1, 5),
        ("prefill", 8, 1, 1),
        ("decode", 32, 2, 2),
        ("prefill", 16, 1, 16),
        ("prefill", 16, 1, 16),
        ("prefill", 8, 1, 8),
        ("decode", 64, 2, 2),
    ]


def test_step_records_are_in_order_and_never_count_padding(session: Session) -> None:
    steps: list[StepRecord] = []
    requests = make_requests()
    Engine(session, on_step=steps.append).run(requests)
    assert all(step.start_ns < step.end_ns for step in steps)
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(steps))
    prefilled = sum(s.num_tokens for s in steps if s.phase == "prefill")
    decoded = sum(s.num_tokens for s in steps if s.phase == "decode")
    assert prefilled == sum(len(r.prompt_ids) for r in requests)
    # The first token of every answer comes from the prefill.
    assert decoded == sum(r.max_new_tokens - 1 for r in requests)


def test_stop_token_ends_an_answer_and_is_not_in_it(session: Session) -> None:
    request = Request(request_id="a", prompt_ids=SEQUENCE[:5], max_new_tokens=9)
    answer = Engine(session).run([request])["a"]
    stop = answer[3]
    stopped = Request(
        request_id="a", prompt_ids=SEQUENCE[:5], max_new_tokens=9, stop_ids=frozenset({stop})
    )
    assert Engine(session).run([stopped])["a"] == answer[: answer.index(stop)]


def test_what_does_not_fit_is_refused_and_the_engine_goes_on(session: Session) -> None:
    engine = Engine(session)
    good = Request(request_id="good", prompt_ids=SEQUENCE[:63], max_new_tokens=1)
    engine.submit(good)
    too_long = Request(request_id="long", prompt_ids=SEQUENCE, max_new_tokens=1)
    with pytest.raises(PlanError, match=r"64 prompt tokens and 1 new ones; .* 64$") as refused:
        engine.submit(too_long)
    assert refused.value.exit_code == 4
    outside = TINY_LLAMA["vocab_size"]
    with pytest.raises(UsageError, match=f"token {outside}, which is outside the vocabulary"):
        engine.submit(Request(request_id="v", prompt_ids=(1, outside), max_new_tokens=1))
    assert Engine(session).run([good]) == engine.run([])
