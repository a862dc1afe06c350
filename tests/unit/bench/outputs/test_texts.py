import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from neuronc.bench.outputs.csv_table import COLUMNS, csv_lines
from neuronc.bench.outputs.markdown import escape, markdown_lines
from neuronc.bench.outputs.reading import short, verdict, with_interval, write_lines
from neuronc.bench.outputs.requests_jsonl import request_lines, request_row
from neuronc.bench.outputs.steps_jsonl import step_lines
from tests.bench_examples.documents import EXAMPLES, example

MS = 1_000_000


def test_a_request_line_has_every_latency_by_its_formula() -> None:
    request = {"request_id": "r0", "prompt_tokens": 5, "new_tokens": 3, "sched_ns": 1 * MS}
    request |= {"send_ns": 2 * MS, "admit_ns": 4 * MS, "finish": "length", "error": None}
    row = request_row(request | {"token_times_ns": [11 * MS, 13 * MS, 21 * MS]})
    assert row["queue_ms"] == 3
    assert row["ttft_ms"] == 10
    assert row["ttft_send_ms"] == 9
    assert row["tpot_ms"] == 5
    assert row["itl_ms"] == [2, 8]
    assert row["e2e_ms"] == 20
    assert row["norm_ms"] == 20 / 3


def test_a_failed_request_has_no_latency_but_its_error() -> None:
    document = example("serve")
    rows = [json.loads(line) for line in request_lines(document)]
    assert len(rows) == len(document["timeline"]["requests"])
    failed = [row for row in rows if row["finish"] == "failed"]
    assert failed
    assert {row["ttft_ms"] for row in failed} == {None}
    assert all("NaN" in row["error"] for row in failed)


def test_step_lines_follow_the_timeline() -> None:
    document = example("decoder")
    rows = [json.loads(line) for line in step_lines(document)]
    assert len(rows) == len(document["timeline"]["steps"])
    assert rows[0]["since_last_ms"] is None
    assert all(row["ms"] > 0 for row in rows)


def test_a_truncated_timeline_says_how_much_was_kept() -> None:
    document = example("decoder")
    document["timeline"]["truncated"] = True
    *_, last = step_lines(document)
    assert "steps were kept" in last


def test_no_timeline_gives_no_lines() -> None:
    assert list(request_lines(example("few"))) == []
    assert list(step_lines(example("few"))) == []


def test_the_table_has_a_row_per_metric_per_mode() -> None:
    document = example("decoder")
    rows = list(csv.DictReader(csv_lines(document)))
    assert tuple(rows[0]) == COLUMNS
    for mode in ("latency", "throughput"):
        of_mode = {row["metric"]: row for row in rows if row["mode"] == mode}
        estimates = document["modes"][mode]["estimates"]
        assert of_mode.keys() == estimates.keys()
        assert float(of_mode["tpot_ms.p50"]["low"]) == estimates["tpot_ms.p50"]["low"]
    cells = {row["at"] for row in rows if row["mode"] == "steps"}
    assert len(cells) == len(document["modes"]["steps"]["cells"])


def test_an_undefined_metric_is_an_empty_field_with_its_reason() -> None:
    rows = {row["metric"]: row for row in csv.DictReader(csv_lines(example("few")))}
    assert rows["tpot_ms.p50"]["value"] == ""
    assert rows["tpot_ms.p50"]["reason"] == "undefined in every run"


def _texts(document: dict[str, Any]) -> dict[str, str]:
    return {
        "requests": "\n".join(request_lines(document)),
        "steps": "\n".join(step_lines(document)),
        "csv": "\n".join(csv_lines(document)),
        "markdown": "\n".join(markdown_lines(document)),
    }


def test_an_invalid_run_prints_no_number_but_why() -> None:
    document = example("invalid")
    value = document["modes"]["throughput"]["estimates"]["output_tokens_per_s"]["value"]
    for text in _texts(document).values():
        assert "INVALID RUN, no number of it may be quoted" in text
        assert "token 17 is 4021" in text
        assert short(value) not in text
        assert str(value) not in text


def test_a_noisy_run_is_marked_on_every_output() -> None:
    texts = _texts(example("noisy"))
    assert "NOISY RUN, its numbers may not repeat" in texts["markdown"]
    assert "5,210 involuntary switches" in texts["markdown"]
    for name in ("requests", "steps"):
        assert all('"status": "noisy"' in line for line in texts[name].splitlines())
    assert all(line.startswith("noisy,") for line in texts["csv"].splitlines()[1:])


@pytest.mark.parametrize("name", EXAMPLES)
def test_markdown_tables_are_rectangular_and_end_with_the_caveats(name: str) -> None:
    document = example(name)
    lines = list(markdown_lines(document))
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|")
    assert lines[-1] == f"- {escape(document['caveats'][-1])}"


def test_markdown_shows_text_of_the_document_as_it_is() -> None:
    document = example("decoder")
    document["fingerprint"]["model"]["source"] = "</script><img onerror=x> | `a` @all\n# b"
    first = next(iter(markdown_lines(document)))
    shown = "&lt;/script&gt;&lt;img onerror=x&gt; \\| \\`a\\` \\@all \\# b"
    assert first.startswith(f"### {shown}: ")


def test_numbers_keep_three_digits_and_null_is_said() -> None:
    shown = [short(n) for n in (0.0, 0.00123, 0.5, 1.5, 123.456, 12345.6, None)]
    assert shown == ["0", "0.0012", "0.500", "1.50", "123.5", "12,346", "not defined"]
    assert with_interval({"value": 0.5, "low": 0.25, "high": 0.75}, scale=100) == (
        "50.00 (25.00\N{EN DASH}75.00)"
    )
    assert with_interval({"value": 2, "low": None, "high": None}) == "2.00"


def test_only_doubts_are_a_verdict() -> None:
    assert verdict(example("decoder")) is None


def test_a_file_appears_only_once_complete(tmp_path: Path) -> None:
    def lines() -> Any:
        yield "one"
        message = "broken off"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError):
        write_lines(lines(), tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []
    write_lines(["one", "two"], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "one\ntwo\n"


def test_arrivals_are_named_where_there_is_one_kind() -> None:
    document = example("decoder")
    document["workload"]["arrival"] = "by mode"
    assert "by mode" not in "\n".join(markdown_lines(document))
    document["workload"]["arrival"] = "poisson"
    assert "new tokens, poisson arrivals, seed" in "\n".join(markdown_lines(document))
