"""What a session needs of the ranks it runs on."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neuronc.trace.program_spec import Phase

Array = np.ndarray[Any, Any]


class Ranks(Protocol):
    """All ranks of an artifact, weights and caches in place.

    One call at a time: the KV caches are changed by every run.
    """

    def run(
        self, phase: Phase, bucket: int, data: list[Array], *, wanted: Sequence[int] = (0,)
    ) -> list[Array]:
        """Run a program on every rank with the same ``data``, in signature order.

        Returns:
            The outputs ``wanted``, by their numbers in the signature and the same on every rank:
            the first has the logits or embeddings. No other output is brought to the host.
        """

    def close(self) -> None:
        """Give back what the ranks hold."""


@runtime_checkable
class StartingRanks(Ranks, Protocol):
    """Ranks that take a run before the last has ended, and do it next."""

    def start(
        self, phase: Phase, bucket: int, data: Sequence[Any], *, wanted: Sequence[int]
    ) -> list[Any]:
        """`run` that does not wait.

        Returns:
            The outputs ``wanted`` on their way: for numpy, which waits, or ``data`` of the next run.
        """
