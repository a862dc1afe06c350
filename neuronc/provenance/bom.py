"""The ML-BOM of an artifact in CycloneDX 1.6 (ECMA-424), as plain JSON.

The artifact and the model it was made of are components of type ``machine-learning-model``, the
tools libraries. What a checkpoint does not say is said to be unknown. Without times and with a
serial number made of the artifact's digest, the same artifact gives the same bytes.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuronc import __version__
from neuronc.artifact.manifest import Manifest, is_diary
from neuronc.provenance.inputs import CHECKPOINT, Descriptor, describe_python, describe_tools
from neuronc.provenance.model_card import UNKNOWN

Component = dict[str, Any]

_SERIALS = uuid.UUID("6f1c3a52-9f1e-5a0b-8f0e-2f6a6c0f5d11")
_SPDX = {
    name.lower(): name
    for name in (
        "AFL-3.0", "AGPL-3.0-only", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause",
        "BSL-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0",
        "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0", "ECL-2.0", "EPL-2.0",
        "EUPL-1.2", "ISC", "LGPL-3.0-only", "MIT", "MPL-2.0", "MS-PL", "NCSA", "OFL-1.1",
        "OSL-3.0", "PostgreSQL", "Unlicense", "WTFPL", "Zlib",
    )
}  # fmt: skip
"""Of the Hub's names of licenses those that are SPDX ids; any other is a name and no id."""


def make_bom(manifest: Manifest, inputs: Sequence[Descriptor]) -> dict[str, Any]:
    """The BOM of the artifact that ``manifest`` describes.

    Args:
        manifest: Of the artifact.
        inputs: What it was made of, from `neuronc.provenance.inputs.describe_inputs`.
    """
    tools = [_library(tool) for tool in (*describe_tools(manifest), describe_python())]
    made_of = [_model(manifest, inputs), *_adapters(inputs)]
    serial = uuid.uuid5(_SERIALS, manifest.digest)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "neuronc", "version": __version__}]
            },
            "component": _artifact(manifest),
        },
        "components": [*made_of, *tools],
        "dependencies": [
            {"ref": "artifact", "dependsOn": [found["bom-ref"] for found in (*made_of, *tools)]},
            *({"ref": found["bom-ref"]} for found in (*made_of, *tools)),
        ],
    }


def _artifact(manifest: Manifest) -> Component:
    kept = [file for file in manifest.files if not is_diary(file.path)]
    files = [_file("artifact", file.path, file.sha256) for file in kept]
    properties = {
        "artifact_digest": manifest.digest,
        "target": manifest.target,
        "tp": manifest.tp,
        "dtype": manifest.dtype,
        "quantize": manifest.quantize or "none",
        "programs": ", ".join(program.name for program in manifest.programs),
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": "artifact",
        "name": f"{manifest.model.get('source', UNKNOWN)} for {manifest.target}",
        "version": manifest.digest[:12],
        "properties": _properties(properties),
        "components": [file for file in files if file is not None],
    }


def _model(manifest: Manifest, inputs: Iterable[Descriptor]) -> Component:
    files = [found for found in inputs if found["name"].startswith(f"{CHECKPOINT}/")]
    whole = next((found for found in inputs if found["name"] == CHECKPOINT), None)
    told: Mapping[str, Any] = {} if whole is None else whole.get("annotations", {})
    uri = "" if whole is None else whole.get("uri", "")
    bases = told.get("base_models") or []
    hashed = [_file("model", f["name"], f.get("digest", {}).get("sha256")) for f in files]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": str(manifest.model.get("source", UNKNOWN)),
        **({"purl": uri, "version": uri.rpartition("@")[2]} if uri.startswith("pkg:") else {}),
        "licenses": [_license(told.get("license"))],
        **({"pedigree": {"ancestors": [_ancestor(name) for name in bases]}} if bases else {}),
        "modelCard": {
            "modelParameters": {
                "architectureFamily": "transformer",
                "modelArchitecture": str(manifest.model.get("model_type", UNKNOWN)),
            }
        },
        "properties": _properties(
            {
                "base_model": ", ".join(bases) or UNKNOWN,
                "license_and_base_model_said_in": told.get("said_in") or "nowhere",
            }
        ),
        "components": [file for file in hashed if file is not None],
    }


def _adapters(inputs: Iterable[Descriptor]) -> list[Component]:
    files = [found for found in inputs if found["name"].startswith("adapter/")]
    if not files:
        return []
    hashed = [_file("adapter", f["name"], f.get("digest", {}).get("sha256")) for f in files]
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": "adapter",
            "name": str(files[0].get("annotations", {}).get("source", UNKNOWN)),
            "licenses": [_license(None)],
            "components": [file for file in hashed if file is not None],
        }
    ]


def _library(tool: Descriptor) -> Component:
    uri = tool["uri"]
    version = uri.rpartition("@")[2].partition("?")[0].replace("%2B", "+")
    return {
        "type": "library",
        "bom-ref": uri,
        "name": tool["name"],
        "version": version,
        "purl": uri,
    }


def _file(owner: str, name: str, sha256: str | None) -> Component | None:
    if sha256 is None:
        return None
    hashes = [{"alg": "SHA-256", "content": sha256}]
    return {"type": "file", "bom-ref": f"{owner}:{name}", "name": name, "hashes": hashes}


def _ancestor(name: str) -> Component:
    return {"type": "machine-learning-model", "name": name}


def _license(name: str | None) -> dict[str, dict[str, str]]:
    known = _SPDX.get((name or "").lower())
    return {"license": {"name": name or UNKNOWN} if known is None else {"id": known}}


def _properties(values: Mapping[str, object]) -> list[dict[str, str]]:
    return [{"name": f"neuronc:{name}", "value": str(value)} for name, value in values.items()]
