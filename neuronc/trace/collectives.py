"""The two collectives a rank's program uses, as torch operators that tracing can see.

The fake implementations give shapes to `torch.export`, and lowering puts the real StableHLO
collective in their place. Between the threads of a `RankGroup` they are computed.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

NAMESPACE = "neuronc"


class RankGroup:
    """Ranks that are threads of this process and exchange tensors, for checks without lowering."""

    def __init__(self, tp: int) -> None:
        self._barrier = threading.Barrier(tp)
        self._parts: list[torch.Tensor | None] = [None] * tp

    @contextmanager
    def joined(self, rank: int) -> Iterator[None]:
        """Within, this thread is ``rank``; if it fails, the others do not wait for it."""
        token = _MEMBER.set((self, rank))
        try:
            yield
        except BaseException:
            self._barrier.abort()
            raise
        finally:
            _MEMBER.reset(token)

    def exchange(self, rank: int, part: torch.Tensor) -> list[torch.Tensor]:
        """Every rank's ``part``, on every rank."""
        self._parts[rank] = part
        self._barrier.wait()
        parts = [part for part in self._parts if part is not None]
        self._barrier.wait()
        return parts


_MEMBER: ContextVar[tuple[RankGroup, int]] = ContextVar("member")


def _exchange(part: torch.Tensor) -> list[torch.Tensor]:
    group, rank = _MEMBER.get()
    return group.exchange(rank, part)


@torch.library.custom_op(f"{NAMESPACE}::all_reduce", mutates_args=())
def all_reduce(x: torch.Tensor) -> torch.Tensor:
    """Sum of ``x`` over all ranks, same shape and dtype on every rank."""
    return torch.stack(_exchange(x)).sum(0)


@all_reduce.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op(f"{NAMESPACE}::all_gather", mutates_args=())
def all_gather(x: torch.Tensor, tp: int) -> torch.Tensor:
    """The ranks' ``x`` side by side along the last dim: ``[..., n]`` becomes ``[..., tp * n]``."""
    parts = _exchange(x)
    if len(parts) != tp:
        message = f"gathering over {tp} ranks in a group of {len(parts)}"
        raise RuntimeError(message)
    return torch.cat(parts, dim=-1)


@all_gather.register_fake
def _(x: torch.Tensor, tp: int) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] * tp))
