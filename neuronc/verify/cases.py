"""Which sequences a verification runs: together they pass through every program and every slot."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuronc.errors import InputError
from neuronc.runtime.session import Session
from neuronc.runtime.text import TextCodec

NUM_DECODE_STEPS = 8
_NUM_VARIANTS = 4  # bounds the reference's work for many slots

_TEXTS = (
    "The capital of France is Paris. The Seine runs through it, and the Louvre stands on its bank.",
    "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
    "In 1969 two people walked on the Moon for the first time, 384,400 km from home.",
    "Water boils at 100 degrees Celsius at sea level, and at 71 degrees on top of Mount Everest.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One sequence: a prompt, then tokens that are fed whatever the model would have said."""

    prompt: tuple[int, ...]
    forced: tuple[int, ...]


def make_rounds(session: Session, weights_dir: Path) -> tuple[tuple[Case, ...], ...]:
    """Rounds of one case per slot; the slots of a round have nearly the same prompt length.

    Over the rounds, prompts end inside every prefill bucket, in a second chunk after the largest
    (where the cache allows), and where every decode bucket is the smallest that fits.
    """
    tokens = real_tokens(weights_dir, session.vocab_size)
    return tuple(
        tuple(_case(session, tokens, slot, length) for slot in range(session.batch_size))
        for length in _prompt_lengths(session)
    )


def _prompt_lengths(session: Session) -> list[int]:
    room = session.max_length - 1  # at least one decode step
    lengths, smaller = [], 0
    for bucket in session.prefill_buckets:
        lengths.append(max(smaller + 1, bucket - 1))
        smaller = bucket
    lengths.append(smaller + smaller // 2 + 1)
    smaller = 0
    for bucket in session.decode_buckets:
        lengths.append(max(smaller, 1))
        smaller = bucket
    return sorted({min(length, room) for length in lengths})


def _case(session: Session, tokens: list[int], slot: int, length: int) -> Case:
    """Slot 0 has the round's length; the next three are up to 3 tokens shorter, then again."""
    variant = slot % _NUM_VARIANTS
    length = max(1, length - variant)
    num_forced = min(NUM_DECODE_STEPS, session.max_length - length)
    first = (length * 7 + variant * 13) % len(tokens)
    endless = [tokens[(first + i) % len(tokens)] for i in range(length + num_forced)]
    return Case(prompt=tuple(endless[:length]), forced=tuple(endless[length:]))


def real_tokens(weights_dir: Path, vocab_size: int) -> list[int]:
    """Token ids of real text; seeded random ids where the model has no usable tokenizer."""
    try:
        codec = TextCodec.open(weights_dir)
    except InputError:
        codec = None
    ids = [i for text in _TEXTS for i in codec.encode(text)] if codec else []
    if not ids or max(ids) >= vocab_size:
        ids = np.random.default_rng(0).integers(0, vocab_size, 256).tolist()
    return ids
