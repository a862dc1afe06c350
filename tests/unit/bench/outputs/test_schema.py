import io
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from neuronc.bench.outputs.csv_table import csv_lines
from neuronc.bench.outputs.html.page import render_html
from neuronc.bench.outputs.markdown import markdown_lines
from neuronc.bench.outputs.schema import SCHEMA_NAME, load_schema
from neuronc.bench.terminal import render
from tests.bench_examples.documents import EXAMPLES, example, few, serve

Change = Callable[[dict[str, Any]], object]
VALIDATOR = jsonschema.Draft202012Validator(load_schema())


def problems(document: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())
    assert load_schema()["properties"]["schema"] == {"const": SCHEMA_NAME}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_documents_satisfy_the_schema(name: str) -> None:
    assert problems(example(name)) == []


def test_examples_are_the_same_each_time() -> None:
    assert serve() == example("serve")


def _serve(document: dict[str, Any]) -> dict[str, Any]:
    runs: dict[str, Any] = document["modes"]["serve"]
    return runs


BROKEN: dict[str, Change] = {
    "another schema": lambda d: d.update(schema="neuronc.bench/2"),
    "unknown key": lambda d: d.update(extra=1),
    "missing validation": lambda d: d.pop("validation"),
    "unknown mode": lambda d: d["modes"].update(storm={}),
    "no mode": lambda d: d["modes"].clear(),
    "null workload": lambda d: d["workload"].update(num_requests=None),
    "unknown arrival": lambda d: d["workload"].update(arrival="sometimes"),
    "metric without unit": lambda d: _serve(d)["estimates"].update(
        {"tpot.p50": _serve(d)["estimates"]["tpot_ms.p50"]}
    ),
    "null without a reason": lambda d: _serve(d)["estimates"]["ttft_ms.p50"].update(low=None),
    "percentile without a reason": lambda d: _serve(d)["pooled"]["ttft_ms"]["percentiles"][
        "p50"
    ].update(high=None),
    "step class without bucket": lambda d: _serve(d)["steps"].update(
        decode=_serve(d)["steps"]["decode/256"]
    ),
    "eleven slow steps": lambda d: _serve(d)["slowest_steps"].append(_serve(d)["slowest_steps"][0]),
    "valid and invalid": lambda d: d.update(status="invalid"),
    "noisy without a finding": lambda d: d["noise"].update(noisy=True),
    "noisy noise, status ok": lambda d: d["noise"].update(noisy=True, findings=["busy"]),
    "problems of a valid run": lambda d: d["validation"].update(problems=["token 3 differs"]),
    "finished without a token": lambda d: d["timeline"]["requests"][0].update(token_times_ns=[]),
    "failed without an error": lambda d: d["timeline"]["requests"][0].update(finish="failed"),
    "share above one": lambda d: _serve(d)["slo"]["joint"].update(attainment=1.2),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_documents_fail(name: str) -> None:
    document = example("serve")
    BROKEN[name](document)
    assert problems(document)


LATER = {
    *("requests", "requests_checked", "tokens_alone", "over_floor", "kept_up"),
    *("user_tokens_per_s", "user_tokens_per_s_p95", "late_ms"),
}


def _before(value: Any) -> Any:
    """A document from before these keys were there."""
    if isinstance(value, list):
        return [_before(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _before(inner)
        for key, inner in value.items()
        if key.partition(".")[0] not in LATER or isinstance(inner, list)
    }


@pytest.mark.parametrize("name", ["decoder", "sweep"])
def test_documents_without_later_keys_are_valid_and_are_drawn(name: str) -> None:
    old = _before(example(name))
    assert old != example(name)
    assert problems(old) == []
    assert len(render_html(old)) > 100_000
    render(old, Console(file=io.StringIO(), width=100))
    assert list(csv_lines(old))
    assert list(markdown_lines(old))


def test_null_is_refused_where_the_contract_does_not_name_it() -> None:
    document = few()
    assert document["machine"] is None
    assert document["timeline"] is None
    document["noise"] = None
    assert problems(document)
