"""Options that several commands share, declared once.

Each is None (or False) when not given, so that a recipe's value or the default in
`neuronc.recipe.Recipe` holds; commands pass them to `neuronc.recipe.merge_flags`.
"""

import re
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from neuronc.errors import UsageError
from neuronc.recipe import DtypeChoice, Place, PoolingChoice, QuantizeChoice, TargetName, TaskChoice


class BucketList(tuple[int, ...]):
    """Buckets from a flag. A class of its own: typer takes a plain tuple for several values."""

    __slots__ = ()


def parse_buckets(option: str, text: str) -> BucketList:
    """``32,128`` -> (32, 128), sorted, without duplicates; `UsageError` naming ``option``."""
    try:
        buckets = BucketList(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        buckets = BucketList()
    if not buckets or buckets[0] < 1:
        message = f"{option} is {text!r}; expected token counts above 0 with commas between"
        raise UsageError(message, hint=f"write it like {option} 32,128")
    return buckets


def at_least_one(param: typer.CallbackParam, value: int | None) -> int | None:
    """A typer callback: `UsageError` for a count below 1."""
    if value is not None and value < 1:
        option = param.opts[0]
        message = f"{option} is {value}; it must be at least 1"
        raise UsageError(message, hint=f"write it like {option} 2")
    return value


def positive_seconds(param: typer.CallbackParam, value: float | None) -> float | None:
    """A typer callback: `UsageError` for a time that is no positive number."""
    if value is not None and not (isfinite(value) and value > 0):
        option = param.opts[0]
        message = f"{option} is {value:g}; it must be a positive number of seconds"
        raise UsageError(message, hint=f"write it like {option} 600")
    return value


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?i?B?)", re.IGNORECASE)


class ByteSize(int):
    """A number of bytes from a flag."""


def parse_bytes(option: str, text: str) -> ByteSize:
    """``1GiB``, ``500MB`` or plain bytes; `UsageError` naming ``option``."""
    found = _SIZE.fullmatch(text.strip())
    unit = found[2].upper().rstrip("B") if found else ""
    base = 1024 if unit.endswith("I") else 1000
    power = " KMGT".index(unit[0]) if unit else 0
    size = int(float(found[1]) * base**power) if found and unit != "I" else 0
    if size < 1:
        message = f"{option} is {text!r}; expected a size such as 1GiB, 500MB or 1000000"
        raise UsageError(message, hint=f"write it like {option} 1GiB")
    return ByteSize(size)


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])", re.IGNORECASE)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Seconds(float):
    """A time span from a flag."""


def parse_duration(option: str, text: str) -> Seconds:
    """``30d``, ``12h``, ``90m`` in seconds; `UsageError` naming ``option``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        message = f"{option} is {text!r}; expected a time such as 30d, 12h, 90m or 45s"
        raise UsageError(message, hint=f"write it like {option} 30d")
    return Seconds(float(found[1]) * _UNIT_S[found[2].lower()])


# `_json: JsonFlag = False` is all a command does about it: `neuronc.cli.app` reads the flag
# itself, because errors found before any command runs must speak JSON as well.
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
NoVerifyFlag = Annotated[
    bool, typer.Option("--no-verify", help="Skip verification; the artifact says unverified.")
]
OverwriteFlag = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output folder if it exists.")
]
TpOption = Annotated[
    int | None,
    typer.Option("--tp", metavar="N", callback=at_least_one, help="Ranks (default 1)."),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        callback=at_least_one,
        help="Slots that decode together (default 1).",
    ),
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        metavar="N",
        callback=at_least_one,
        help="Tokens per slot, prompt and answer (default: the model's, at most 2048).",
    ),
]
PrefillBucketsOption = Annotated[
    BucketList | None,
    typer.Option(
        "--prefill-buckets",
        metavar="N,N,...",
        parser=partial(parse_buckets, "--prefill-buckets"),
        help="Prompt lengths to compile for.",
    ),
]
EmbedBucketsOption = Annotated[
    BucketList | None,
    typer.Option(
        "--buckets",
        metavar="N,N,...",
        parser=partial(parse_buckets, "--buckets"),
        help="Text lengths to embed (default 32,128 and the max length).",
    ),
]
TaskOption = Annotated[
    TaskChoice | None,
    typer.Option("--task", help="Default auto: encoders embed, decoders generate."),
]
PoolingOption = Annotated[
    PoolingChoice | None,
    typer.Option("--pooling", help="Of token outputs (default: the checkpoint's, or mean)."),
]
NormalizeOption = Annotated[
    bool | None,
    typer.Option(
        "--normalize/--no-normalize",
        help="Embeddings of length 1 (default: as the checkpoint says, or so).",
    ),
]
DecodeBucketsOption = Annotated[
    BucketList | None,
    typer.Option(
        "--decode-buckets",
        metavar="N,N,...",
        parser=partial(parse_buckets, "--decode-buckets"),
        help="KV cache lengths to compile decode for.",
    ),
]
DtypeOption = Annotated[
    DtypeChoice | None,
    typer.Option("--dtype", help="Dtype of weights and arithmetic (default auto)."),
]
QuantizeOption = Annotated[
    QuantizeChoice | None,
    typer.Option(
        "--quantize", help="Store linear layers' weights in 8 bits, a scale per output channel."
    ),
]
TargetOption = Annotated[
    TargetName | None, typer.Option("--target", help="What to compile for (default cpu).")
]
OnOption = Annotated[
    Place | None,
    typer.Option("--on", help="Run a Neuron artifact on its target, or here on the CPU."),
]
RankProcessesFlag = Annotated[
    bool,
    typer.Option("--rank-processes", help="A process per NeuronCore in place of a thread."),
]
OnDeviceSamplingFlag = Annotated[
    bool | None,
    typer.Option(
        "--on-device-sampling",
        help="Programs choose the most likely token too: greedy steps bring no logits to the host.",
    ),
]
TopKCallFlag = Annotated[
    bool | None,
    typer.Option(
        "--top-k-call", help="Let neuronx-cc take its own top-k, whose numbers are not verified."
    ),
]
RequireSignatureOption = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="PUBKEY",
        help="Load nothing unless this ed25519 key (PEM) signed it; see neuronc sign.",
    ),
]
MaxFileSizeOption = Annotated[
    ByteSize | None,
    typer.Option(
        "--max-file-size",
        metavar="SIZE",
        parser=partial(parse_bytes, "--max-file-size"),
        help="Largest weight file; several files where more is needed.",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", metavar="REV", help="Branch, tag or commit of a Hub id."),
]
AdapterOption = Annotated[
    str | None,
    typer.Option("--adapter", metavar="DIR", help="Merge this PEFT LoRA adapter into the weights."),
]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="DIR", help="Output folder.")
]
DumpIrOption = Annotated[
    Path | None,
    typer.Option("--dump-ir", metavar="DIR", help="Write every stage's program text here."),
]


def require_out(out: Path | None) -> Path:
    """The output folder; `UsageError` when neither flag nor recipe names one."""
    if out is None:
        message = "no output folder given"
        raise UsageError(message, hint='pass -o DIR, or put out = "DIR" into the recipe')
    return out
