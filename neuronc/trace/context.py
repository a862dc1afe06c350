"""What a running program knows of itself, for the modules deep inside a model that need it.

transformers' modules take only what their authors foresaw; positions and the rank's number reach
ours this way. One context belongs to one thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class ProgramContext:
    """Values of the program that is being traced or run.

    Attributes:
        positions_NS: ``[N, S]`` position of each new token in its sequence.
        key_length: Cache positions that attention sees.
        rank: ``[1]`` i32, this rank's number; None at tp 1.
        lengths: ``[N]`` i32, tokens of each text, where the rest is padding; None without padding.
        last: ``[1]`` i32, index of the one token whose logits are wanted; None for all.
    """

    positions_NS: torch.Tensor
    key_length: int
    rank: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    last: torch.Tensor | None = None


_CURRENT: ContextVar[ProgramContext] = ContextVar("program")


def current_program() -> ProgramContext:
    """The program that this thread is in."""
    return _CURRENT.get()


def current_rank() -> torch.Tensor:
    """``[1]`` i32: this rank's number."""
    rank = current_program().rank
    if rank is None:
        message = "a module that is split over ranks runs in a program of one rank"
        raise RuntimeError(message)
    return rank


@contextmanager
def running(program: ProgramContext) -> Iterator[None]:
    """Within, modules of this thread see ``program``."""
    token = _CURRENT.set(program)
    try:
        yield
    finally:
        _CURRENT.reset(token)
