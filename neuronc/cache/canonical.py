"""The digest of a lowered program: of what it computes, not of what its parts are called."""

import hashlib
import re

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(rf"{_QUOTED}|\s*(?<![\w.$@%#!-])loc\(|[()]")
_LOCATION_LINE = re.compile(r"^#loc\d*\s*=.*\n?", re.MULTILINE)
_MODULE_NAME = re.compile(rf"^module @(?:{_QUOTED}|[\w.$-]+)", re.MULTILINE)


def digest_stablehlo(text: str) -> str:
    """sha256, hex, of a StableHLO module's text without source locations and the module's name.

    MLIR numbers values in the order in which it prints them, so they have no names to leave out.
    """
    if "loc(" in text:
        text = _without_locations(_LOCATION_LINE.sub("", text))
    return hashlib.sha256(_MODULE_NAME.sub("module", text, count=1).encode()).hexdigest()


def _without_locations(text: str) -> str:
    """``text`` without every ``loc(...)``, however deep its brackets; what is quoted stays."""
    kept, begin, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        word = token[0]
        if depth == 0:
            if word.endswith("loc("):
                kept.append(text[begin : token.start()])
                depth = 1
        elif word.endswith("("):
            depth += 1
        elif word == ")":
            depth -= 1
            begin = token.end()
    return "".join([*kept, text[begin:]])


def digest_hlo(hlo: bytes) -> str:
    """sha256, hex, of a legalised ``HloModuleProto`` without names, metadata and chance ids.

    The names of inputs and outputs stay: a NEFF is called by them, and they are attributes.
    """
    from neuronc.targets.neuron.hlo.legalise import renumber
    from neuronc.targets.neuron.hlo.schema import LEGACY

    module = LEGACY.FromString(hlo)
    renumber(module)
    module.name, module.id = "", 0
    for computation in module.computations:
        computation.name = ""
        for instruction in computation.instructions:
            instruction.name = ""
            instruction.ClearField("metadata")
    module.entry_computation_name = ""
    return hashlib.sha256(module.SerializeToString(deterministic=True)).hexdigest()
