"""The in-toto statement of an artifact, with a SLSA provenance predicate (both version 1).

Formats: in-toto attestation "Statement v1" and "ResourceDescriptor v1"; SLSA "Provenance v1". The
same inputs and tools give the same bytes on every machine: there are no times, durations, host or
user names, typed words or absolute paths in it, so SLSA's optional ``runDetails.metadata`` is left
out. The builder is whoever ran neuronc: nothing is claimed of that machine.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from neuronc import __version__
from neuronc.artifact.manifest import MANIFEST_FILE, Manifest, is_diary
from neuronc.errors import InputError
from neuronc.provenance.command import command_of
from neuronc.provenance.inputs import MANIFEST_DIGEST, Descriptor, describe_python, describe_tools
from neuronc.provenance.names import BOM_FILE

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:neuronc:build:v1"
BUILDER_ID = "urn:neuronc:builder:local:v1"

_OF_THIS_MACHINE = ("checkpoint_files", "adapter_files", "refit_of")
"""What of a request is made of times of files, or stands among the dependencies."""


def make_statement(
    manifest: Manifest, inputs: Sequence[Descriptor], *, bom_sha256: str
) -> dict[str, Any]:
    """The statement about the artifact that ``manifest`` describes.

    Args:
        manifest: Of the artifact.
        inputs: What it was made of, from `neuronc.provenance.inputs.describe_inputs`.
        bom_sha256: Of the BOM beside it.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects(manifest),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external_parameters(manifest),
                "internalParameters": internal_parameters(manifest),
                "resolvedDependencies": [*inputs, *describe_tools(manifest), describe_python()],
            },
            "runDetails": {
                "builder": {"id": BUILDER_ID, "version": {"neuronc": __version__}},
                "byproducts": [{"name": BOM_FILE, "digest": {"sha256": bom_sha256}}],
            },
        },
    }


def subjects(manifest: Manifest) -> list[Descriptor]:
    """Every file of an artifact but logs of the compiler, and what `Manifest.digest` covers."""
    files = [file for file in manifest.files if not is_diary(file.path)]
    whole = {"name": MANIFEST_FILE, "digest": {MANIFEST_DIGEST: manifest.digest}}
    return [whole, *({"name": file.path, "digest": {"sha256": file.sha256}} for file in files)]


def external_parameters(manifest: Manifest) -> dict[str, Any]:
    """What was asked for: the recipe, with names in place of paths, and the command for it."""
    asked = {k: v for k, v in manifest.request.items() if k not in _OF_THIS_MACHINE}
    asked["checkpoint"] = manifest.model.get("source")
    if isinstance(adapter := asked.get("adapter"), str):
        asked["adapter"] = PurePath(adapter).name
    return {**asked, "command": command_of(asked, is_bundle=manifest.is_bundle)}


def internal_parameters(manifest: Manifest) -> dict[str, Any]:
    """What neuronc made of it: sizes, programs, arguments of the compiler, needs of the host."""
    neuron = manifest.neuron
    told = {} if neuron is None else {k: v for k, v in neuron.items() if k in _OF_COMPILER}
    return {
        "target": manifest.target,
        "tp": manifest.tp,
        "dtype": manifest.dtype,
        "quantize": manifest.quantize,
        "batch_size": manifest.batch_size,
        "max_length": manifest.max_length,
        "programs": [program.name for program in manifest.programs],
        "host": dict(manifest.host),
        "neuron": told or None,
    }


_OF_COMPILER = ("lnc", "args", "neuron_cc_flags", "compiler")


def to_bytes(document: Mapping[str, Any], *, subject: str) -> bytes:
    """``document`` as it is written, and signed.

    Raises:
        InputError: a value that JSON has no form for (NaN), or text that is none.
    """
    try:
        text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        return f"{text}\n".encode()
    except ValueError as error:
        message = f"{subject} cannot be written: {error}"
        raise InputError(message, hint="manifest.json holds a value that is no JSON") from error
