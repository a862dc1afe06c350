"""Object files in an order of their own: the same program is the same file, and still runs."""

import pickle
import random
from collections.abc import Callable

import pytest

from neuronc.errors import CompilerError
from neuronc.targets.cpu_payload import in_fixed_order


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def payload(files: list[bytes], *, after: bytes = b"", split: bytes = b"") -> bytes:
    """As jaxlib builds one: header, then a message with the result, pickled."""
    objects = [field(8, field(1, file)) for file in files]
    objects[1:1] = [split] if split else []
    result = field(1, b"hlo" * 99) + varint(5 << 3) + varint(300) + b"".join(objects) + after
    header = b"header"
    whole = varint(len(header)) + header + field(1, result) + field(2, b"options")
    return pickle.dumps((whole, "rest"), protocol=4)


FILES = [random.Random(n).randbytes(50 + 100 * n) for n in range(5)]


def test_any_order_becomes_the_same() -> None:
    after = field(9, b"target")
    one, other = payload(FILES, after=after), payload(FILES[::-1], after=after)
    assert one != other
    assert in_fixed_order(one) == in_fixed_order(other)
    assert len(in_fixed_order(one)) == len(one)
    whole = pickle.loads(in_fixed_order(one))[0]
    assert all(file in whole for file in FILES)
    assert whole.endswith(after + field(2, b"options"))


def test_what_is_in_order_stays() -> None:
    ordered = in_fixed_order(payload(FILES))
    assert in_fixed_order(ordered) == ordered


@pytest.mark.parametrize(
    "broken",
    [
        lambda: pickle.dumps("no bytes", protocol=4),
        lambda: pickle.dumps((b"", 1), protocol=4),
        lambda: pickle.dumps((varint(2) + b"hh" + field(3, b"x"), 1), protocol=4),
        lambda: pickle.dumps((varint(2) + b"hh" + field(1, b"\x42\x7f"), 1), protocol=4),
        lambda: pickle.dumps(
            (varint(2) + b"hh" + field(1, b"\x0a\x00"), 1), protocol=4
        ),  # no files
        lambda: pickle.dumps((b"\xff" * 20, 1), protocol=4),
        lambda: payload(FILES, split=field(7, b"between")),
    ],
)
def test_another_structure_is_an_error(broken: Callable[[], bytes]) -> None:
    with pytest.raises(CompilerError, match="another way than expected"):
        in_fixed_order(broken())
