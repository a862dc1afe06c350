"""OpenVINO GenAI, with the precisions that its defaults would choose silently said."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.benchmarks.peers.process import Setting


def prepare(model: Path, folder: Path, setting: "Setting") -> None:
    """Export with optimum-intel, whose environment this runs in."""
    program = Path(sys.executable).with_name("optimum-cli")
    command = [str(program), "export", "openvino", "--model", str(model)]
    command += ["--task", "text-generation-with-past"]
    command += [] if setting.is_own else ["--weight-format", "fp32"]
    subprocess.run([*command, str(folder)], check=True)


def properties(setting: "Setting") -> dict[str, Any]:
    """Of the CPU plug-in."""
    if setting.is_own:
        return {}
    return {
        "INFERENCE_PRECISION_HINT": setting.dtype,
        "KV_CACHE_PRECISION": setting.dtype,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": setting.threads,
    }


class Engine:
    """Its pipeline for ids, with continuous batching and without its prefix cache."""

    def __init__(self, folder: Path, setting: "Setting") -> None:
        import openvino_genai

        self._folder, self._properties = folder, properties(setting)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False  # also of its own: prompts come again here
        if not setting.is_own:
            scheduler.cache_size = 1
        self._pipeline = openvino_genai.LLMPipeline(
            str(folder), "CPU", scheduler_config=scheduler, **self._properties
        )
        self.versions = {name: version(name) for name in ("openvino", "openvino-genai")}
        self.settings = {name: str(value) for name, value in self._properties.items()}
        self.settings |= {
            "enable_prefix_caching": "False",
            "cache_size": str(scheduler.cache_size),
        }

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """Ids in, no tokenizer; a streamer of its own gets the ids."""
        import numpy as np
        import openvino
        import openvino_genai

        class Streamer(openvino_genai.StreamerBase):  # type: ignore[misc]
            def write(self, token: Any) -> Any:
                for one in token if isinstance(token, list) else [token]:
                    on_token(one)
                return openvino_genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = count, False, True
        ids = np.array([list(prompt)], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
        )
        self._pipeline.generate(inputs, config, Streamer())

    def dtypes(self) -> dict[str, str]:
        """What the plug-in says it made of the hints, asked of the same model and properties."""
        import openvino

        model = self._folder / "openvino_model.xml"
        compiled = openvino.Core().compile_model(model, "CPU", self._properties)
        hints = {"compute": "INFERENCE_PRECISION_HINT", "kv": "KV_CACHE_PRECISION"}
        found = {what: compiled.get_property(hint).to_string() for what, hint in hints.items()}
        return {
            what: {"f32": "f32", "bf16": "bf16"}.get(name, name) for what, name in found.items()
        }
