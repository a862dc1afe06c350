"""The classic path: one TorchScript model on one core, traced and compiled by torch-neuronx.

Contract: AWS Neuron SDK, "PyTorch NeuronX Tracing API for Inference" (``torch_neuronx.trace``). The
last SDK with the package is 2.31.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronc.artifact.atomic import atomic_folder
from neuronc.checkpoint.companions import write_companions
from neuronc.checkpoint.config_only import open_config_only
from neuronc.checkpoint.remote.url import is_url, local_form
from neuronc.dtypes import DTYPES
from neuronc.errors import CompilerError, InputError, PlanError, ToolchainError
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Recipe
from neuronc.targets.neuron.chips import neuron_target
from neuronc.targets.neuron.compiler.command import compiler_args
from neuronc.targets.neuron.compiler.toolchain import (
    install_hint,
    installed_version,
    is_placeholder,
    is_stand_in,
)

PACKAGE = "torch-neuronx"
MODEL_FILE = "model.pt"
TRACE_FILE = "trace.json"
_DEFAULT_LENGTH = 512
_ARGS = ("--model-type=transformer", "--auto-cast=none", "--optlevel=2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """Contents of ``trace.json``.

    Attributes:
        source: The checkpoint.
        model_class: transformers' class that was traced.
        inputs: Name and shape of each input, in order; all are i64.
        outputs: Shape of each output.
        dtype: Element type of the weights.
        target: What it was compiled for.
        compiler_args: What neuronx-cc got.
        torch_neuronx: Version of the package.
        stand_in: Whether that version is a test double's.
        hardware: What has been proven on a device.
    """

    source: str
    model_class: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[int, ...], ...]
    dtype: str
    target: str
    compiler_args: tuple[str, ...]
    torch_neuronx: str
    stand_in: bool
    hardware: str = "not run on a Neuron device"


def trace_torchscript(
    recipe: Recipe,
    out_dir: Path,
    *,
    allow_env_flags: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Traced:
    """Write ``model.pt`` of ``recipe``'s checkpoint, its config and tokenizer into ``out_dir``.

    The model takes ``input_ids`` and ``attention_mask``, both ``[batch_size, max_length]`` i64.
    Memory: the whole model, as tracing runs it.

    Raises:
        ToolchainError: torch-neuronx is not installed.
        InputError: transformers cannot load the checkpoint.
        PlanError: a length beyond the model's positions.
        CompilerError: tracing or compiling failed.
    """
    _, lnc = neuron_target(recipe.target, recipe.lnc)
    flags = compiler_args(recipe.target, lnc, recipe.cc_args, allow_env_flags=allow_env_flags)
    args = (*flags.env_args, f"--target={recipe.target}", *_ARGS, *recipe.cc_args)
    torch_neuronx, version = _import_torch_neuronx()
    if is_url(local_form(recipe.checkpoint)):
        message = "--tracer torch-neuronx loads the model with transformers, which reads no URL"
        raise InputError(message, hint="copy the checkpoint to this machine, or pass a Hub id")
    found = open_config_only(recipe.checkpoint, revision=recipe.revision)
    length = _length(recipe, found.config)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        with progress.stage("loading the model"):
            model = _load(found.path, found.config, recipe)
        with progress.stage("tracing and compiling with torch-neuronx"):
            inputs = _inputs(recipe.batch_size, length)
            traced, outputs = _trace(torch_neuronx, model, inputs, folder, args)
        _save(traced, folder / MODEL_FILE)
        write_companions(found, folder)
        told = Traced(
            source=found.source,
            model_class=type(model).__name__,
            inputs=tuple((name, tuple(tensor.shape)) for name, tensor in inputs.items()),
            outputs=outputs,
            dtype=str(model.dtype).removeprefix("torch."),
            target=recipe.target,
            compiler_args=args,
            torch_neuronx=version,
            stand_in=is_stand_in(version),
        )
        (folder / TRACE_FILE).write_text(json.dumps(asdict(told), indent=1) + "\n")
    return told


def _import_torch_neuronx() -> tuple[Any, str]:
    version = installed_version(PACKAGE)
    hint = f"{install_hint(PACKAGE)} (the last Neuron SDK that has it is 2.31)"
    if version is None or is_placeholder(PACKAGE):
        what = "is not installed" if version is None else "is PyPI's empty placeholder"
        message = f"{PACKAGE} {what}; --tracer torch-neuronx needs it"
        raise ToolchainError(message, hint=hint)
    try:
        import torch_neuronx
    except ImportError as error:
        message = f"{PACKAGE} {version} cannot be imported: {error}"
        raise ToolchainError(message, hint=hint) from error
    return torch_neuronx, version


def _length(recipe: Recipe, config: Any) -> int:
    positions = config.get("max_position_embeddings")
    length = recipe.max_length or min(positions or _DEFAULT_LENGTH, _DEFAULT_LENGTH)
    if isinstance(positions, int) and length > positions:
        message = f"max length {length} is beyond the model's {positions} positions"
        raise PlanError(message, hint=f"pass --max-length {positions} or less")
    return int(length)


def _load(path: Path, config: Any, recipe: Recipe) -> Any:
    """The class that config.json names, or transformers' own choice; never code from the folder."""
    import transformers

    named = (config.get("architectures") or [""])[0]
    chosen = getattr(transformers, str(named), transformers.AutoModel)
    transformers.utils.logging.disable_progress_bar()
    dtype = "auto" if recipe.dtype == "auto" else DTYPES[recipe.dtype].torch
    try:
        model = chosen.from_pretrained(
            path, dtype=dtype, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers fails in many ways on what it does not expect
        reason = " ".join(str(error).split())[:300]
        message = f"transformers cannot load {recipe.checkpoint}: {reason}"
        raise InputError(message, hint="pass a checkpoint that transformers loads") from error
    model.config.use_cache = False
    return model.eval()


def _inputs(batch_size: int, length: int) -> dict[str, Any]:
    import torch

    ids = torch.zeros((batch_size, length), dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _trace(
    torch_neuronx: Any,
    model: Any,
    inputs: dict[str, Any],
    folder: Path,
    args: tuple[str, ...],
) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    import torch

    class ByPosition(torch.nn.Module):
        """transformers takes other positional arguments in other models; names are the same."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.model(input_ids=input_ids, attention_mask=attention_mask)
            # TorchScript has tuples, no output classes.
            return tuple(v for v in found.to_tuple() if isinstance(v, torch.Tensor))

    module = ByPosition().eval()
    try:
        with torch.no_grad():
            shapes = tuple(tuple(tensor.shape) for tensor in module(*inputs.values()))
    except Exception as error:  # before anything of AWS's is called
        message = f"{type(model).__name__} cannot be run on {list(inputs)}: {error}"
        hint = "the tracer is for models that take token ids and a mask"
        raise InputError(message[:2000], hint=hint) from error
    work = folder / ".work"
    # The package passes its own process's environment on to the compiler.
    kept = os.environ.pop("NEURON_CC_FLAGS", None)
    try:
        with torch.no_grad():
            traced = torch_neuronx.trace(
                module,
                tuple(inputs.values()),
                compiler_workdir=str(work),
                compiler_args=list(args),
            )
    except Exception as error:  # it raises whatever XLA, the compiler or torch raise
        message = f"torch_neuronx.trace failed: {type(error).__name__}: {error}"
        raise CompilerError(
            message[:2000], hint="neuronc explain CODE tells about a code"
        ) from error
    finally:
        if kept is not None:
            os.environ["NEURON_CC_FLAGS"] = kept
        shutil.rmtree(work, ignore_errors=True)
    return traced, shapes


def _save(traced: Any, path: Path) -> None:
    import torch

    torch.jit.save(traced, str(path))
