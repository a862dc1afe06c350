"""What neuronx-cc's arguments change about the programs it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

_UNSAFE_FP8 = "--experimental-unsafe-fp8e4m3fn-as-fp8e4m3"
_DOWNCASTS = frozenset({"dot", "scatter", "all_reduce", "reduce_scatter", "pow"})


@dataclass(frozen=True, kw_only=True, slots=True)
class CompilerFlags:
    """The arguments that the pre-flight's rules depend on.

    Attributes:
        downcasts: Operations that may compute integers in a type that is not exact for all of
            them, as ``--implicit-integer-downcast`` names them.
        native_int64: 64-bit integers stay as they are.
        unsafe_fp8: f8e4m3fn may be converted to f8e4m3.
        lnc: Logical core size, if the arguments give one.
    """

    downcasts: frozenset[str] = _DOWNCASTS
    native_int64: bool = False
    unsafe_fp8: bool = False
    lnc: str | None = None


def read_flags(arguments: Sequence[str]) -> CompilerFlags:
    """The flags in ``arguments``, as ``--name=value`` or ``--name value``; the last one wins.

    Defaults are those of neuronx-cc 2.27; AWS announced that a later one permits no downcast.
    """
    downcast = _value(arguments, "--implicit-integer-downcast") or "default"
    if downcast in ("default", "all"):
        downcasts = _DOWNCASTS
    else:
        downcasts = frozenset(downcast.split(",")) & _DOWNCASTS
    return CompilerFlags(
        downcasts=downcasts,
        native_int64=_value(arguments, "--native-int64") == "enabled",
        unsafe_fp8=any(_UNSAFE_FP8 in argument for argument in arguments),
        lnc=_value(arguments, "--lnc", "-lnc", "--logical-nc-config"),
    )


def _value(arguments: Sequence[str], *names: str) -> str | None:
    found = None
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            found = value if equals else next(iter(arguments[number + 1 : number + 2]), None)
    return found and found.strip("'\"")
