"""Are the tokens of timed runs right? Fast and wrong is worth nothing.

Three questions. Of prompts whose successors verification recorded in the artifact: are the tokens
those of the original model? Another one is let pass only where the original's two likeliest are
nearer than verification lets logits be off. Of every request: are they those of the request made
alone (`neuronc.bench.alone`), as far as there was time for that? And did all runs give the same?
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronc.bench.alone import Alone, Prompt
from neuronc.bench.timeline import RequestRecord, Timeline
from neuronc.bench.workload.requests import TimedRequest
from neuronc.dtypes import DTYPES


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

    def covers(self, prompt: Prompt, new_tokens: int) -> bool:
        """Whether it tells every token of such an answer."""
        told = len(self.next_tokens) - len(prompt) + 1
        return prompt == self.prompt and new_tokens <= told


@dataclass(slots=True)
class TokenCheck:
    """What was found; ``problems`` make the run invalid.

    Attributes:
        requests: Timed requests that gave a token.
        requests_checked: Of those, compared to their last token with the record or with the answer
            made alone, or up to a near tie that went the other way.
        tokens_checked: Tokens of all of them, compared with another run's, the record's or the
            answer's.
        tokens_with_reference: Of those, compared with the record.
        tokens_alone: Of those, compared with the answer made alone.
        tokens_within_margin: Other tokens than the record's or the answer's, at a near tie.
        tokens_not_repeated: Tokens that another run gave otherwise, where several decode programs
            may round differently.
    """

    problems: list[str] = field(default_factory=list)
    requests: int = 0
    requests_checked: int = 0
    tokens_checked: int = 0
    tokens_alone: int = 0
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


def allowed_error(verification: Mapping[str, Any] | None, dtype: str) -> float | None:
    """The largest relative error of logits that a verification let pass; None without one."""
    found = verification or {}
    if not found.get("passed") or "tolerance_ulp" not in found:
        return None
    return float(found["tolerance_ulp"]) * DTYPES[dtype].eps


def check_tokens(
    runs: Iterable[tuple[Sequence[TimedRequest], Timeline]],
    known: Sequence[KnownSequence],
    *,
    same_bits: bool,
    alone: Mapping[Prompt, Alone] | None = None,
) -> TokenCheck:
    """Compare the tokens of all ``runs`` with the record, with answers made alone, with each other.

    Args:
        runs: What was asked and what came, of every timed run.
        known: The record.
        same_bits: Whether every run of a request does the same arithmetic: true if there is one
            decode program. If not, tokens that differ between runs are counted, not refused, and
            those that differ from an answer made alone are refused where that is no near tie.
        alone: Answers made alone, by prompt.
    """
    check = TokenCheck()
    first: dict[tuple[int, ...], tuple[int, ...]] = {}
    for requests, timeline in runs:
        prompts = {request.request_id: request.prompt_ids for request in requests}
        for record in timeline.requests:
            prompt = prompts[record.request_id]
            answer = (alone or {}).get(prompt)
            by_record = _check_against_record(check, record, prompt, known)
            by_answer = _check_against_alone(check, record, answer, same_bits)
            check.requests += bool(record.token_ids)
            check.requests_checked += bool(record.token_ids) and (by_record or by_answer)
            other = first.setdefault(prompt, record.token_ids)
            if not by_answer:  # else the others were held against the same answer
                _check_against_run(check, record, other, same_bits)
            if len(record.token_ids) > len(other):
                first[prompt] = record.token_ids
            check.tokens_checked += len(record.token_ids)
    return check


def _check_against_record(
    check: TokenCheck,
    record: RequestRecord,
    prompt: tuple[int, ...],
    known: Sequence[KnownSequence],
) -> bool:
    """True if nothing was left to compare."""
    sequence = next((s for s in known if s.tokens[: len(prompt)] == prompt), None)
    if sequence is None:
        return False
    for index, token in enumerate(record.token_ids):
        position = len(prompt) + index - 1  # of the token whose successor this is
        if position >= len(sequence.next_tokens):
            return False
        wanted = sequence.next_tokens[position]
        check.tokens_with_reference += 1
        if token != wanted and position in sequence.near_ties:
            check.tokens_within_margin += 1
        elif token != wanted:
            what = f"token {index} is {token}, the original model's {wanted}"
            check.problems.append(f"{record.request_id}: {what}")
        if sequence.tokens[position + 1 : position + 2] != (token,):
            # what follows has another past than the record
            return token != wanted or index + 1 == len(record.token_ids)
    return True


def _check_against_alone(
    check: TokenCheck, record: RequestRecord, answer: Alone | None, same_bits: bool
) -> bool:
    """True if nothing was left to compare."""
    if answer is None:
        return False
    for index, (token, wanted) in enumerate(zip(record.token_ids, answer.token_ids, strict=False)):
        check.tokens_alone += 1
        if token == wanted:
            continue
        if not same_bits and answer.near_ties is None:
            check.tokens_not_repeated += 1  # nobody knows how far rounding goes
        elif not same_bits and answer.near_ties is not None and index in answer.near_ties:
            check.tokens_within_margin += 1
        else:
            what = f"token {index} is {token}, made alone {wanted}"
            check.problems.append(f"{record.request_id}: {what}")
        return True  # what follows has another past
    return len(record.token_ids) <= len(answer.token_ids)


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
