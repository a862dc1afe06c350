"""The sequences of a verification through the artifact and the original model, row by row."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from neuronc.progress import Progress
from neuronc.runtime.session import Session
from neuronc.trace.program_spec import TOKENS
from neuronc.verify.cases import Case
from neuronc.verify.compare import LogitsRow
from neuronc.verify.reference import References

_Truth = tuple[Any, Any]
"""Logits ``[length, vocab]`` of a sequence in f32, and in the artifact's dtype or None."""


def run_rounds(
    session: Session,
    references: References,
    rounds: tuple[tuple[Case, ...], ...],
    progress: Progress,
) -> Iterator[LogitsRow]:
    """A row for every prefill chunk and every decode step of every slot, round after round.

    Args:
        session: Of the artifact.
        references: The original model.
        rounds: What to feed, a case per slot.
        progress: Told of every sequence.
    """
    total = sum(len(cases) for cases in rounds)
    with progress.stage("comparing logits", total=total, unit="sequences") as stage:
        for cases in rounds:
            truths: dict[Case, _Truth] = {}
            for case in cases:
                if case not in truths:
                    truths[case] = references.logits([*case.prompt, *case.forced])
                stage.advance()
            yield from _run_round(session, cases, [truths[case] for case in cases])


def _run_round(
    session: Session, cases: tuple[Case, ...], truths: list[_Truth]
) -> Iterator[LogitsRow]:
    for slot, case in enumerate(cases):
        done = 0
        while done < len(case.prompt):
            start, done = session.next_chunk(done, len(case.prompt))
            logits, tokens = _outputs(
                session, session.prefill_outputs, slot, case.prompt[start:done], start=start
            )
            bucket = session.prefill_bucket(done - start)
            yield LogitsRow(
                phase="prefill",
                bucket=bucket,
                slot=slot,
                position=done - 1,
                compiled=logits[0],
                token=tokens[0],
                **_at(truths[slot], done - 1),
            )
    lengths = np.array([len(case.prompt) for case in cases], dtype=np.int32)
    for step in range(max(len(case.forced) for case in cases)):
        yield from _decode_step(session, cases, truths, lengths, step)


def _decode_step(
    session: Session, cases: tuple[Case, ...], truths: list[_Truth], lengths: Any, step: int
) -> Iterator[LogitsRow]:
    """All slots together; a slot whose forced tokens are used up repeats its last one."""
    steps = np.array([min(step, len(case.forced) - 1) for case in cases], dtype=np.int32)
    tokens = np.array([c.forced[s] for c, s in zip(cases, steps, strict=True)], dtype=np.int32)
    positions = (lengths + steps).astype(np.int32)
    bucket = session.decode_bucket(int(positions.max()))
    logits, sampled = _outputs(session, session.decode_outputs, tokens, positions, bucket=bucket)
    for slot in range(len(cases)):
        yield LogitsRow(
            phase="decode",
            bucket=bucket,
            slot=slot,
            position=int(positions[slot]),
            compiled=logits[slot],
            token=sampled[slot],
            **_at(truths[slot], positions[slot]),
        )


def _outputs(
    session: Session, run: Callable[..., list[Any]], *args: Any, **more: Any
) -> tuple[Any, list[int | None]]:
    """Logits of a step, and the tokens that the same run sampled from them, if any."""
    if not session.samples_on_device:
        (logits,) = run(*args, **more, names=("logits",))
        return logits, [None] * len(logits)
    logits, tokens = run(*args, **more, names=("logits", TOKENS))
    return logits, tokens.tolist()


def _at(truth: "_Truth", position: int) -> dict[str, Any]:
    reference, own = truth
    return {
        "reference": reference[position],
        "same_dtype": None if own is None else own[position],
    }
