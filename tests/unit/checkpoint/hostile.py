"""Damaging files at random, and what may come of reading them."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from neuronc.errors import NeuroncError

QUICK = settings(
    max_examples=100,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([-1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, "..", "\0", "\ud800", "F32"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def damaged(data: st.DataObject, raw: bytes) -> bytes:
    """``raw`` with some runs of bytes replaced, moved or cut out, and perhaps its end."""
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        stop = data.draw(st.integers(start, min(len(changed), start + 40)))
        piece = bytes(changed[start:stop])
        new = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([piece * 2, piece[::-1], b"", b"\xff" * 8, b"NaN", b"[" * 50, b"-1"])
        )
        changed[start:stop] = new
    return bytes(changed[: data.draw(st.sampled_from([None, None, None, -1, len(changed) // 2]))])


def refuse_or_accept(read: Callable[[], object]) -> None:
    try:
        read()
    except NeuroncError as error:
        error.message.encode()  # what can be shown
