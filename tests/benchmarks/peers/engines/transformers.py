"""transformers without compiling, its default attention, its default (growing) cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers import __version__ as transformers_version

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """It reads the weights as they are."""
    folder.symlink_to(model)


class _Streamer:
    """Gives tokens on; the first that ``generate`` puts here is the prompt."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token, self._prompt_is_through = on_token, False

    def put(self, ids: torch.Tensor) -> None:
        if self._prompt_is_through:
            self._on_token(int(ids))
        self._prompt_is_through = True

    def end(self) -> None:
        pass


class Engine:
    """Its model in a plain loop, which costs less than its ``generate``."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        self._own = setting.is_own
        given = {} if self._own else {"dtype": DTYPES[setting.dtype]}
        if not self._own:
            torch.set_num_threads(setting.threads)
        self._model = AutoModelForCausalLM.from_pretrained(folder, **given).eval()
        self._model.generation_config.eos_token_id = None
        self.versions = {"transformers": transformers_version, "torch": torch.__version__}
        self.settings = {
            "logits_to_keep": "1",
            "loop": "model.generate" if self._own else "model.forward",
            "threads": str(torch.get_num_threads()),
        }

    @torch.inference_mode()
    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """The whole prompt, then a token a call; of its own, as its ``generate`` does that."""
        self._cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([list(prompt)])
        if self._own:
            given: dict[str, Any] = {
                "past_key_values": self._cache,
                "streamer": _Streamer(on_token),
            }
            mask = torch.ones_like(ids)
            given |= {"do_sample": False, "max_new_tokens": count}
            self._model.generate(ids, attention_mask=mask, **given)
            return
        for _ in range(count):
            found = self._model(ids, past_key_values=self._cache, logits_to_keep=1)
            ids = found.logits[:, -1].argmax(-1, keepdim=True)
            on_token(int(ids))

    def dtypes(self) -> dict[str, str]:
        """Of the parameters and the cache."""
        names = {dtype: name for name, dtype in DTYPES.items()}
        weights = {names[p.dtype] for p in self._model.parameters()}
        return {"weights": "+".join(weights), "kv": names[self._cache.layers[0].keys.dtype]}
