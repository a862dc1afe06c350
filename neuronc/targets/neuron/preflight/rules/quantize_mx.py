"""The custom call QuantizeMX: one tensor to packed 8-bit floats and a scale for every 32.

Source: the pages of EVRF036 to EVRF042, EVRF051, EVRF057 and EVRF058.
"""

import json
from collections.abc import Callable
from typing import Any

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, Rule
from neuronc.targets.neuron.preflight.rules.custom_calls import QUANTIZE_MX

_DTYPES = ("float8_e5m2", "float8_e4m3fn")
_PACKED = 4

Config = dict[str, Any]
_Check = Callable[[Operator, Config, Context], str | None]


def read_json_object(text: bytes) -> Config | None:
    """A JSON object; None if ``text`` is something else."""
    try:
        found = json.loads(text)
    except ValueError:  # also what is not UTF-8
        return None
    return found if isinstance(found, dict) else None


def bad_config(operator: Operator, _: Context) -> Problem | None:
    """The other checks wait until this one passes."""
    message = operator.message
    if (
        message.custom_call_target == QUANTIZE_MX
        and read_json_object(message.backend_config) is None
    ):
        return Problem("QuantizeMX has no JSON object as its backend_config")
    return None


def _operand_count(operator: Operator, _: Config, __: Context) -> str | None:
    found = len(operator.operands)
    return None if found == 1 else f"QuantizeMX takes 1 operand, found {found}"


def _dimension(operator: Operator, config: Config) -> int | None:
    """The dimension to quantise, counted from 0; None if it is not one of the last two."""
    if len(operator.operands) != 1:
        return None
    rank, dim = len(operator.operands[0].shape.dims), config.get("dim", 0)
    if not isinstance(dim, int):
        return None
    index = dim + rank if dim < 0 else dim
    return index if 0 <= index < rank and index >= rank - 2 else None


def _bad_dimension(operator: Operator, config: Config, _: Context) -> str | None:
    if len(operator.operands) != 1 or _dimension(operator, config) is not None:
        return None
    found, shape = config.get("dim", 0), operator.operands[0].shape
    return f"QuantizeMX along dimension {found} of {shape}: expected one of the last two"


def _block_size(_: Operator, config: Config, __: Context) -> str | None:
    found = config.get("block_size", 32)
    return None if found == 32 else f"QuantizeMX with blocks of {found}: expected 32"


def _scale_method(_: Operator, config: Config, __: Context) -> str | None:
    found = config.get("scale_method", "EMAX")
    return None if found == "EMAX" else f"QuantizeMX scales by {found!r}: expected 'EMAX'"


def _input_dtype(operator: Operator, _: Config, __: Context) -> str | None:
    if len(operator.operands) != 1 or operator.operands[0].shape.dtype in ("bf16", "f16"):
        return None
    return f"QuantizeMX of {operator.operands[0].shape.dtype}: expected bf16 or f16"


def _result(operator: Operator, _: Config, __: Context) -> str | None:
    if operator.shape.dtype == "tuple" and len(operator.shape.parts) == 2:
        return None
    return f"QuantizeMX returns {operator.shape}: expected a tuple of values and scales"


def _packing(operator: Operator, config: Config, _: Context) -> str | None:
    if config.get("dtype") not in _DTYPES:
        return f"QuantizeMX to {config.get('dtype')!r}: expected one of {', '.join(_DTYPES)}"
    if len(operator.shape.parts) != 2:
        return None
    packed, dim = operator.shape.parts[0], _dimension(operator, config)
    if packed.dtype != "u32":
        return f"QuantizeMX packs into {packed.dtype}: expected u32"
    if dim is None or len(packed.dims) != len(operator.operands[0].shape.dims):
        return None
    expected = list(operator.operands[0].shape.dims)
    expected[dim] //= _PACKED
    if list(packed.dims) != expected:
        return f"QuantizeMX packs into {list(packed.dims)}: expected {expected}"
    return None


def _divisible(operator: Operator, config: Config, _: Context) -> str | None:
    dim = _dimension(operator, config)
    if dim is None or operator.operands[0].shape.dims[dim] % _PACKED == 0:
        return None
    found = operator.operands[0].shape.dims[dim]
    return f"QuantizeMX along a dimension of {found}: expected a multiple of {_PACKED}"


def _converted(_: Operator, config: Config, context: Context) -> str | None:
    if config.get("dtype") == "float8_e4m3fn" and context.flags.unsafe_fp8:
        return "QuantizeMX to float8_e4m3fn cannot be converted to f8e4m3"
    return None


def _rule(code: str, check: _Check) -> Rule:
    def checked(operator: Operator, context: Context) -> Problem | None:
        if operator.message.custom_call_target != QUANTIZE_MX:
            return None
        config = read_json_object(operator.message.backend_config)
        text = None if config is None else check(operator, config, context)
        return None if text is None else Problem(text)

    return Rule(codes=(code,), check=checked, opcodes=("custom-call",))


RULES = (
    Rule(codes=("EVRF036",), check=bad_config, opcodes=("custom-call",)),
    _rule("EVRF037", _operand_count),
    _rule("EVRF038", _bad_dimension),
    _rule("EVRF039", _block_size),
    _rule("EVRF040", _scale_method),
    _rule("EVRF041", _input_dtype),
    _rule("EVRF042", _packing),
    _rule("EVRF051", _converted),
    _rule("EVRF057", _result),
    _rule("EVRF058", _divisible),
)
