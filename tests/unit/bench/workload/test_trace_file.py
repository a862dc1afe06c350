from pathlib import Path

import pytest

from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.trace_file import read_trace, trace_lines
from neuronc.errors import InputError, UsageError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    shapes = (
        RequestShape(prompt_tokens=8, new_tokens=2, arrival_s=0.0),
        RequestShape(prompt_tokens=5, new_tokens=1, arrival_s=0.75),
    )
    (tmp_path / "trace.jsonl").write_text("\n".join(trace_lines(shapes)))
    assert read_trace(tmp_path / "trace.jsonl") == shapes


def test_mooncakes_names_are_read_sorted_and_moved_to_zero(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"timestamp": 3000, "input_length": 7, "output_length": 3, "hash_ids": [1]}\n\n'
        '{"timestamp": 1000, "input_length": 6, "output_length": 2}\n'
    )
    assert read_trace(path) == (
        RequestShape(prompt_tokens=6, new_tokens=2, arrival_s=0.0),
        RequestShape(prompt_tokens=7, new_tokens=3, arrival_s=2.0),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no requests"),
        ("{", "line 1, is not JSON"),
        ("[1]", "line 1, is not a JSON object"),
        ('{"prompt_tokens": 1}', "line 1, has new_tokens None"),
        ('{"prompt_tokens": 0, "new_tokens": 1}', "line 1, has prompt_tokens 0"),
        ('{"prompt_tokens": true, "new_tokens": 1}', "line 1, has prompt_tokens True"),
        ('{"prompt_tokens": 1, "new_tokens": 1, "arrival_s": -1}', "line 1, has arrival -1"),
        ('{"prompt_tokens": 1, "new_tokens": 1, "arrival_s": NaN}', "line 1, has arrival nan"),
        (
            f'{{"prompt_tokens": 1, "new_tokens": 1, "arrival_s": {10**400}}}',
            "line 1, has arrival 1000",
        ),
        ("[" * 100_000, "line 1, is not JSON"),
        (
            '{"prompt_tokens": 1, "new_tokens": 1, "arrival_s": 1}\n{"prompt_tokens": 1, "new_tokens": 1}',
            "for 1 of 2 requests",
        ),
    ],
)
def test_damaged_trace_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_trace(path)


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"prompt_tokens": 1, "new_tokens": 1, "who": "a\u2028b"}\r\n', "utf-8")
    assert read_trace(path) == (RequestShape(prompt_tokens=1, new_tokens=1),)


def test_trace_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_trace(tmp_path / "missing.jsonl")
