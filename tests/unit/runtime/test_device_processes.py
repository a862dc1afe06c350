"""Questions to the ranks' processes and their answers, with threads in the processes' places."""

from collections.abc import Callable
from multiprocessing import Pipe
from threading import Thread
from typing import Any

import numpy as np
import pytest

from neuronc.errors import CompilerError
from neuronc.runtime.device_ranks import DeviceProcesses

LOST = CompilerError("rank 0 lost it", hint="none")


def ranks_that(answer: list[Callable[[int], Any]]) -> DeviceProcesses:
    """Ranks that load, and then answer the n-th question with ``answer[rank](n)``."""
    ranks = object.__new__(DeviceProcesses)
    ranks._pipes, ranks._workers, ranks._asked = [], [], 0
    for one in answer:
        ours, theirs = Pipe()
        ranks._pipes.append(ours)
        theirs.send((0, None))
        Thread(target=_serve, args=(theirs, one), daemon=True).start()
    ranks._answers()
    return ranks


def _serve(pipe: Any, answer: Callable[[int], Any]) -> None:
    while True:
        try:
            number, *_ = pipe.recv()
        except EOFError:
            return
        pipe.send((number, answer(number)))


def test_answer_of_another_rank_to_a_failed_question_is_not_taken_for_the_next() -> None:
    failing_once = lambda number: LOST if number == 1 else f"zero {number}"
    ranks = ranks_that([failing_once, lambda number: f"one {number}"])
    with pytest.raises(CompilerError, match="lost it"):
        ranks._ask("run", "decode", 32, [np.zeros(1)])
    assert ranks._ask("run", "decode", 32, [np.zeros(1)]) == ["zero 2", "one 2"]


def test_late_error_to_an_older_question_does_not_end_a_newer_one() -> None:
    def both_fail(number: int) -> Any:
        return LOST if number == 1 else number

    ranks = ranks_that([both_fail, both_fail])
    with pytest.raises(CompilerError, match="lost it"):
        ranks._ask("run", "decode", 32, [])
    assert ranks._ask("run", "decode", 32, []) == [2, 2]
