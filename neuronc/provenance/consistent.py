"""Whether a statement is about the artifact that it lies beside, and says all that it should."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neuronc.artifact.manifest import Manifest
from neuronc.checkpoint.paths import shown
from neuronc.provenance.inputs import CHECKPOINT, Descriptor, describe_tools
from neuronc.provenance.read import definition_of, dependencies_of
from neuronc.provenance.statement import (
    BUILD_TYPE,
    external_parameters,
    internal_parameters,
    subjects,
)


def find_differences(statement: Mapping[str, Any], manifest: Manifest) -> tuple[str, ...]:
    """What ``statement``, which was parsed, says otherwise than ``manifest``; each with both values.

    Of the inputs a manifest tells only the tools.
    """
    return tuple(_differences(statement, manifest))


def find_gaps(statement: Mapping[str, Any]) -> tuple[str, ...]:
    """What a complete statement would say and ``statement``, which was parsed, does not."""
    return tuple(_gaps(dependencies_of(statement)))


def is_tool(found: Descriptor) -> bool:
    """Whether a dependency is a package of the toolchain, not an input."""
    return str(found.get("uri", "")).startswith(("pkg:pypi/", "pkg:generic/"))


def _differences(statement: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    definition = definition_of(statement)
    if definition.get("buildType") != BUILD_TYPE:
        yield f"buildType is {shown(definition.get('buildType'))}, expected {BUILD_TYPE!r}"
    yield from _of_subjects(statement["subject"], subjects(manifest))
    for title, expected in (
        ("externalParameters", external_parameters(manifest)),
        ("internalParameters", internal_parameters(manifest)),
    ):
        yield from _of_tables(title, definition[title], expected)
    told = [found for found in dependencies_of(statement) if is_tool(found)]
    for tool in describe_tools(manifest):
        if tool not in told:
            same = [found.get("uri") for found in told if found["name"] == tool["name"]]
            yield f"{tool['name']}: the manifest says {tool['uri']}, the statement {same or 'nothing'}"


def _of_subjects(told: Sequence[Descriptor], expected: Sequence[Descriptor]) -> Iterator[str]:
    found = {entry["name"]: entry.get("digest") for entry in told}
    if len(found) < len(told):
        yield "a subject is named twice"
    wanted = {entry["name"]: entry["digest"] for entry in expected}
    for name, digest in wanted.items():
        if found.get(name) != digest:
            yield f"{name}: the manifest says {_digest(digest)}, the statement {_digest(found.get(name))}"
    for name in found.keys() - wanted.keys():
        yield f"{name} is a subject, and the manifest does not list it"


def _of_tables(title: str, told: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(told.keys() | expected.keys()):
        if told.get(key) != expected.get(key):
            yield (
                f"{title}.{key}: the manifest says {shown(expected.get(key))},"
                f" the statement {shown(told.get(key))}"
            )


def _gaps(inputs: Sequence[Descriptor]) -> Iterator[str]:
    files = [found for found in inputs if found["name"].startswith(f"{CHECKPOINT}/")]
    if not files:
        yield "it does not say which checkpoint the weights come from"
    unknown = [found["name"] for found in files if not found.get("digest", {}).get("sha256")]
    if unknown:
        yield f"{len(unknown)} input files have a version and no digest, first {unknown[0]}"


def _digest(found: Any) -> str:
    values = list(found.values()) if isinstance(found, dict) else []
    return str(values[0])[:64] if values else "nothing"
