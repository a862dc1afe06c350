"""A conversation-like trace for people who have none of their own.

Conversations start at Poisson times. Each has a geometric number of turns; a turn's prompt is the
whole conversation so far and a new message, so prompts grow from turn to turn; the next turn
comes after the answer has been read. What it imitates is the shape (growing prompts, long-tailed
messages and answers, pauses), not any data set: the parameters below are ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neuronc.bench.workload.lengths import Lognormal
from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.streams import named_stream

MEAN_TURNS = 3.0
PAUSE_S = 8.0  # mean time between an answer and the next message
READING_TOKENS_PER_S = 20.0  # an answer is streamed and read at about this rate
MESSAGE_SHARE, ANSWER_SHARE = 0.06, 0.12  # of the artifact's max length, on average


@dataclass(frozen=True, slots=True)
class Conversations:
    """Turns of made-up conversations."""

    def draw(self, seed: int, count: int, *, max_length: int) -> list[RequestShape]:
        """``count`` turns by arrival; one conversation a second starts before any scaling.

        A conversation ends before the turn that would be longer than ``max_length``.
        """
        turns: list[RequestShape] = []
        starts = named_stream(seed, "conversations/starts")
        begin_s, number = 0.0, 0
        while len(turns) < 2 * count:  # later turns of late conversations are cut off below
            rng = named_stream(seed, f"conversations/{number}")
            turns += _turns(rng, begin_s, max_length)
            begin_s += starts.standard_exponential()
            number += 1
        turns.sort(key=lambda turn: turn.arrival_s or 0.0)
        return turns[:count]

    def __str__(self) -> str:
        return "conversations"


def _turns(rng: np.random.Generator, begin_s: float, max_length: int) -> Iterator[RequestShape]:
    message = _lognormal(MESSAGE_SHARE * max_length, 1.2, max_length // 4)
    answer = _lognormal(ANSWER_SHARE * max_length, 0.8, max_length // 2)
    cached, now_s = 0, begin_s
    for turn in range(int(rng.geometric(1 / MEAN_TURNS))):
        (said,), (answered,) = message.draw(rng, 1), answer.draw(rng, 1)
        if turn > 0 and cached + said + answered > max_length:
            return
        yield RequestShape(prompt_tokens=cached + said, new_tokens=answered, arrival_s=now_s)
        cached += said + answered
        now_s += answered / READING_TOKENS_PER_S + PAUSE_S * rng.standard_exponential()


def _lognormal(mean: float, spread: float, high: int) -> Lognormal:
    mean = max(1.0, mean)
    return Lognormal(mean, spread * mean, 1, max(1, high))
