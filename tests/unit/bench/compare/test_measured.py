"""Two artifacts whose loads are not the same cannot take turns."""

import pytest

from neuronc.bench.compare.measured import _share_requests
from neuronc.bench.modes.runs import RunMode, RunSet
from neuronc.bench.workload.load import Load
from neuronc.bench.workload.requests import TimedRequest
from neuronc.errors import UsageError


def run_set(concurrency: int, requests: int) -> RunSet:
    made = tuple(
        TimedRequest(request_id=f"request-{number}", prompt_ids=(2, 3), new_tokens=3)
        for number in range(requests)
    )
    return RunSet(mode=RunMode(mode="sweep", load=Load(concurrency=concurrency), requests=made))


def test_both_sides_make_as_many_requests_as_the_slower_one() -> None:
    a, b = [run_set(1, 5), run_set(2, 4)], [run_set(1, 3), run_set(2, 9)]
    _share_requests(a, b)
    assert [len(found.mode.requests) for found in (*a, *b)] == [3, 4, 3, 4]


def test_other_numbers_of_loads_are_refused() -> None:
    with pytest.raises(UsageError, match="A has 2 loads to measure and B 1") as refused:
        _share_requests([run_set(1, 5), run_set(2, 4)], [run_set(1, 3)])
    assert "--concurrency" in refused.value.hint
