"""neuronc: an artifact of the CPU target."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from neuronc.pipeline import build
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine as Batcher
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """Compile for this machine, and for just the lengths of the run unless it is to choose."""
    if setting.is_own:
        build(Recipe(checkpoint=str(model)), folder, verify=False)
        return
    recipe = Recipe(
        checkpoint=str(model),
        dtype=setting.dtype,
        max_length=setting.max_length,
        prefill_buckets=(setting.prompt_tokens,),
        on_device_sampling=True,
    )
    build(recipe, folder, verify=False)


class Engine:
    """Its own engine with one slot."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        self._session = Session.open(folder)
        self._batcher = Batcher(self._session)
        self.versions = {name: version(name) for name in ("jax", "jaxlib")}
        manifest = self._session.manifest
        self.settings = {
            "max_length": str(manifest.max_length),
            "prefill_buckets": str(manifest.prefill_buckets),
            "on_device_sampling": str(manifest.on_device_sampling),
        }

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """Step until the request is done."""
        request = Request(request_id="0", prompt_ids=tuple(prompt), max_new_tokens=count)
        self._batcher.submit(request)
        while self._batcher.has_work:
            for event in self._batcher.step():
                on_token(event.token_id)

    def dtypes(self) -> dict[str, str]:
        """Of the decode program's inputs; sums are f32 always."""
        inputs = self._session.manifest.programs[0].signature.inputs
        kinds = {"weights": "weight", "kv": "cache"}
        found = {name: {t.dtype for t in inputs if t.kind == kind} for name, kind in kinds.items()}
        return {name: "+".join(sorted(dtypes)) for name, dtypes in found.items()}
