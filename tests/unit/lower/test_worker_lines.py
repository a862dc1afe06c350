import os

import pytest

from neuronc.lower import worker


def test_an_event_is_one_write_with_its_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where PYTHONUNBUFFERED makes every print of Python's two."""
    written: list[tuple[int, bytes]] = []
    monkeypatch.setattr(os, "write", lambda to, data: written.append((to, data)))
    worker.tell({"folder": "decode_32", "exit": 0})
    assert written == [(1, b'{"folder": "decode_32", "exit": 0}\n')]
