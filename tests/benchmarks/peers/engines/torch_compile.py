"""transformers through torch.compile, with the static cache that this needs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, StaticCache
from transformers import __version__ as transformers_version

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """It compiles as it runs; the warm-up of the same shapes takes that in."""
    folder.symlink_to(model)


class Engine:
    """A compiled forward for the prompt's shape and one for a token's."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        dtype = {} if setting.is_own else {"dtype": DTYPES[setting.dtype]}
        options: dict[str, Any] = {} if setting.is_own else {"dynamic": False}
        if not setting.is_own:
            torch.set_num_threads(setting.threads)
        length = setting.max_length
        self._model = AutoModelForCausalLM.from_pretrained(folder, **dtype).eval()
        self._forward: Any = torch.compile(self._model.forward, **options)
        self._cache = StaticCache(config=self._model.config, max_cache_len=length)
        self.versions = {"transformers": transformers_version, "torch": torch.__version__}
        self.settings = {
            "logits_to_keep": "1",
            "torch.compile": str(options),
            "cache": f"StaticCache of {length}",
            "threads": str(torch.get_num_threads()),
        }

    @torch.no_grad()
    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """The whole prompt, then a token a call."""
        self._cache.reset()
        ids, start = torch.tensor([list(prompt)]), 0
        for _ in range(count):
            positions = torch.arange(start, start + ids.shape[1])[None]
            found = self._forward(
                ids, position_ids=positions, past_key_values=self._cache, logits_to_keep=1
            )
            start += ids.shape[1]
            ids = found.logits[:, -1].argmax(-1, keepdim=True)
            on_token(int(ids))

    def dtypes(self) -> dict[str, str]:
        """Of the parameters and the cache."""
        names = {dtype: name for name, dtype in DTYPES.items()}
        weights = {names[p.dtype] for p in self._model.parameters()}
        return {"weights": "+".join(weights), "kv": names[self._cache.layers[0].keys.dtype]}
