"""What ``neuronc inspect --provenance`` shows: what an artifact was made of, and with what."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuronc.errors import InputError


def show_provenance(folder: Path) -> tuple[dict[str, object], Callable[[Any], None]]:
    """The statement beside the manifest in ``folder``, as JSON data and as a drawing.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from neuronc.artifact.manifest import read_manifest
    from neuronc.provenance.consistent import find_differences, find_gaps
    from neuronc.provenance.names import BOM_FILE, ENVELOPE_FILE, PROVENANCE_FILE
    from neuronc.provenance.read import read_statement

    manifest, statement = read_manifest(folder), read_statement(folder)
    if statement is None:
        message = f"{folder} has no {PROVENANCE_FILE}: an older neuronc made it"
        raise InputError(message, hint="build it again, and it gets one")
    data: dict[str, object] = {
        "kind": "provenance",
        "artifact_digest": manifest.digest,
        "differences": list(find_differences(statement, manifest)),
        "gaps": list(find_gaps(statement)),
        "has_bom": (folder / BOM_FILE).is_file(),
        "has_signature": (folder / ENVELOPE_FILE).is_file(),
        "statement": statement,
    }

    def draw(console: Any) -> None:
        _draw(console, statement, data)

    return data, draw


def _draw(console: Any, statement: dict[str, Any], data: dict[str, Any]) -> None:
    from neuronc.cli.tables import draw_pairs, draw_table
    from neuronc.provenance.consistent import is_tool
    from neuronc.provenance.read import definition_of, dependencies_of

    found = dependencies_of(statement)
    asked = definition_of(statement)["externalParameters"]
    builder = statement["predicate"]["runDetails"]["builder"]
    pairs = {
        "artifact": data["artifact_digest"],
        "command": shlex.join(_words(asked.get("command"))),
        **_card(found),
        "tools": ", ".join(str(d.get("uri", d["name"])) for d in found if is_tool(d)),
        "builder": str(builder.get("version")),
        "fits the manifest": "; ".join(data["differences"]) or "yes",
        "complete": "; ".join(data["gaps"]) or "yes",
        "signature": "there, not verified here" if data["has_signature"] else "none",
    }
    draw_pairs(console, pairs)
    inputs = [(str(d["name"]), *_identity(d)) for d in found if not is_tool(d)]
    draw_table(console, ("input", "digest or place", "bytes"), inputs)


def _card(found: list[dict[str, Any]]) -> dict[str, str]:
    whole = next((d for d in found if d["name"] == "checkpoint"), {})
    told = whole.get("annotations", {})
    return {
        "license": str(told.get("license") or "unknown: the checkpoint does not say"),
        "base model": ", ".join(told.get("base_models", [])) or "unknown",
    }


def _identity(found: dict[str, Any]) -> tuple[str, str]:
    digest = [f"{kind}:{value}" for kind, value in found.get("digest", {}).items()]
    size = found.get("annotations", {}).get("size_bytes")
    return " ".join(digest) or str(found.get("uri", "")), "" if size is None else str(size)


def _words(command: object) -> list[str]:
    return [str(word) for word in command] if isinstance(command, list) else []
