"""Files of `neuronc bench` -> what a comparison needs of them; anything else is refused by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.bench.compare.names import HIGHER_IS_BETTER, MODES, OF_SWEEP, Mode
from neuronc.bench.compare.rules import DEFAULT_RULES, Rule, parse_rules
from neuronc.bench.compare.runs import Run, runs_of
from neuronc.bench.compare.sweeps import BEST_RULE, has_objectives, require_points
from neuronc.checkpoint.paths import MAX_JSON_BYTES, open_file, shown
from neuronc.errors import InputError

SCHEMA = "neuronc.bench/1"
_HINT = "pass what neuronc bench wrote: --output FILE, or the stdout of --json"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchDocument:
    """One side of a comparison.

    Attributes:
        content: The bare document.
        runs: Its repeats, of all modes.
    """

    path: Path
    content: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Those with at least one repeat."""
        return tuple(mode for mode in MODES if any(run.mode == mode for run in self.runs))

    @property
    def repeats(self) -> dict[Mode, int]:
        """How many of each mode; of a sweep, those of the whole."""
        return {
            mode: sum(run.mode == mode and run.at is None for run in self.runs)
            for mode in self.modes
        }


def read_document(path: Path) -> BenchDocument:
    """The benchmark in ``path``, bare or in the envelope of ``--json``.

    Raises:
        InputError: It cannot be read, is something else, of another version, or has no result.
    """
    content = _unwrap(path, _read_json(path))
    schema = content.get("schema")
    if schema != SCHEMA:
        message = f"{path} has the schema {shown(schema)}; expected {SCHEMA!r}"
        old = "measure again with this version of neuronc" if schema is not None else _HINT
        raise InputError(message, hint=old)
    return document_from(path, content)


def document_from(path: Path, content: Mapping[str, Any]) -> BenchDocument:
    """The document ``content`` that came from ``path``, a file or the artifact it measured.

    Raises:
        InputError: It is invalid, not whole, or has nothing to compare.
    """
    if content.get("status") == "invalid":
        problems = (content.get("validation") or {}).get("problems") or ["no problem is named"]
        message = f"{path} is an invalid benchmark: {shown(problems[0])}"
        raise InputError(message, hint="its numbers mean nothing: mend that and measure again")
    try:
        runs = runs_of(content)
        _check_sections(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        message = f"{path} is no whole {SCHEMA} document: {shown(str(error))}"
        raise InputError(message, hint=_HINT) from error
    if not runs:
        message = f"{path} has no repeats of {', '.join(MODES)}: nothing to compare"
        raise InputError(message, hint="run neuronc bench with one of these modes")
    return BenchDocument(path=path, content=content, runs=runs)


def _read_json(path: Path) -> Mapping[str, Any]:
    with open_file(path) as file:
        text = file.read(MAX_JSON_BYTES + 1)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{path} is not valid JSON: {error}"
        raise InputError(message, hint=_HINT) from error
    if not isinstance(found, dict):
        message = f"{path} holds a JSON {type(found).__name__}; expected an object"
        raise InputError(message, hint=_HINT)
    return found


def _unwrap(path: Path, found: Mapping[str, Any]) -> Mapping[str, Any]:
    if "report_version" not in found:
        return found
    data, error, command = found.get("data"), found.get("error"), found.get("command")
    if command != "bench" or not isinstance(data, dict):
        message = f"{path} is a report of neuronc {shown(command)}; expected one of neuronc bench"
        raise InputError(message, hint=_HINT)
    if not data and isinstance(error, dict):
        message = f"{path} is the report of a benchmark that failed: {shown(error.get('message'))}"
        raise InputError(message, hint="mend that and measure again")
    return data


def _check_sections(content: Mapping[str, Any]) -> None:
    for name in ("fingerprint", "workload"):
        if not isinstance(content[name], dict):
            message = f"{name} is no object"
            raise TypeError(message)


def with_modes(
    rules: Sequence[Rule], a: BenchDocument, b: BenchDocument, *, mode: Mode | None = None
) -> tuple[Rule, ...]:
    """``rules``, each with the mode whose runs it looks at.

    That is the rule's own mode, else ``mode``, else the first of these that both files have: for
    times latency, serve, throughput, sweep; for rates throughput, serve, latency, sweep. Of a sweep,
    the rule is about every load that both have, but for those about the sweep as a whole.

    Raises:
        InputError: A file has no repeats of that mode, or the files have no mode in common.
    """
    return tuple(made for rule in rules for made in _placed(rule, a, b, mode))


def default_rules(
    a: BenchDocument, b: BenchDocument, *, mode: Mode | None = None
) -> tuple[Rule, ...]:
    """What is held against where nobody says it; of sweeps with objectives their best load, too.

    Raises:
        InputError: The files have no such mode in common.
    """
    rules = parse_rules(DEFAULT_RULES)
    in_sweep = _mode(rules[0], a, b, mode) == "sweep"
    if in_sweep and all(has_objectives(document.content["modes"]) for document in (a, b)):
        rules += parse_rules(BEST_RULE)
    return rules


def _placed(rule: Rule, a: BenchDocument, b: BenchDocument, mode: Mode | None) -> tuple[Rule, ...]:
    of_sweep = rule.metric in OF_SWEEP
    found = _mode(rule, a, b, "sweep" if of_sweep else rule.mode or mode)
    if found != "sweep":
        return (rule.in_mode(found),)
    modes_a, modes_b = a.content["modes"], b.content["modes"]
    loads = require_points(modes_a, modes_b, paths=(a.path, b.path))
    return (rule.in_mode(found),) if of_sweep else tuple(map(rule.at_load, loads))


def _mode(rule: Rule, a: BenchDocument, b: BenchDocument, wanted: Mode | None) -> Mode:
    if wanted is not None:
        for document in (a, b):
            if wanted not in document.modes:
                has = ", ".join(document.modes)
                message = f"{rule.text}: {document.path} has no repeats of {wanted}; it has {has}"
                raise InputError(message, hint=f"measure again with --mode {wanted}")
        return wanted
    by_preference: tuple[Mode, ...] = ("latency", "serve", "throughput")
    if rule.metric in HIGHER_IS_BETTER:
        by_preference = by_preference[::-1]
    by_preference = (*by_preference, "sweep")
    common = [mode for mode in by_preference if mode in a.modes and mode in b.modes]
    if not common:
        message = (
            f"{a.path} has repeats of {', '.join(a.modes)}, and {b.path} of {', '.join(b.modes)}:"
            " no mode in common"
        )
        raise InputError(message, hint="measure both in the same modes")
    return common[0]
