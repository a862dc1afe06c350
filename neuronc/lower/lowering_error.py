"""From MLIR's words to an error that names the operator, the module it came from, and the line."""

import re
from collections.abc import Iterable
from typing import Any

from neuronc.errors import CompilerError
from neuronc.trace.module_names import module_of

_OPERATOR = re.compile(r'<\{name = "torch\.([\w.]+)"')
_OPERATION = re.compile(r"operation '(?:torch\.)?([\w.]+)'")
_PLACE = re.compile(r'"([^"]+\.py)":(\d+)')
_HINT = "neuronc's lowering lacks it: please report it; --dump-ir DIR keeps the graph"


def lowering_error(error: Exception, graphs: Iterable[Any]) -> CompilerError:
    """What ``error``, of torch-mlir, says about the programs with these FX ``graphs``."""
    text = str(error)
    first = next((line for line in text.splitlines() if "error:" in line), text)
    found = _OPERATOR.search(first) or _OPERATION.search(first)
    if found is None:
        message = f"torch-mlir does not take the program: {' '.join(text.split())[:300]}"
        return CompilerError(message, hint=_HINT)
    places = _PLACE.findall(first)
    where = f" at {_short(places[0][0])}:{places[0][1]}" if places else ""
    module = _module_at(places, graphs)
    subject = f"operator {found[1]}{f' of {module}' if module else ''}{where}"
    return CompilerError(f"{subject} does not lower to StableHLO", hint=_HINT)


def _module_at(places: list[tuple[str, str]], graphs: Iterable[Any]) -> str:
    nodes = [node for graph in graphs for node in graph.nodes]
    for file, line in places[:1]:
        line_of_code = f'File "{file}", line {line},'
        for node in nodes:
            if line_of_code in (node.meta.get("stack_trace") or "") and module_of(node):
                return module_of(node)
    return ""


def _short(path: str) -> str:
    """Without the folder that packages are installed in."""
    return path.rpartition("/site-packages/")[2]
