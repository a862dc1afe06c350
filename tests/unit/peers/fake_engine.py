"""A strict engine for ``process.py``: what the dtype asks for is how it behaves."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

DTYPES = ("f32", "bf16", "dies", "dies later", "short", "at once", "other dtype")


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    assert model.is_dir()
    if setting.dtype == "dies":
        message = "cannot convert"
        raise ValueError(message)
    folder.mkdir()
    made = {"dtype": setting.dtype, "max_length": setting.max_length}
    (folder / "made.json").write_text(json.dumps(made))


class Engine:
    def __init__(self, folder: Path, setting: "Setting") -> None:
        assert setting.dtype in DTYPES
        made = {"dtype": setting.dtype, "max_length": setting.max_length}
        assert json.loads((folder / "made.json").read_text()) == made
        assert setting.threads == 1
        self.dtype, self.asked = setting.dtype, 0
        self.versions, self.settings = {"fake": "1"}, {"threads": str(setting.threads)}

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        self.asked += 1
        if self.dtype == "dies":
            message = "no such instruction"
            raise ValueError(message)
        for number in range(count - (self.dtype == "short")):
            if self.dtype != "at once":
                time.sleep(0.001)
            on_token(prompt[number] + 1)
        print(self.asked)
        if self.dtype == "dies later" and self.asked == 7:
            message = "out of luck"
            raise ValueError(message)

    def dtypes(self) -> dict[str, str]:
        assert self.asked >= 3, "three warm-ups"
        return {"weights": "f16" if self.dtype == "other dtype" else self.dtype}
