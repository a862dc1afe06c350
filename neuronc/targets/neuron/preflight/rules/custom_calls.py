"""Custom calls by name, top-k, and the files of NKI kernels."""

import base64
import binascii
import json
from pathlib import Path

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, Rule

QUANTIZE_MX = "QuantizeMX"
SCALED_DOT = "__op$block_scaled_dot"
TOP_K = "AwsNeuronTopK"
NKI_KERNEL = "AwsNeuronCustomNativeKernel"

# The list on EVRF015's page, and the two calls that have error pages without being on it.
RECOGNISED = frozenset(
    {
        "AwsNeuronErf",
        "AwsNeuronGelu",
        "AwsNeuronGeluApprxTanh",
        "AwsNeuronGeluBackward",
        "AwsNeuronSilu",
        "AwsNeuronSiluBackward",
        "AwsNeuronRmsNorm",
        "AwsNeuronSoftmax",
        "AwsNeuronSoftmaxBackward",
        "AwsNeuronCollectiveMatmul",
        "AwsNeuronIntMatmult",
        "AwsNeuronArgMax",
        "AwsNeuronArgMin",
        "AwsNeuronDropoutMaskV1",
        "AwsNeuronCustomOp",
        "AwsNeuronDevicePrint",
        "ResizeNearest",
        "ResizeBilinear",
        "ResizeNearestGrad",
        "AwsNeuronLNCShardingConstraint",
        "AwsNeuronTransferWithStaticRing",
        "AwsNeuronModuleMarkerStart-Forward",
        "AwsNeuronModuleMarkerStart-Backward",
        "AwsNeuronModuleMarkerEnd-Forward",
        "AwsNeuronModuleMarkerEnd-Backward",
        "NeuronBoundaryMarker-Start",
        "NeuronBoundaryMarker-End",
        TOP_K,
        NKI_KERNEL,
        QUANTIZE_MX,
        SCALED_DOT,
    }
)


def unknown_target(operator: Operator, _: Context) -> Problem | None:
    """Names are compared to the letter."""
    found = operator.message.custom_call_target
    if found in RECOGNISED:
        return None
    return Problem(f"custom call {found!r} is none that neuronx-cc lowers")


def integer_top_k(operator: Operator, _: Context) -> Problem | None:
    """Both spellings of top-k."""
    named = operator.opcode == "topk" or operator.message.custom_call_target == TOP_K
    if not named or not operator.operands:
        return None
    found = operator.operands[0].shape.dtype
    return Problem(f"top-k of {found}: expected floats") if found in ("s32", "s64") else None


def missing_kernel(operator: Operator, context: Context) -> Problem | None:
    """As the compiler looks: the path as it is, then FOLDER/FILE below where it runs."""
    if operator.message.custom_call_target != NKI_KERNEL:
        return None
    named = _kernel_path(operator.message.backend_config)
    if named is None:
        return None
    places = [named] if named.is_absolute() else []
    if context.compile_dir is not None:
        places.append(context.compile_dir / named.parent.name / named.name)
    if any(place.is_file() for place in places):
        return None
    return Problem(f"the NKI kernel file {named} does not exist")


def _kernel_path(backend_config: bytes) -> Path | None:
    """The file that the call names (SDK ``nki/guides/framework_custom_op``); None if none."""
    try:
        config = json.loads(base64.b64decode(backend_config, validate=True))
        return Path(config["klir_binary"]["binary"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None


RULES = (
    Rule(codes=("EVRF015", "EHCA005"), check=unknown_target, opcodes=("custom-call",)),
    Rule(codes=("EVRF013",), check=integer_top_k, opcodes=("custom-call", "topk")),
    Rule(codes=("EVRF059",), check=missing_kernel, opcodes=("custom-call",)),
)
