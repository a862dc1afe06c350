"""Are the tokens of timed runs right? Fast and wrong is worth nothing.

Two questions. Of prompts whose successors verification recorded in the artifact: are the tokens
those of the original model? Another one is let pass only where the original's two likeliest are
nearer than verification lets logits be off. Of every request: did all runs give the same tokens?
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronc.bench.timeline import RequestRecord, Timeline
from neuronc.bench.workload.requests import TimedRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSequence:
    """What verification recorded of one sequence: `neuronc.verify.reference_tokens`."""

    tokens: tuple[int, ...]
    prompt_tokens: int
    next_tokens: tuple[int, ...]
    near_ties: frozenset[int]

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens before the answer."""
        return self.tokens[: self.prompt_tokens]


@dataclass(slots=True)
class TokenCheck:
    """What was found; ``problems`` make the run invalid.

    Attributes:
        tokens_checked: Tokens compared with another run's, the record, or both.
        tokens_with_reference: Of those, compared with the record.
        tokens_within_margin: Other tokens than the record's, at a near tie.
        tokens_not_repeated: Tokens that another run gave otherwise, where several decode programs
            may round differently.
    """

    problems: list[str] = field(default_factory=list)
    tokens_checked: int = 0
    tokens_with_reference: int = 0
    tokens_within_margin: int = 0
    tokens_not_repeated: int = 0


def read_known(verification: Mapping[str, Any] | None) -> tuple[KnownSequence, ...]:
    """The sequences that an artifact's verification recorded; none in older artifacts."""
    return tuple(
        KnownSequence(
            tokens=tuple(found["tokens"]),
            prompt_tokens=found["prompt_tokens"],
            next_tokens=tuple(found["next_tokens"]),
            near_ties=frozenset(found["near_ties"]),
        )
        for found in (verification or {}).get("reference_tokens", ())
    )


def check_tokens(
    runs: Iterable[tuple[Sequence[TimedRequest], Timeline]],
    known: Sequence[KnownSequence],
    *,
    same_bits: bool,
) -> TokenCheck:
    """Compare the tokens of all ``runs`` with the record and with each other.

    Args:
        runs: What was asked and what came, of every timed run.
        known: The record.
        same_bits: Whether every run of a request does the same arithmetic: true if there is one
            decode program. If not, tokens that differ between runs are counted, not refused.
    """
    check = TokenCheck()
    first: dict[tuple[int, ...], tuple[int, ...]] = {}
    for requests, timeline in runs:
        prompts = {request.request_id: request.prompt_ids for request in requests}
        for record in timeline.requests:
            prompt = prompts[record.request_id]
            _check_against_record(check, record, prompt, known)
            _check_against_run(check, record, first.setdefault(prompt, record.token_ids), same_bits)
            if len(record.token_ids) > len(first[prompt]):
                first[prompt] = record.token_ids
            check.tokens_checked += len(record.token_ids)
    return check


def _check_against_record(
    check: TokenCheck,
    record: RequestRecord,
    prompt: tuple[int, ...],
    known: Sequence[KnownSequence],
) -> None:
    sequence = next((s for s in known if s.tokens[: len(prompt)] == prompt), None)
    if sequence is None:
        return
    for index, token in enumerate(record.token_ids):
        position = len(prompt) + index - 1  # of the token whose successor this is
        if position >= len(sequence.next_tokens):
            return
        wanted = sequence.next_tokens[position]
        check.tokens_with_reference += 1
        if token != wanted and position in sequence.near_ties:
            check.tokens_within_margin += 1
        elif token != wanted:
            what = f"token {index} is {token}, the original model's {wanted}"
            check.problems.append(f"{record.request_id}: {what}")
        if sequence.tokens[position + 1 : position + 2] != (token,):
            return  # what follows has another past than the record


def _check_against_run(
    check: TokenCheck, record: RequestRecord, other: tuple[int, ...], same_bits: bool
) -> None:
    pairs = zip(record.token_ids, other, strict=False)  # a run that was cut short has fewer
    differing = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
    if differing is None:
        return
    if same_bits:
        what = (
            f"token {differing} is {record.token_ids[differing]}, another run's {other[differing]}"
        )
        check.problems.append(f"{record.request_id}: {what}")
    else:
        check.tokens_not_repeated += 1
