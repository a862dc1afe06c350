"""CTranslate2's generator."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

COMPUTE = {"f32": "float32", "bf16": "bfloat16"}


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """Convert with its own converter, unless this processor cannot compute in the dtype."""
    import ctranslate2

    program = Path(sys.executable).with_name("ct2-transformers-converter")
    command = [str(program), "--model", str(model), "--output_dir", str(folder)]
    if setting.is_own:
        subprocess.run(command, check=True)
        return
    supported = ctranslate2.get_supported_compute_types("cpu")
    quantization = COMPUTE[setting.dtype]
    if quantization not in supported:
        message = f"its computations on this CPU are {', '.join(sorted(supported))}"
        raise ValueError(message)
    subprocess.run([*command, "--quantization", quantization], check=True)


class Engine:
    """One worker with the threads that are given."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        import ctranslate2

        compute: dict[str, Any] = {}
        if not setting.is_own:
            compute |= {"compute_type": COMPUTE[setting.dtype], "inter_threads": 1}
            compute |= {"intra_threads": setting.threads}
        self._generator = ctranslate2.Generator(str(folder), device="cpu", **compute)
        self._words = json.loads((folder / "vocabulary.json").read_text())
        self.versions = {"ctranslate2": version("ctranslate2")}
        self.settings = {name: str(value) for name, value in compute.items()}
        self.settings |= {"end_token": "[]"}

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """It takes words; ids are looked up before, and no end token ends it."""
        words = [self._words[token] for token in prompt]
        steps = self._generator.generate_tokens(
            words, max_length=count, sampling_topk=1, end_token=[]
        )
        for step in steps:
            on_token(step.token_id)

    def dtypes(self) -> dict[str, str]:
        """Its compute type; weights and caches have the same."""
        names = {name: dtype for dtype, name in COMPUTE.items()}
        found = self._generator.compute_type
        return {"compute": names.get(found, found)}
