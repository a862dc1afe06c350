"""From MLIR's words to an error that names the operator, the module it came from, and the line."""

import re
from collections.abc import Iterable
from typing import Any

from neuronc.errors import CompilerError
from neuronc.trace.module_names import module_of

_OPERATOR = re.compile(r'<\{name = "torch\.([\w.]+)"')
_OPERATION = re.compile(r"operation '(?:torch\.)?([\w.]+)'")
_PLACE = re.compile(r'"([^"]+\.py)":(\d+)')
_FEW = 3
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


def leftover_error(what: str, locations: Iterable[str], graphs: Iterable[Any]) -> CompilerError:
    """A lowered program with ``what`` no target takes, at MLIR's ``locations``, best first.

    Named after the operators in the FX ``graphs`` that came from the first location in a file.
    """
    places = [place for location in locations for place in _PLACE.findall(location)]
    where = f" at {_short(places[0][0])}:{places[0][1]}" if places else ""
    nodes = _nodes_at(places, [*graphs])
    operators = dict.fromkeys(str(n.target).removesuffix(".default") for n in nodes)
    module = next((name for name in map(module_of, nodes) if name), "")
    of_module = f" of {module}" if module else ""
    subject = f"operator {' or '.join(operators)}" if operators else "an operator"
    if len(operators) > _FEW:  # a line that calls a function of transformers' has many
        subject = f"one of {len(operators)} operators"
    return CompilerError(
        f"{subject}{of_module}{where} lowers to {what}, which no target takes", hint=_HINT
    )


def _nodes_at(places: list[tuple[str, str]], graphs: Iterable[Any]) -> list[Any]:
    for file, line in places[:1]:
        told = f'File "{file}", line {line},'
        calls = (node for graph in graphs for node in graph.nodes if node.op == "call_function")
        return [node for node in calls if told in (node.meta.get("stack_trace") or "")]
    return []


def _module_at(places: list[tuple[str, str]], graphs: Iterable[Any]) -> str:
    return next((name for name in map(module_of, _nodes_at(places, graphs)) if name), "")


def _short(path: str) -> str:
    """Without the folder that packages are installed in."""
    return path.rpartition("/site-packages/")[2]
