"""Reading what lies beside a manifest: it may have been put there by anybody."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neuronc.checkpoint.paths import contained_file, open_file, shown
from neuronc.errors import InputError
from neuronc.provenance.inputs import Descriptor
from neuronc.provenance.names import PROVENANCE_FILE
from neuronc.provenance.statement import PREDICATE_TYPE, STATEMENT_TYPE

MAX_BYTES = 64_000_000
"""Of a statement, an envelope or a BOM: hundreds of thousands of files."""

_AGAIN = "do not trust this artifact: copy it again, or build it again"


def read_statement(folder: Path) -> dict[str, Any] | None:
    """The statement beside the manifest in ``folder``; None where there is none.

    Raises:
        InputError: it is a link out of the folder, too large, or no statement of neuronc.
    """
    path = contained_file(folder, PROVENANCE_FILE)
    if not path.is_file():
        _refuse_other(path)
        return None
    return parse_statement(read_bytes(path), subject=str(path))


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        InputError: it cannot be read, or has more than `MAX_BYTES`.
    """
    with open_file(path) as file:
        found = file.read(MAX_BYTES + 1)
    if len(found) > MAX_BYTES:
        message = f"{path} has more than {MAX_BYTES} bytes; expected a statement or a BOM"
        raise InputError(message, hint=_AGAIN)
    return found


def parse_object(text: bytes, *, subject: str) -> dict[str, Any]:
    """The JSON object ``text``: no NaN, and no key twice, which readers would read differently.

    Raises:
        InputError: it is anything else.
    """
    try:
        found = json.loads(text, parse_constant=_refuse, object_pairs_hook=_distinct)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        message = f"{subject} is not valid JSON: {str(error)[:200]}"
        raise InputError(message, hint=_AGAIN) from error
    if not isinstance(found, dict):
        message = f"{subject} holds a JSON {type(found).__name__}; expected an object"
        raise InputError(message, hint=_AGAIN)
    return found


def parse_statement(text: bytes, *, subject: str) -> dict[str, Any]:
    """The statement ``text``, with the fields that are read here being what they must be.

    Raises:
        InputError: one is not.
    """
    found = parse_object(text, subject=subject)
    for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if found.get(key) != expected:
            message = f"{subject}: {key} is {shown(found.get(key))}; expected {expected!r}"
            raise InputError(message, hint=_AGAIN)
    problem = next(_problems(found), None)
    if problem is not None:
        message = f"{subject}: {problem}"
        raise InputError(message, hint=_AGAIN)
    return found


def definition_of(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    """``buildDefinition`` of a statement that was parsed."""
    found: Mapping[str, Any] = statement["predicate"]["buildDefinition"]
    return found


def dependencies_of(statement: Mapping[str, Any]) -> list[Descriptor]:
    """``resolvedDependencies`` of a statement that was parsed."""
    found: list[Descriptor] = definition_of(statement)["resolvedDependencies"]
    return found


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    predicate = found.get("predicate")
    parts = predicate if isinstance(predicate, dict) else {}
    definition, details = parts.get("buildDefinition"), parts.get("runDetails")
    if not isinstance(definition, dict) or not isinstance(details, dict):
        yield "predicate has no buildDefinition or no runDetails"
        return
    if not isinstance(details.get("builder"), dict):
        yield "runDetails has no builder"
    for key in ("externalParameters", "internalParameters"):
        if not isinstance(definition.get(key), dict):
            yield f"{key} is {shown(definition.get(key))}; expected an object"
    lists = {
        "subject": found.get("subject"),
        "resolvedDependencies": definition.get("resolvedDependencies"),
        "byproducts": details.get("byproducts"),
    }
    for key, value in lists.items():
        if not isinstance(value, list) or not all(map(_is_descriptor, value)):
            yield f"{key} is {shown(value)}; expected a list of descriptors with names"


def _is_descriptor(found: object) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return False
    digest, told = found.get("digest", {}), found.get("annotations", {})
    if not isinstance(digest, dict) or not isinstance(told, dict):
        return False
    bases = told.get("base_models", [])
    texts = [found.get("uri", ""), *digest.values(), told.get("source", "")]
    texts += [told.get("license") or "", told.get("said_in", "")]
    texts += bases if isinstance(bases, list) else [None]
    return all(isinstance(text, str) for text in texts)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return found


def _refuse(constant: str) -> None:
    message = f"{constant} is no JSON number"
    raise ValueError(message)


def _refuse_other(path: Path) -> None:
    if path.is_symlink() or path.exists():
        message = f"{path} is not a file"
        raise InputError(message, hint=_AGAIN)
