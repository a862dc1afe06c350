"""Are the inputs and outputs of a legalised program those that its callers go by?"""

from collections.abc import Iterable
from itertools import zip_longest

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.inline import entry_of
from neuronc.targets.neuron.hlo.interface import input_names
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.hlo.summary import inputs_of, outputs_of
from neuronc.trace.program_spec import ProgramSignature, TensorSpec


def require_interface(hlo: bytes, signature: ProgramSignature) -> None:
    """Compare names, types, shapes and aliases of legalised HLO with ``signature``.

    XLA:CPU takes names and aliases from the signature, so running a program does not prove them.

    Args:
        hlo: Serialized ``xla.HloModuleProto`` of one rank, as `legalise` makes it.
        signature: What its callers go by.

    Raises:
        CompilerError: the first difference.
    """
    module = LEGACY.FromString(hlo)
    entry = entry_of(module)
    aliases = {
        (e.output_shape_index[0] if e.output_shape_index else 0): e.parameter_number
        for e in module.input_output_alias.entries
    }
    pairs = (
        ("input", inputs_of(entry), _told(input_names(signature), signature.inputs)),
        (
            "output",
            outputs_of(entry),
            _told([t.name for t in signature.outputs], signature.outputs),
        ),
        ("alias", sorted(aliases.items()), sorted(signature.aliases.items())),
    )
    for what, found, expected in pairs:
        for one, other in zip_longest(found, expected, fillvalue="none"):
            if one != other:
                message = f"the legalised HLO has {what} {one}; expected {other}"
                hint = "lower the model again; if it stays so, report the model's family"
                raise CompilerError(message, hint=hint)


def _told(names: Iterable[str], tensors: Iterable[TensorSpec]) -> list[str]:
    return [
        f"{name}: {_hlo_type(t.dtype)}[{','.join(map(str, t.shape))}]"
        for name, t in zip(names, tensors, strict=True)
    ]


def _hlo_type(dtype: str) -> str:
    return f"s{dtype[1:]}" if dtype[0] == "i" else dtype
