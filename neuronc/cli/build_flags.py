"""The options that build and compile have in common, declared once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from neuronc.cli.options import (
    AdapterOption,
    BatchSizeOption,
    DecodeBucketsOption,
    DtypeOption,
    DumpIrOption,
    EmbedBucketsOption,
    JsonFlag,
    MaxLengthOption,
    NormalizeOption,
    NoVerifyFlag,
    OnDeviceSamplingFlag,
    OutOption,
    OverwriteFlag,
    PoolingOption,
    PrefillBucketsOption,
    QuantizeOption,
    QuietFlag,
    RevisionOption,
    TargetOption,
    TaskOption,
    TopKCallFlag,
    TpOption,
    at_least_one,
    positive_seconds,
)
from neuronc.cli.output import Report
from neuronc.errors import UsageError

_RECIPE = (
    "task", "tp", "batch_size", "max_length", "prefill_buckets", "decode_buckets", "buckets",
    "pooling", "normalize", "dtype", "quantize", "target", "lnc", "on_device_sampling",
    "top_k_call", "revision", "adapter", "out",
)  # fmt: skip

LncOption = Annotated[
    int | None,
    typer.Option(
        "--lnc",
        metavar="N",
        callback=at_least_one,
        help="Physical cores per logical core (trn2, trn3: 1 or 2).",
    ),
]
CcArgOption = Annotated[
    list[str] | None,
    typer.Option("--cc-arg", metavar="ARG", help="For neuronx-cc, verbatim; may be given again."),
]
LowerOnlyFlag = Annotated[
    bool,
    typer.Option(
        "--lower-only", help="Stop before neuronx-cc: make a bundle to compile elsewhere."
    ),
]
ConfigOnlyFlag = Annotated[
    bool,
    typer.Option("--config-only", help="With --lower-only: take config.json, no weights."),
]
AllowEnvFlag = Annotated[
    bool, typer.Option("--allow-env-flags", help="Let NEURON_CC_FLAGS take part.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        callback=at_least_one,
        help=(
            "Programs made at once, at most (default: as cores allow, up to 4). Free memory may"
            " allow fewer."
        ),
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--compile-timeout",
        metavar="S",
        callback=positive_seconds,
        help="Seconds per program (default 4 hours).",
    ),
]


CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR|URL|off",
        help=(
            "Where compiled programs are kept (default: $NEURONC_CACHE, else ~/.cache/neuronc); a"
            " URL is read through that folder, $NEURONC_CACHE_REMOTE through any."
        ),
    ),
]
ExecutorOption = Annotated[
    Literal["local", "ray"],
    typer.Option("--executor", help="Where programs are compiled: here, or on a Ray cluster."),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT|auto", help="Of the Ray cluster (default auto)."),
]
FrozenFlag = Annotated[
    bool, typer.Option("--frozen", help="Exit 10 rather than compile: all has to be in the cache.")
]

CheckReproducibleFlag = Annotated[
    bool,
    typer.Option("--check-reproducible", help="Build twice; exit 6 if the results differ."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildFlags:
    """What the command line said; None and False where it said nothing."""

    out: OutOption = None
    task: TaskOption = None
    tp: TpOption = None
    batch_size: BatchSizeOption = None
    max_length: MaxLengthOption = None
    prefill_buckets: PrefillBucketsOption = None
    decode_buckets: DecodeBucketsOption = None
    buckets: EmbedBucketsOption = None
    pooling: PoolingOption = None
    normalize: NormalizeOption = None
    dtype: DtypeOption = None
    quantize: QuantizeOption = None
    on_device_sampling: OnDeviceSamplingFlag = None
    target: TargetOption = None
    top_k_call: TopKCallFlag = None
    revision: RevisionOption = None
    adapter: AdapterOption = None
    no_verify: NoVerifyFlag = False
    overwrite: OverwriteFlag = False
    dump_ir: DumpIrOption = None
    lnc: LncOption = None
    cc_arg: CcArgOption = None
    lower_only: LowerOnlyFlag = False
    config_only: ConfigOnlyFlag = False
    allow_env_flags: AllowEnvFlag = False
    jobs: JobsOption = None
    compile_timeout: TimeoutOption = None
    cache: CacheOption = None
    frozen: FrozenFlag = False
    check_reproducible: CheckReproducibleFlag = False
    executor: ExecutorOption = "local"
    address: AddressOption = None
    quiet: QuietFlag = False
    json_: JsonFlag = False

    @property
    def overrides(self) -> dict[str, Any]:
        """What replaces a recipe's values, for `neuronc.recipe.merge_flags`."""
        given: dict[str, Any] = {name: getattr(self, name) for name in _RECIPE}
        return {**given, "cc_args": tuple(self.cc_arg) if self.cc_arg else None}

    @property
    def compile_options(self) -> Any:
        """How to go about the build: a ``CompileOptions``."""
        from neuronc.targets.neuron.settings import CompileOptions

        options = CompileOptions(
            lower_only=self.lower_only,
            config_only=self.config_only,
            allow_env_flags=self.allow_env_flags,
            num_parallel=self.jobs,
            frozen=self.frozen,
            ray_address=self._ray_address,
        )
        if self.compile_timeout is None:
            return options
        from dataclasses import replace

        return replace(options, timeout_s=self.compile_timeout)

    @property
    def _ray_address(self) -> str | None:
        if self.executor == "ray":
            return self.address or "auto"
        if self.address is not None:
            message = "--address is of a Ray cluster, and the executor is local"
            raise UsageError(message, hint="pass --executor ray as well")
        return None

    def open_cache(self) -> Any:
        """The store: a ``Cache``, or None."""
        from neuronc.cache.cache import open_cache

        if self.dump_ir is not None and (self.frozen or self.executor == "ray"):
            other = "--frozen" if self.frozen else "--executor ray"
            message = f"--dump-ir lowers every program anew, here; {other} does not"
            raise UsageError(message, hint="leave out one of the two")
        cache = open_cache(self.cache)
        if cache is None and self.frozen:
            message = "--frozen takes everything from the cache, and there is none"
            raise UsageError(message, hint="leave out --cache off, and see $NEURONC_CACHE")
        return cache

    def given(self) -> list[str]:
        """The options that were given, as they are written."""
        named = [
            f.name for f in fields(self) if getattr(self, f.name) not in (None, False, [], "local")
        ]
        if self.normalize is False:
            named.append("no_normalize")
        return [
            f"--{n.replace('_', '-').rstrip('-')}" for n in named if n not in ("quiet", "json_")
        ]


def takes_build_flags(command: Callable[..., Report]) -> Callable[..., Report]:
    """Show typer the fields of `BuildFlags` as options, and hand them over as ``flags``."""
    signature = inspect.signature(command)
    own = [p for name, p in signature.parameters.items() if name != "flags"]
    hints = get_type_hints(BuildFlags, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(BuildFlags)
    ]

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Report:
        flags = BuildFlags(**{field.name: kwargs.pop(field.name) for field in fields(BuildFlags)})
        return command(*args, **kwargs, flags=flags)

    wrapper.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {
        **{p.name: p.annotation for p in own},
        **hints,
        "return": Report,
    }
    del wrapper.__wrapped__  # typer would look through it
    return wrapper


def folder_of(path: str) -> Path | None:
    """The artifact or bundle at ``path``, if there is one."""
    from neuronc.artifact.manifest import MANIFEST_FILE

    folder = Path(path)
    return folder if (folder / MANIFEST_FILE).is_file() else None
