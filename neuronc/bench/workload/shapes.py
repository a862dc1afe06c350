"""What a request looks like before it has token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuronc.errors import PlanError


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestShape:
    """Lengths in tokens; ``arrival_s`` from the start of the run, None where nothing says it."""

    prompt_tokens: int
    new_tokens: int
    arrival_s: float | None = None


def require_fit(shapes: Sequence[RequestShape], max_length: int) -> None:
    """Refuse requests that the KV cache cannot hold, before any of them runs.

    Raises:
        PlanError: names the first such request, how many there are, and the length they need.
    """
    needed = [shape.prompt_tokens + shape.new_tokens for shape in shapes]
    beyond = [number for number, tokens in enumerate(needed) if tokens > max_length]
    if beyond:
        first = shapes[beyond[0]]
        message = (
            f"{len(beyond)} of {len(shapes)} requests are longer than the artifact's max_length of"
            f" {max_length}: request {beyond[0]} has {first.prompt_tokens} prompt +"
            f" {first.new_tokens} new tokens"
        )
        hint = f"shorten them, or compile with --max-length {max(needed)}"
        raise PlanError(message, hint=hint)
