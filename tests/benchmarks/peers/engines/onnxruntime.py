"""ONNX Runtime GenAI on its CPU provider."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting

PRECISIONS = {"f32": "fp32", "own": "fp32"}  # it has to be told one


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """Export with its own builder."""
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-e", "cpu"]
    cache = folder.with_name(f"{folder.name}.cache")
    arguments = ["-m", model, "-o", folder, "-p", PRECISIONS[setting.dtype], "-c", cache]
    subprocess.run([*builder, *map(str, arguments)], check=True)


class Engine:
    """Its generator, a new one for every prompt."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        import onnxruntime_genai

        self._folder = folder
        session = {"intra_op_num_threads": setting.threads, "inter_op_num_threads": 1}
        config = onnxruntime_genai.Config(str(folder))
        if setting.is_own:
            session = {}
        else:
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = onnxruntime_genai.Model(config)
        self.versions = {name: version(name) for name in ("onnxruntime-genai", "onnxruntime")}
        self.settings = {name: str(value) for name, value in session.items()}

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """``min_length`` keeps it from ending early; both lengths count the prompt."""
        import onnxruntime_genai

        length = len(prompt) + count
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False, max_length=length, min_length=length)
        generator = onnxruntime_genai.Generator(self._model, parameters)
        generator.append_tokens(list(prompt))
        for _ in range(count):
            generator.generate_next_token()
            on_token(generator.get_next_tokens()[0])

    def dtypes(self) -> dict[str, str]:
        """Of the graph's large weights and of its caches."""
        import onnx

        names = {onnx.TensorProto.FLOAT: "f32", onnx.TensorProto.BFLOAT16: "bf16"}
        graph = onnx.load(str(self._folder / "model.onnx"), load_external_data=False).graph
        weights = {w.data_type for w in graph.initializer if len(w.dims) == 2}
        caches = {
            i.type.tensor_type.elem_type for i in graph.input if i.name.startswith("past_key")
        }
        kinds = {"weights": weights, "kv": caches}
        return {
            what: "+".join(sorted(names.get(found, str(found)) for found in kind))
            for what, kind in kinds.items()
        }
