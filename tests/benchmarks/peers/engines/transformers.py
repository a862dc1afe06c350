"""transformers without compiling, its default attention, its default (growing) cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers import __version__ as transformers_version

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """It reads the weights as they are."""
    folder.symlink_to(model)


class Engine:
    """Its model in a plain loop, which costs less than its ``generate``."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        torch.set_num_threads(setting.threads)
        dtype = DTYPES[setting.dtype]
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.versions = {"transformers": transformers_version, "torch": torch.__version__}
        self.settings = {
            "logits_to_keep": "1",
            "loop": "model.forward",
            "threads": str(setting.threads),
        }

    @torch.inference_mode()
    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """The whole prompt, then a token a call."""
        self._cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([list(prompt)])
        for _ in range(count):
            found = self._model(ids, past_key_values=self._cache, logits_to_keep=1)
            ids = found.logits[:, -1].argmax(-1, keepdim=True)
            on_token(int(ids))

    def dtypes(self) -> dict[str, str]:
        """Of the parameters and the cache."""
        names = {dtype: name for name, dtype in DTYPES.items()}
        weights = {names[p.dtype] for p in self._model.parameters()}
        return {"weights": "+".join(weights), "kv": names[self._cache.layers[0].keys.dtype]}
