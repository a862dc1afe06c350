import io

import pytest
from rich.console import Console

from neuronc.bench.terminal import render
from tests.bench_examples.documents import EXAMPLES, example


def drawn(name: str, width: int, **validation: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    document = example(name)
    render({**document, "validation": {**document["validation"], **validation}}, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_number_is_cut_off(name: str, width: int) -> None:
    text = drawn(name, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_tokens_are_called_alike_only_where_they_were() -> None:
    assert ", alike in all runs" in drawn("decoder", 160)
    assert "but for 3 requests alike" in drawn("decoder", 160, tokens_not_repeated=3)


def test_stalls_host_gaps_and_the_steady_rate_are_shown() -> None:
    text = drawn("serve", 80)
    for label in (
        "gaps with a prefill",
        "between programs",
        "in the steady window",
        "slowest step",
    ):
        assert label in text
