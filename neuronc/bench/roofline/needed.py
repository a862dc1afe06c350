"""What a step has to read and compute for its real tokens: a program's cost without the padding.

A compiled program always does all its work. Scaled down by harness.md, section 5:

- weights are read whatever the tokens are; looked-up rows, new cache positions and products with
  weights grow with the number of tokens;
- scores and weighted values grow with the pairs (token, key it may see);
- cache reads grow with the positions that hold something.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from neuronc.bench.roofline.program_cost import ProgramCost


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Bytes moved and floating-point operations, on one rank."""

    bytes: int
    flops: int

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte; None where nothing is read."""
        return self.flops / self.bytes if self.bytes else None


def padded(cost: ProgramCost) -> Work:
    """All that the program does as it is written; XLA:CPU's leaves out most of an empty cache."""
    return Work(bytes=cost.bytes, flops=cost.flops)


def needed_decode(cost: ProgramCost, contexts: Sequence[int]) -> Work:
    """For one new token in each active slot.

    ``contexts`` has, per active slot, the tokens attention sees, the new one among them. Pairs:
    ``sum(contexts)`` of ``slots * bucket``.

    Raises:
        ValueError: More slots than the program has, or a context beyond its bucket.
    """
    _check("active slots", len(contexts), cost.rows)
    _check("tokens in a slot", max(contexts, default=0), cost.keys_per_token)
    seen = sum(contexts) / (cost.rows * cost.keys_per_token)
    return _scale(
        cost, tokens=len(contexts) / cost.rows, pairs=seen, keys=seen, some=bool(contexts)
    )


def needed_prefill(cost: ProgramCost, *, num_tokens: int, start: int = 0) -> Work:
    """For ``num_tokens`` real tokens of a prompt, of which ``start`` are in the cache already.

    Pairs: token i sees ``start + i`` keys, so ``n start + n (n + 1) / 2`` of ``bucket *
    max_length`` (the causal half, where the program computes all).

    Raises:
        ValueError: More tokens than the bucket, or than the cache holds.
    """
    _check("prompt tokens", num_tokens, cost.tokens_per_row)
    _check("tokens in the slot", start + num_tokens, cost.keys_per_token)
    pairs = num_tokens * start + num_tokens * (num_tokens + 1) / 2
    return _scale(
        cost,
        tokens=num_tokens / cost.tokens_per_row,
        pairs=pairs / (cost.tokens_per_row * cost.keys_per_token),
        keys=(start + num_tokens) / cost.keys_per_token,
        some=num_tokens > 0,
    )


def needed_embed(cost: ProgramCost, lengths: Sequence[int]) -> Work:
    """For texts of ``lengths`` tokens, each of which sees its whole text: ``n^2`` pairs.

    Raises:
        ValueError: More texts than the program takes, or one beyond its bucket.
    """
    _check("texts", len(lengths), cost.rows)
    _check("tokens of a text", max(lengths, default=0), cost.tokens_per_row)
    tokens = sum(lengths) / (cost.rows * cost.tokens_per_row)
    all_pairs = cost.rows * cost.tokens_per_row * cost.keys_per_token
    pairs = sum(length**2 for length in lengths) / all_pairs
    return _scale(cost, tokens=tokens, pairs=pairs, keys=tokens, some=bool(lengths))


def _scale(cost: ProgramCost, *, tokens: float, pairs: float, keys: float, some: bool) -> Work:
    """The program's figures times the shares of tokens, pairs and keys that are real."""
    io = 1.0 if cost.phase == "prefill" else tokens  # prefill gives one row of logits in any case
    scaled = (
        cost.cache_read_bytes * keys
        + (cost.picked_bytes + cost.cache_written_bytes) * tokens
        + cost.token_io_bytes * io
    )
    fixed_bytes, fixed_flops = cost.weight_bytes, cost.last_flops
    flops = cost.token_flops * tokens + cost.attention_flops * pairs
    if not some:
        return Work(bytes=0, flops=0)
    return Work(bytes=fixed_bytes + round(scaled), flops=fixed_flops + round(flops))


def _check(what: str, found: int, most: int) -> None:
    if found > most:
        message = f"{found} {what}; the program has room for {most}"
        raise ValueError(message)
