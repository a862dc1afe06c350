"""Every output takes a document in which all that may be null is null."""

import json

import jsonschema
import pytest

from neuronc.bench.outputs.csv_table import csv_lines
from neuronc.bench.outputs.html.page import render_html
from neuronc.bench.outputs.markdown import markdown_lines
from neuronc.bench.outputs.perfetto import trace
from neuronc.bench.outputs.requests_jsonl import request_lines
from neuronc.bench.outputs.schema import load_schema
from neuronc.bench.outputs.steps_jsonl import step_lines
from tests.bench_examples.documents import EXAMPLES, example
from tests.bench_examples.hollow import REASON, hollow_document


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_hollow_document_satisfies_the_schema(name: str) -> None:
    validator = jsonschema.Draft202012Validator(load_schema())
    found = validator.iter_errors(hollow_document(example(name)))
    assert [f"{error.json_path}: {error.message}" for error in found] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_output_takes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuronc.bench.outputs.html.page.plotly_js", lambda: "")
    document = hollow_document(example(name))
    for lines in (csv_lines, markdown_lines, request_lines, step_lines):
        assert "None" not in "\n".join(lines(document))
    json.dumps(trace(document), allow_nan=False)
    for other in (document, example("serve")):
        page = render_html(document, other=other)
        assert ">None<" not in page
        assert "NaN" not in page.partition("id=figures>")[2]
    assert REASON in page or document["status"] == "invalid"
