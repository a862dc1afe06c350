"""The requests of a benchmark: the same settings give the same ones everywhere."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuronc.bench.workload.conversations import Conversations
from neuronc.bench.workload.lengths import Fixed, Lengths, Mix
from neuronc.bench.workload.shapes import RequestShape, require_fit
from neuronc.bench.workload.streams import named_stream
from neuronc.bench.workload.trace_file import trace_lines
from neuronc.errors import UsageError

DEFAULT_LENGTHS = Fixed(32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The requests of a file; ``name`` is the file's, for reports."""

    name: str
    shapes: tuple[RequestShape, ...]

    def __str__(self) -> str:
        """With a digest of what is in it: other requests are another workload, whatever the name."""
        digest = hashlib.sha256("\n".join(trace_lines(self.shapes)).encode()).hexdigest()
        return f"trace:{self.name}#{digest[:8]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """How long requests are and what is in them.

    Attributes:
        prompt_tokens: Lengths of the prompts, drawn apart from the answers'.
        new_tokens: Lengths of the answers.
        joint: Where both come from together; the two above do not count then.
        seed: Of lengths, prompts and arrivals, each from a stream of its own.
        ignore_eos: Nothing but its length ends a request.
    """

    prompt_tokens: Lengths = DEFAULT_LENGTHS
    new_tokens: Lengths = DEFAULT_LENGTHS
    joint: Mix | Trace | Conversations | None = None
    seed: int = 0
    ignore_eos: bool = True

    def __post_init__(self) -> None:
        if self.seed < 0:
            message = f"--seed is {self.seed}; it must be 0 or more"
            raise UsageError(message, hint="choose another seed")

    def shapes(self, count: int, *, max_length: int) -> tuple[RequestShape, ...]:
        """The first ``count`` requests; a trace with fewer is gone through again.

        Raises:
            PlanError: one does not fit ``max_length``.
        """
        made = tuple(self._shapes(count, max_length))
        require_fit(made, max_length)
        return made

    def _shapes(self, count: int, max_length: int) -> Sequence[RequestShape]:
        if isinstance(self.joint, Trace):
            return _repeated(self.joint.shapes, count)
        if isinstance(self.joint, Conversations):
            return self.joint.draw(self.seed, count, max_length=max_length)
        if isinstance(self.joint, Mix):
            pairs = self.joint.draw(named_stream(self.seed, "lengths"), count)
        else:
            prompts = self.prompt_tokens.draw(named_stream(self.seed, "prompt lengths"), count)
            answers = self.new_tokens.draw(named_stream(self.seed, "answer lengths"), count)
            pairs = list(zip(prompts, answers, strict=True))
        return [RequestShape(prompt_tokens=p, new_tokens=n) for p, n in pairs]

    def to_dict(self) -> dict[str, Any]:
        """The settings as a reader would type them."""
        lengths = {"prompt_tokens": str(self.prompt_tokens), "new_tokens": str(self.new_tokens)}
        if self.joint is not None:
            lengths = {"prompt_tokens": str(self.joint), "new_tokens": str(self.joint)}
        return {**lengths, "seed": self.seed, "ignore_eos": self.ignore_eos}


def _repeated(shapes: Sequence[RequestShape], count: int) -> list[RequestShape]:
    """``count`` requests of a trace, begun again after its end and one mean gap."""
    last_s = shapes[-1].arrival_s
    period_s = None if last_s is None else last_s * len(shapes) / max(1, len(shapes) - 1)
    made = []
    for number in range(count):
        again, shape = number // len(shapes), shapes[number % len(shapes)]
        if shape.arrival_s is not None and period_s is not None:
            shape = replace(shape, arrival_s=shape.arrival_s + again * period_s)
        made.append(shape)
    return made
