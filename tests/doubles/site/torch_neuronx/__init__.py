"""A strict stand-in for torch_neuronx: ``trace`` with its documented arguments, nothing else.

Contract: AWS Neuron SDK, "PyTorch NeuronX Tracing API for Inference". What it returns runs on the
CPU, which a real traced model cannot.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

_ARG = re.compile(r"--[a-z][a-z0-9-]*(=.+)?|-O[123]")


def trace(
    func: Any,
    example_inputs: Any,
    *_: Any,
    input_output_aliases: dict[Any, int] | None = None,
    compiler_workdir: str | None = None,
    compiler_args: str | list[str] | None = None,
    partitioner_config: Any = None,
    inline_weights_to_neff: bool = True,
) -> Any:
    if _:
        message = "pass keyword arguments by keyword"
        raise TypeError(message)
    if os.environ.get("NEURON_CC_FLAGS"):
        message = "ambient NEURON_CC_FLAGS would be merged in"
        raise RuntimeError(message)
    args = compiler_args.split() if isinstance(compiler_args, str) else list(compiler_args or [])
    for arg in args:
        if not _ARG.fullmatch(arg):
            message = f"[ERROR] [NCC_EARG002] illegal argument {arg}"
            raise RuntimeError(message)
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not all(isinstance(tensor, torch.Tensor) for tensor in inputs):
        message = "example inputs must be tensors"
        raise TypeError(message)
    if compiler_workdir is not None:
        work = Path(compiler_workdir)
        work.mkdir(parents=True)
        (work / "graph.neff").write_bytes(b"double")
        (work.parent / "../torch_neuronx_args.json").resolve().write_text(json.dumps(args))
    return torch.jit.trace(func, inputs, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
