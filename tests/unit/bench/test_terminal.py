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
        "sent late",
        "tokens/s for one user",
    ):
        assert label in text


def test_programs_are_shown_with_their_prediction_and_their_jitter() -> None:
    (row,) = [
        line
        for line in drawn("decoder", 160).splitlines()
        if line.split()[:3] == ["decode/512", "4", "384"]
    ]
    cell = example("decoder")["modes"]["steps"]["cells"][-1]
    assert f"{cell['floor_ms']:.2f}" in row
    assert f"{cell['over_floor']:.2f}" in row
    steps = example("decoder")["modes"]["throughput"]["steps"]["decode/512"]
    for width in (80, 160):
        lines = [s for s in drawn("decoder", width).splitlines() if "throughput" in s]
        (row,) = [line for line in lines if "decode/512" in line]
        tail = steps["ms"]["max"] / steps["ms"]["percentiles"]["p50"]["value"]
        assert f"max {tail:.2f}" in row


def test_few_columns_leave_out_what_says_least() -> None:
    wide, narrow = drawn("decoder", 160), drawn("decoder", 80)
    assert "MFU" in wide
    assert "MFU" not in narrow
    assert "predicted" in narrow


def test_a_trace_has_no_rate() -> None:
    document = example("serve")
    document["modes"]["serve"] |= {"arrival": "trace", "rate": None}
    console = Console(file=io.StringIO(), width=100, color_system=None)
    render(document, console)
    assert isinstance(console.file, io.StringIO)
    assert "requests, trace arrivals; 5 repeats" in console.file.getvalue()
    assert "sent late" in console.file.getvalue()
