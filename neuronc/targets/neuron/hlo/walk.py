"""Goes over an HLO proto, message by message."""

from collections.abc import Iterator
from typing import Any


def walk(message: Any) -> Iterator[Any]:
    """``message`` and every message inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else (value,):
            yield from walk(inner)


def shapes_of(message: Any) -> Iterator[Any]:
    """Every ``ShapeProto`` in ``message``, those inside tuples too."""
    return (inner for inner in walk(message) if inner.DESCRIPTOR.name == "ShapeProto")
