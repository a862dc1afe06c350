"""A serialized XLA:CPU executable in an order of its own, so that the same program is the same file.

XLA compiles a program's kernels on several threads and lists their object files as they end.
Calls go by the kernels' names, so any order will do; this one is that of their bytes. Nothing
else in the file differs between two compiles of a program.

The file is what jaxlib 0.10.2 writes: a header with its length before it, then messages in
messages (openxla/xla, ``xla/pjrt/cpu/cpu_client.cc`` and ``xla/service/cpu/executable.proto``:
``CompilationResultProto.object_files`` is field 8).
"""

import io
import pickle
import pickletools
from collections.abc import Iterator

from neuronc.errors import CompilerError

_OBJECT_FILES = 8
_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}


def in_fixed_order(payload: bytes) -> bytes:
    """``payload``, as `jax.experimental.serialize_executable` gives it, object files sorted.

    Raises:
        CompilerError: it is built in another way than expected.
    """
    try:
        start, stop = _executable_in(payload)
        result_start, result_stop = _compilation_result(payload, start, stop)
        files = [
            (first, last)
            for number, first, last in _fields(payload, result_start, result_stop)
            if number == _OBJECT_FILES
        ]
        begin, end = files[0][0], files[-1][1]  # a program has one at least
        if sum(last - first for first, last in files) != end - begin:
            message = "the object files do not follow each other"
            raise ValueError(message)
    except (ValueError, IndexError) as error:
        message = f"XLA:CPU's executable is built in another way than expected: {error!r}"
        raise CompilerError(message, hint="install the jaxlib that neuronc pins") from error
    in_order = sorted(payload[first:last] for first, last in files)
    return payload[:begin] + b"".join(in_order) + payload[end:]


def _executable_in(payload: bytes) -> tuple[int, int]:
    """Where the longest byte string of the pickle lies; nothing is unpickled."""
    for operation, value, place in pickletools.genops(io.BytesIO(payload)):
        if operation.name in ("BINBYTES", "BINBYTES8") and isinstance(value, bytes):
            if place is None:
                break
            start = place + (5 if operation.name == "BINBYTES" else 9)
            if payload[start : start + len(value)] != value:
                break
            return start, start + len(value)
    message = f"no bytes in the pickle of protocol {pickle.HIGHEST_PROTOCOL} or lower"
    raise ValueError(message)


def _compilation_result(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Bounds of the message with the object files: field 1 of what follows the header."""
    header, start = _varint(data, start)
    number, first, last = next(iter(_fields(data, start + header, stop)))
    _, first = _varint(data, first)  # the tag
    length, first = _varint(data, first)
    if number != 1 or first + length != last:
        message = f"field {number} in place of a message in field 1"
        raise ValueError(message)
    return first, last


def _fields(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number and bounds, tag included, of every field of a message (protobuf wire format)."""
    at = start
    while at < stop:
        first = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, at = _varint(data, at)
            at += length
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        elif kind == 0:
            _, at = _varint(data, at)
        else:
            message = f"wire type {kind}"
            raise ValueError(message)
        if at > stop:
            message = "a field that is longer than its message"
            raise ValueError(message)
        yield tag >> 3, first, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of the wire format, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    message = "a number of more than 64 bits"
    raise ValueError(message)
