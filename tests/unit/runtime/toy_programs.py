"""A toy model in the place of compiled programs, so that a real session and engine run at once.

Its KV cache holds the tokens themselves, its logits are random numbers seeded by all tokens up to
the newest. One token in the wrong place changes everything after it.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.artifact.manifest import Manifest, ProgramEntry
from neuronc.runtime.cpu_ranks import CpuRanks
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.trace.program_spec import (
    TOKENS,
    ProgramSignature,
    ProgramSpec,
    TensorSpec,
    list_programs,
)

Array = np.ndarray[Any, Any]
VOCAB_SIZE = 24
PADDING = -1  # what a program writes where no token of a request goes


def toy_logits(tokens: Sequence[int] | Array) -> Array:
    """Logits ``[VOCAB_SIZE]`` f32 after ``tokens``."""
    seed = zlib.crc32(np.asarray(tokens, dtype=np.int32).tobytes())
    return np.random.default_rng(seed).normal(size=VOCAB_SIZE).astype(np.float32)


def greedy_answer(request: Request) -> tuple[int, ...]:
    """What the toy model answers to ``request`` when it is alone in the world."""
    tokens = list(request.prompt_ids)
    for _ in range(request.max_new_tokens):
        token = int(toy_logits(tokens).argmax())
        if token in request.stop_ids:
            break
        tokens.append(token)
    return tuple(tokens[len(request.prompt_ids) :])


def open_toy(
    *,
    batch_size: int = 2,
    max_length: int = 64,
    prefill_buckets: tuple[int, ...] = (8, 16),
    decode_buckets: tuple[int, ...] = (32, 64),
    rows_changed: Mapping[int, Array] | None = None,
    on_device_sampling: bool = False,
) -> Session:
    """A session of the toy model; decode call N gives ``rows_changed[N]`` in place of its logits."""
    specs = list_programs(
        batch_size=batch_size,
        max_length=max_length,
        prefill_buckets=prefill_buckets,
        decode_buckets=decode_buckets,
        on_device_sampling=on_device_sampling,
    )
    manifest = _manifest(specs)
    decoder = _Decoder(rows_changed or {})
    programs: dict[Any, Callable[..., Any]] = {
        (s.phase, s.bucket): _sampling(
            _Prefill(s.bucket) if s.phase == "prefill" else decoder.of(s.bucket)
        )
        for s in specs
    }
    cache = np.full((batch_size, max_length), PADDING, dtype=np.int32)
    checked: Future[None] = Future()
    checked.set_result(None)
    return Session(manifest, CpuRanks(programs, [cache], []), checked)


def _manifest(specs: tuple[ProgramSpec, ...]) -> Manifest:
    logits = TensorSpec(name="logits", kind="data", shape=(1, VOCAB_SIZE), dtype="f32")
    cache = TensorSpec(name="cache", kind="cache", shape=(1,), dtype="i32")
    tokens = TensorSpec(name=TOKENS, kind="data", shape=(1,), dtype="i32")
    outputs = (logits, cache, tokens) if specs[0].on_device_sampling else (logits, cache)
    signature = ProgramSignature(inputs=(), outputs=outputs, aliases={})
    return Manifest(
        model={},
        tp=1,
        batch_size=specs[0].batch_size,
        max_length=specs[0].max_length,
        dtype="f32",
        target="cpu",
        programs=tuple(
            ProgramEntry(name=s.name, phase=s.phase, bucket=s.bucket, signature=signature)
            for s in specs
        ),
        tool_versions={},
        host={},
        files=(),
    )


def _sampling(run: Callable[..., tuple[Array, Array]]) -> Callable[..., tuple[Array, ...]]:
    """``run`` with the first largest of every row of logits after its cache."""

    def program(*inputs: Array) -> tuple[Array, ...]:
        logits, cache = run(*inputs)
        best = logits.argmax(-1)
        fine = np.isfinite(logits.max(-1))
        return logits, cache, np.where(fine, best, VOCAB_SIZE).astype(np.int32)

    return program


@dataclass(frozen=True)
class _Prefill:
    bucket: int

    def __call__(
        self, cache: Array, token_ids: Array, slot: Array, start: Array, length: Array
    ) -> tuple[Array, Array]:
        assert token_ids.shape == (1, self.bucket)
        assert 1 <= length[0] <= self.bucket
        cache = cache.copy()
        valid = np.arange(self.bucket) < length[0]
        end = start[0] + self.bucket
        assert end <= cache.shape[1], "XLA would move the write"
        cache[slot[0], start[0] : end] = np.where(valid, token_ids[0], PADDING)
        seen = cache[slot[0], : start[0] + length[0]]
        assert (seen != PADDING).all(), "attention reads what no request has written"
        return toy_logits(seen)[None], cache


class _Decoder:
    def __init__(self, rows_changed: Mapping[int, Array]) -> None:
        self._rows_changed, self._num_calls = rows_changed, 0

    def of(self, bucket: int) -> Callable[..., tuple[Array, Array]]:
        def decode(cache: Array, token_ids: Array, positions: Array) -> tuple[Array, Array]:
            cache = cache.copy()
            assert positions.shape == token_ids.shape == cache.shape[:1]
            assert positions.max() < bucket
            cache[np.arange(len(positions)), positions] = token_ids
            rows = [self._row(cache[n, : p + 1]) for n, p in enumerate(positions)]
            logits = self._rows_changed.get(self._num_calls, np.stack(rows))
            self._num_calls += 1
            return logits, cache

        return decode

    def _row(self, seen: Array) -> Array:
        if (seen == PADDING).any():  # nobody may want this row: sampling refuses it
            return np.full(VOCAB_SIZE, np.nan, dtype=np.float32)
        return toy_logits(seen)
