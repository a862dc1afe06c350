"""The BOM is one by CycloneDX's own schema, and says plainly what is not known."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from neuronc.provenance.bom import make_bom
from neuronc.provenance.inputs import Descriptor
from neuronc.provenance.names import BOM_FILE
from tests.unit.provenance.small import INPUTS, make_small

ADAPTER: Descriptor = {
    "name": "adapter/adapter_model.safetensors",
    "digest": {"sha256": "7" * 64},
    "annotations": {"source": "polite"},
}


def problem_of(bom: dict[str, Any]) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom))


def component(bom: dict[str, Any], name: str) -> dict[str, Any]:
    return next(found for found in bom["components"] if found["bom-ref"] == name)


def said(found: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in found["properties"]}


@pytest.mark.parametrize("inputs", [INPUTS, (*INPUTS, ADAPTER), (), INPUTS[1:]])
def test_it_is_valid_whatever_is_known(tmp_path: Path, inputs: tuple[Descriptor, ...]) -> None:
    assert problem_of(make_bom(make_small(tmp_path), inputs)) is None


def test_the_validator_would_say_so(tmp_path: Path) -> None:
    bom = make_bom(make_small(tmp_path), INPUTS)
    component(bom, "model")["licenses"] = [{"license": {"id": "no such license"}}]
    assert problem_of(bom) is not None


def test_model_license_and_tools_are_in_it(tmp_path: Path) -> None:
    make_small(tmp_path)
    bom = json.loads((tmp_path / BOM_FILE).read_text())
    model = component(bom, "model")
    assert model["type"] == bom["metadata"]["component"]["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["pedigree"]["ancestors"][0]["name"] == "org/base"
    assert model["purl"] == INPUTS[0]["uri"]
    assert model["version"] == "1" * 40
    assert model["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "3" * 64}]
    torch = component(bom, "pkg:pypi/torch@2.13.0%2Bcpu")
    assert (torch["type"], torch["version"]) == ("library", "2.13.0+cpu")
    depends = next(entry for entry in bom["dependencies"] if entry["ref"] == "artifact")
    assert {"model", "pkg:pypi/torch@2.13.0%2Bcpu"} <= set(depends["dependsOn"])


def test_what_is_not_said_is_unknown(tmp_path: Path) -> None:
    model = component(make_bom(make_small(tmp_path), ()), "model")
    assert model["licenses"] == [{"license": {"name": "unknown"}}]
    assert said(model)["neuronc:base_model"] == "unknown"
    assert said(model)["neuronc:license_and_base_model_said_in"] == "nowhere"


def test_a_license_of_its_own_is_a_name_and_no_spdx_id(tmp_path: Path) -> None:
    told = {**INPUTS[0]["annotations"], "license": "llama3.1"}
    bom = make_bom(make_small(tmp_path), ({**INPUTS[0], "annotations": told},))
    assert component(bom, "model")["licenses"] == [{"license": {"name": "llama3.1"}}]
    assert problem_of(bom) is None
