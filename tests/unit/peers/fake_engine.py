"""A strict engine for ``process.py``: what the dtype asks for is how it behaves."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DTYPES = ("f32", "bf16", "dies", "short", "at once", "other dtype")


def prepare(model: Path, folder: Path, dtype: str) -> None:
    assert model.is_dir()
    if dtype == "dies":
        message = "cannot convert"
        raise ValueError(message)
    folder.mkdir()
    (folder / "made.json").write_text(json.dumps({"dtype": dtype}))


class Engine:
    def __init__(self, folder: Path, dtype: str, threads: int) -> None:
        assert dtype in DTYPES
        assert json.loads((folder / "made.json").read_text()) == {"dtype": dtype}
        assert threads == 1
        self.dtype, self.asked = dtype, 0
        self.versions, self.settings = {"fake": "1"}, {"threads": str(threads)}

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        self.asked += 1
        if self.dtype == "dies":
            message = "no such instruction"
            raise ValueError(message)
        for number in range(count - (self.dtype == "short")):
            if self.dtype != "at once":
                time.sleep(0.001)
            on_token(prompt[number] + 1)

    def dtypes(self) -> dict[str, str]:
        assert self.asked == 5, "three warm-ups and two repeats"
        return {"weights": "f16" if self.dtype == "other dtype" else self.dtype}
