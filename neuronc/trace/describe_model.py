"""What the parameters of a transformers model belong to, told without knowing its family.

Run as ``python -m neuronc.trace.describe_model`` it reads a config.json on stdin and prints JSON, so
that a process that needs nothing else of torch does not import it.
"""

import json
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["linear", "embedding", "head", "other"]
"""``linear``: of a linear layer as torch has it; ``embedding`` and ``head``: of the vocabulary."""


def describe_model(config: Mapping[str, Any]) -> dict[str, Kind]:
    """Every parameter and saved buffer of the causal LM of ``config`` to what it belongs to.

    Costs the import of torch and transformers, and no memory for weights.

    Raises:
        InputError: transformers makes no causal LM of ``config``.
    """
    import torch
    from torch import nn

    from neuronc.trace.meta_model import build_shapes, stored_names

    model = build_shapes(config, dtype=torch.float32, attention="eager")
    kinds: dict[str, Kind] = dict.fromkeys(stored_names(model), "other")
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    }
    own: list[tuple[str, Kind]] = [(name, "linear") for name in linears]
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(p): name for name, p in model.named_parameters()}  # a tied one's only name
    is_plain = isinstance(embedding, nn.Embedding) and any(head is m for m in linears.values())
    if is_plain and names[id(embedding.weight)] == f"{_name_of(model, embedding)}.weight":
        # The embedding last: a tied head's weight is the embedding's.
        own += [(_name_of(model, head), "head"), (_name_of(model, embedding), "embedding")]
    elif is_plain:  # tied under the head's name: both stay whole
        own.append((_name_of(model, head), "other"))
    for module_name, kind in own:
        for parameter in model.get_submodule(module_name).parameters(recurse=False):
            kinds[names[id(parameter)]] = kind
    return kinds


def _name_of(model: Any, wanted: Any) -> str:
    name: str = next(name for name, module in model.named_modules() if module is wanted)
    return name


def main() -> int:
    """The description of the config on stdin, or its error."""
    from neuronc.errors import NeuroncError

    warnings.simplefilter("ignore")
    try:
        answer: dict[str, Any] = {"kinds": describe_model(json.load(sys.stdin))}
    except NeuroncError as error:
        answer = {"error": [error.message, error.hint]}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
