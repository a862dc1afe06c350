"""The exact command line and environment of neuronx-cc for one program.

Flags per phase are the ones AWS's own inference library passes (NxD Inference,
``models/model_wrapper.py``), which has no encoders: those get the decode flags without overlap of
collectives with a KV cache's traffic. Integer handling is pinned, because the compiler's next release
changes its defaults (Neuron SDK 2.32 release notes).
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from neuronc.errors import UsageError
from neuronc.targets.neuron.compiler.toolchain import EXECUTABLE
from neuronc.trace.program_spec import Phase

ENV_FLAGS = "NEURON_CC_FLAGS"
LOG_FILE = "log-neuron-cc.txt"
_MODEL = ("--model-type=transformer", "--auto-cast=none")
_OVERLAP = "--tensorizer-options=--enable-ccop-compute-overlap"
_BY_PHASE = {
    "prefill": (
        "--optlevel=1",
        f"{_OVERLAP} --cc-pipeline-tiling-factor=2 --vectorize-strided-dma",
        "--internal-hlo2tensorizer-options=--modular-flow-mac-threshold=10 --verify-hlo=true",
    ),
    "decode": (
        "--optlevel=2",
        f"{_OVERLAP} --cc-pipeline-tiling-factor=1 --vectorize-strided-dma",
        "--internal-hlo2tensorizer-options=--verify-hlo=true",
    ),
    "embed": ("--optlevel=2", "--internal-hlo2tensorizer-options=--verify-hlo=true"),
}
_PINNED = ("--native-int64=disabled", "--implicit-integer-downcast=all")
_OURS = {
    "--framework": "the HLO is XLA's",
    "--target": "pass neuronc's --target",
    "--logical-nc-config": "pass neuronc's --lnc",
    "-lnc": "pass neuronc's --lnc",
    "--lnc": "pass neuronc's --lnc",
    "--output": "the artifact decides",
    "--logfile": "the artifact keeps the log",
    "--native-int64": "legalised programs have no 64-bit integers",
}
"""Options that neuronc itself passes, and why nobody else may."""

_SHORT_OUTPUT = "-o"
_WRAPPER_ONLY = ("--no_cache", "--retry_failed_compilation")
_WRAPPER_ONLY_WITH_VALUE = ("--cache_dir", "--log_level")
"""Entries of NEURON_CC_FLAGS that frameworks strip: neuronx-cc does not know them."""

_KEPT_ENV = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class CompilerArgs:
    """Every argument but the files, by phase: what decides the NEFF that comes out of an HLO.

    Attributes:
        lnc: Logical core size.
        by_phase: Arguments of the programs of each phase.
        env_args: The part of them that NEURON_CC_FLAGS held.
    """

    lnc: int
    by_phase: Mapping[str, tuple[str, ...]]
    env_args: tuple[str, ...] = ()

    def of(self, phase: Phase) -> tuple[str, ...]:
        """Arguments of the programs of ``phase``."""
        return self.by_phase[phase]


def compiler_args(
    target: str, lnc: int, extra_args: Sequence[str], *, allow_env_flags: bool
) -> CompilerArgs:
    """The flags of one build: AWS's for inference, then the user's, which win.

    Raises:
        UsageError: NEURON_CC_FLAGS is set and not allowed, or an argument is neuronc's own to give.
    """
    env_args = _env_args(os.environ.get(ENV_FLAGS, ""), allowed=allow_env_flags)
    for source, args in (("--cc-arg", extra_args), (ENV_FLAGS, env_args)):
        for arg in args:
            if not is_plain_word(arg):
                message = f"{source} holds {arg!r}; expected an argument of printable text"
                raise UsageError(message, hint="write one argument, as neuronx-cc takes it")
            reason = _ours(arg)
            if reason:
                message = f"{source} holds {arg!r}, which neuronc passes itself"
                raise UsageError(message, hint=reason)
    common = (*env_args, "--framework=XLA", f"--target={target}", *_MODEL, *_PINNED)
    by_phase = {
        phase: (*common, f"--logical-nc-config={lnc}", *own, *extra_args)
        for phase, own in _BY_PHASE.items()
    }
    return CompilerArgs(lnc=lnc, by_phase=by_phase, env_args=env_args)


def is_plain_word(word: str) -> bool:
    """Whether ``word`` can be an argument: some text, no control characters, no stray bytes."""
    return bool(word) and word == word.strip() and word.isprintable()


def are_args_of(args: Sequence[str], *, target: str, lnc: int) -> bool:
    """Whether ``args``, read from a manifest, say once each what neuronc says for ``target``."""
    ours = ["--framework=XLA", f"--target={target}", f"--logical-nc-config={lnc}", _PINNED[0]]
    return sorted(arg for arg in args if _ours(arg)) == sorted(ours)


def _ours(arg: str) -> str:
    """Why ``arg`` is neuronc's own to pass; empty if it is not. Abbreviations count."""
    name = arg.partition("=")[0]
    if arg.startswith((_SHORT_OUTPUT, "-lnc")):
        name = "--output" if arg.startswith(_SHORT_OUTPUT) else "-lnc"
    is_short_for = len(name) > len("--x") and name.startswith("--")
    for own, reason in _OURS.items():
        if name == own or (is_short_for and own.startswith(name)):
            return reason
    return ""


def require_no_env_flags() -> None:
    """Refuse NEURON_CC_FLAGS where the arguments are decided already.

    Raises:
        UsageError: it is set.
    """
    text = os.environ.get(ENV_FLAGS, "")
    if text.strip():
        message = f"{ENV_FLAGS} is set to {text!r}; a bundle's command lines are fixed"
        raise UsageError(message, hint=f"unset {ENV_FLAGS}, or lower again with --allow-env-flags")


def _env_args(text: str, *, allowed: bool) -> tuple[str, ...]:
    if not text.strip():
        return ()
    if not allowed:
        message = f"{ENV_FLAGS} is set to {text!r}; it would change what is compiled"
        hint = f"unset {ENV_FLAGS} and use --cc-arg, or pass --allow-env-flags"
        raise UsageError(message, hint=hint)
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"{ENV_FLAGS} is {text!r}, which cannot be split into arguments: {error}"
        raise UsageError(message, hint="close its quotes") from error
    return tuple(_without_wrapper_only(words))


def _without_wrapper_only(words: Sequence[str]) -> Iterator[str]:
    skips_value = False
    for word in words:
        name, is_joined, _ = word.partition("=")
        if not skips_value and name not in (*_WRAPPER_ONLY, *_WRAPPER_ONLY_WITH_VALUE):
            yield word
        skips_value = name in _WRAPPER_ONLY_WITH_VALUE and not is_joined


def command_line(name: str, args: Sequence[str], *, executable: str = EXECUTABLE) -> list[str]:
    """The argv that compiles ``NAME.hlo.pb`` of the current folder to ``NAME.neff``."""
    return [
        executable,
        "compile",
        f"{name}.hlo.pb",
        *args,
        f"--output={name}.neff",
        f"--logfile={LOG_FILE}",
    ]


def compiler_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that the compiler gets: nothing in it may change what is compiled."""
    return {key: environ[key] for key in _KEPT_ENV if key in environ}
