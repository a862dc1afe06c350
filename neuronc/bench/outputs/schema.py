"""The JSON Schema of the benchmark document, as shipped with the package."""

import json
from importlib import resources
from typing import Any

SCHEMA_NAME = "neuronc.bench/1"


def load_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of `SCHEMA_NAME`; any validator that knows the draft can use it."""
    text = resources.files("neuronc.bench.outputs").joinpath("schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
