"""What to build: one frozen `Recipe`, from a file or flags; what cannot be honoured is refused."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from neuronc.errors import UsageError

DtypeChoice = Literal["auto", "f32", "bf16", "f16"]
TaskChoice = Literal["auto", "generate", "embed"]
PoolingChoice = Literal["mean", "cls"]
QuantizeChoice = Literal["int8", "fp8_e4m3"]
TargetName = Literal["cpu", "inf2", "trn1", "trn1n", "trn2", "trn3"]
Place = Literal["target", "cpu"]
"""Where to run: on what an artifact was compiled for, or its programs on this machine's CPU."""

DTYPE_CHOICES: tuple[str, ...] = get_args(DtypeChoice)
TARGET_NAMES: tuple[str, ...] = get_args(TargetName)
TASK_CHOICES: tuple[str, ...] = get_args(TaskChoice)
POOLING_CHOICES: tuple[str | None, ...] = (*get_args(PoolingChoice), None)
QUANTIZE_CHOICES: tuple[str | None, ...] = (*get_args(QuantizeChoice), None)

INTS = ("tp", "batch_size", "max_length", "lnc")
_LARGEST = 2**31 - 1  # positions are i32
_INT_LISTS = ("prefill_buckets", "decode_buckets", "buckets")
LISTS = {**dict.fromkeys(_INT_LISTS, int), "cc_args": str}
_CHOICES = {
    "dtype": DTYPE_CHOICES,
    "target": TARGET_NAMES,
    "task": TASK_CHOICES,
    "pooling": POOLING_CHOICES,
    "quantize": QUANTIZE_CHOICES,
}
BOOLS = ("normalize", "on_device_sampling", "top_k_call")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What to build; the defaults of every command are the defaults here.

    Attributes:
        checkpoint: Local path, Hub id, ``.gguf`` file, ``package:NAME/FILE`` or URL.
        revision: Branch, tag or commit of a Hub id.
        adapter: Folder of a PEFT LoRA adapter to merge into the weights.
        task: One of `TASK_CHOICES`; auto embeds with encoders and generates with decoders.
        tp: Tensor-parallel degree, the number of ranks.
        batch_size: Slots of the decode programs, or texts that are embedded together.
        max_length: Tokens a slot's KV cache holds, or a text may have; None leaves it to the
            model's positions.
        prefill_buckets: Prompt lengths to compile for, ascending; empty leaves it to the build.
        decode_buckets: KV cache lengths to compile decode for, ascending; empty as above.
        buckets: Text lengths to compile for when embedding, ascending; empty as above.
        pooling: One of `POOLING_CHOICES`; None leaves it to the checkpoint.
        normalize: Whether embeddings have length 1; None leaves it to the checkpoint.
        dtype: One of `DTYPE_CHOICES`.
        quantize: One of `QUANTIZE_CHOICES`: how the weights of linear layers are stored; None
            stores them in ``dtype``, or leaves it to a split folder.
        target: One of `TARGET_NAMES`.
        lnc: Logical core size of a Neuron target; None is the target's own.
        cc_args: Arguments for neuronx-cc, verbatim, after neuronc's own.
        on_device_sampling: Whether programs that generate give the most likely tokens as well.
        top_k_call: Whether neuronx-cc gets its own, unverified custom call for top-k.
        out: Output folder, relative to the current directory.
    """

    checkpoint: str
    revision: str | None = None
    adapter: str | None = None
    task: str = "auto"
    tp: int = 1
    batch_size: int = 1
    max_length: int | None = None
    prefill_buckets: tuple[int, ...] = ()
    decode_buckets: tuple[int, ...] = ()
    buckets: tuple[int, ...] = ()
    pooling: str | None = None
    normalize: bool | None = None
    dtype: str = "auto"
    quantize: str | None = None
    target: str = "cpu"
    lnc: int | None = None
    cc_args: tuple[str, ...] = ()
    on_device_sampling: bool = False
    top_k_call: bool = False
    out: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """All fields in JSON terms: lists for tuples, text for paths."""
        plain: dict[str, object] = asdict(self)
        plain.update({key: list(getattr(self, key)) for key in LISTS})
        plain["out"] = None if self.out is None else str(self.out)
        return plain


def merge_flags(recipe: Recipe, **overrides: Any) -> Recipe:
    """``recipe`` with the flags that were given; an override of None was not given.

    Raises:
        UsageError: The flags ask for something impossible, alone or together with the recipe.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    merged = replace(recipe, **given)
    problem = impossible_value(merged)
    if problem is not None:
        raise UsageError(problem[0], hint=problem[1])
    return merged


Problem = tuple[str, str] | None
"""What is wrong, and the way out; None where nothing is."""


def impossible_value(recipe: Recipe) -> Problem:
    """The first value that cannot be, alone or together with the others."""
    for key in ("checkpoint", "revision", "adapter", "out"):
        if "\0" in str(getattr(recipe, key)):
            return f"{key} holds a NUL character", "no file has one in its name"
    if not recipe.checkpoint:
        return (
            "checkpoint is empty",
            "name a folder, a .gguf file, a Hub id, a URL or package:NAME/FILE",
        )
    for key in INTS:
        value = getattr(recipe, key)
        if value is not None and not 1 <= value <= _LARGEST:
            return f"{key} is {value}; expected 1 to {_LARGEST}", f"change {key}"
    for key, choices in _CHOICES.items():
        if getattr(recipe, key) not in choices:
            named = ", ".join(choice for choice in choices if choice is not None)
            return f"{key} is {getattr(recipe, key)!r}", f"choose one of {named}"
    problems = [
        _impossible_buckets(key, getattr(recipe, key), recipe.max_length) for key in _INT_LISTS
    ]
    return next((p for p in (*problems, _misplaced(recipe)) if p is not None), None)


def _misplaced(recipe: Recipe) -> Problem:
    if recipe.task == "embed" and (recipe.prefill_buckets or recipe.decode_buckets):
        return "prefill and decode buckets are for generating", "pass --buckets to embed"
    if recipe.task == "embed" and recipe.on_device_sampling:
        message = "on_device_sampling is for generating, and the task is to embed"
        return message, "leave out --on-device-sampling"
    for key in ("lnc", "cc_args", "top_k_call"):
        if recipe.target == "cpu" and getattr(recipe, key):
            return f"{key} is for Neuron targets, and the target is cpu", "choose a Neuron target"
    return None


def _impossible_buckets(key: str, buckets: tuple[int, ...], max_length: int | None) -> Problem:
    if list(buckets) != sorted(set(buckets)) or any(bucket < 1 for bucket in buckets):
        return f"{key} is {list(buckets)}; buckets are positive and ascending", f"reorder {key}"
    if max_length is not None and buckets and buckets[-1] > max_length:
        message = f"{key} holds {buckets[-1]}, more than max_length {max_length}"
        return message, f"drop that bucket or raise max_length to {buckets[-1]}"
    return None
