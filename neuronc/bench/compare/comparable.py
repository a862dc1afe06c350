"""Are two benchmarks of the same thing? What differs where it must not, and what to mention."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from neuronc.bench.compare.documents import BenchDocument
from neuronc.bench.compare.names import BEST, NEEDS_SLO
from neuronc.bench.compare.rules import Rule
from neuronc.bench.compare.sweeps import axis_of, points_of
from neuronc.checkpoint.paths import shown
from neuronc.errors import InputError

_LONGEST_SENTENCE = 160
_MUST_AGREE = ("target", "dtype", "quantize", "tp", "batch_size", "max_length")
_MACHINE = ("cpu_model", "threads_visible")
_OF_MODEL = ("model_type", "config_sha256")
_OF_RUNS = ("concurrency", "rate")
_OF_SLO = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
_COUNT = "num_requests"  # as many as the time allowed, unless asked for
_MAY_DIFFER = ("prefill_buckets", "decode_buckets", "weights_digest")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """One setting of A that B has otherwise."""

    name: str
    a: object
    b: object

    @property
    def text(self) -> str:
        """Name, A's value and B's."""
        return f"{self.name} is {shown(self.a)} in A and {shown(self.b)} in B"


def find_mismatches(
    a: BenchDocument, b: BenchDocument, rules: Sequence[Rule]
) -> tuple[Mismatch, ...]:
    """What makes the two no measurements of the same thing, for these rules."""
    return tuple(_mismatches(a.content, b.content, rules))


def _mismatches(
    a: Mapping[str, Any], b: Mapping[str, Any], rules: Sequence[Rule]
) -> Iterator[Mismatch]:
    yield from unlike_artifacts(a["fingerprint"], b["fingerprint"])
    yield from _unlike("", a, b, ("ran_on",))
    environments = _section(a, "environment"), _section(b, "environment")
    yield from _unlike("environment.", *environments, _MACHINE)
    keys = [key for key in {**a["workload"], **b["workload"]} if key != _COUNT]
    yield from _unlike("workload.", a["workload"], b["workload"], keys)
    for mode in dict.fromkeys(rule.mode for rule in rules):
        of_mode = [rule for rule in rules if rule.mode == mode]
        if mode == "sweep":
            yield from _unlike_sweeps(a["modes"], b["modes"], of_mode)
        elif mode is not None:
            yield from _unlike_runs(mode, a["modes"][mode], b["modes"][mode], of_mode)


def _unlike_runs(
    name: str, a: Mapping[str, Any], b: Mapping[str, Any], rules: Sequence[Rule]
) -> Iterator[Mismatch]:
    yield from _unlike(f"{name}.", a, b, _OF_RUNS)
    if any(rule.metric in NEEDS_SLO for rule in rules):
        keys = (*_OF_SLO, "wanted_attainment") if any(r.metric == BEST for r in rules) else _OF_SLO
        yield from _unlike(f"{name}.slo.", _section(a, "slo"), _section(b, "slo"), keys)


def _unlike_sweeps(
    a: Mapping[str, Any], b: Mapping[str, Any], rules: Sequence[Rule]
) -> Iterator[Mismatch]:
    """The loads first: what is at one of them is compared only where both have it."""
    points_a, points_b = points_of(a), points_of(b)
    yield from _unlike("sweep.", {"by": axis_of(a)}, {"by": axis_of(b)}, ("by",))
    yield from _unlike("sweep.", {"loads": [*points_a]}, {"loads": [*points_b]}, ("loads",))
    for at in points_a:
        if at in points_b:
            runs_a, runs_b = points_a[at], points_b[at]
            yield from _unlike_runs(f"sweep at {at:g}", runs_a, runs_b, rules)
            yield from _unlike(f"sweep at {at:g}.", runs_a, runs_b, ("arrival",))


def unlike_artifacts(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Mismatch]:
    """What two fingerprints must have alike, and have not."""
    yield from _unlike("", a, b, _MUST_AGREE)
    yield from _unlike("model.", _section(a, "model"), _section(b, "model"), _OF_MODEL)


def _unlike(
    prefix: str, a: Mapping[str, Any], b: Mapping[str, Any], keys: Iterable[str]
) -> Iterator[Mismatch]:
    for key in keys:
        if a.get(key) != b.get(key):
            yield Mismatch(name=f"{prefix}{key}", a=a.get(key), b=b.get(key))


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def require_alike(mismatches: Sequence[Mismatch]) -> None:
    """Refuse what is no measurement of the same thing.

    Raises:
        InputError: There are mismatches; all are named.
    """
    if mismatches:
        message = f"A and B cannot be compared: {'; '.join(one.text for one in mismatches)}"
        hint = "measure both alike, or pass --allow-different to compare them all the same"
        raise InputError(message, hint=hint)


def caveats(
    a: BenchDocument, b: BenchDocument, mismatches: Sequence[Mismatch], *, in_turn: bool
) -> tuple[str, ...]:
    """Doubts about the comparison, one sentence each; ``in_turn`` if both were measured in one run."""
    return tuple(_caveats(a, b, mismatches, in_turn))


def _caveats(
    a: BenchDocument, b: BenchDocument, mismatches: Sequence[Mismatch], in_turn: bool
) -> Iterator[str]:
    for one in mismatches:
        yield f"compared all the same (--allow-different): {one.text}"
    marks_a, marks_b = a.content["fingerprint"], b.content["fingerprint"]
    for one in _unlike("", marks_a, marks_b, _MAY_DIFFER):
        yield one.text
    for one in _unlike("workload.", a.content["workload"], b.content["workload"], (_COUNT,)):
        yield f"{one.text}: filling and draining the slots weighs more in the shorter one"
    yield from _other_counts(a.content["modes"], b.content["modes"])
    tools_a, tools_b = _section(marks_a, "tool_versions"), _section(marks_b, "tool_versions")
    for one in _unlike("", tools_a, tools_b, {**tools_a, **tools_b}):
        yield one.text
    for name, document in (("A", a), ("B", b)):
        if document.content.get("status") == "noisy":
            findings = _section(document.content, "noise").get("findings") or ["not said why"]
            yield f"{name} was measured on a noisy machine: {_sentence(findings[0])}"
        if document.content["fingerprint"].get("verified") is False:
            yield f"{name} is an unverified artifact"
    digest = marks_a.get("artifact_digest")
    if digest is not None and digest == marks_b.get("artifact_digest"):
        yield "A and B are the same artifact: what differs is the machine's doing"
    if not in_turn:
        yield (
            "A and B were measured one after the other: what changed on the machine in between looks"
            " like a difference of the artifacts"
        )


def _other_counts(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Loads of a sweep with other numbers of requests in their runs."""
    points_a, points_b = points_of(a), points_of(b)
    for at in points_a:
        if at in points_b:
            runs = (points[at]["repeats"][:1] for points in (points_a, points_b))
            counts = [run[_COUNT] for found in runs for run in found]
            if len(set(counts)) > 1:
                both = " in A and ".join(map(str, counts))
                yield f"sweep at {at:g}: runs have {both} in B requests: their tails differ"


def _sentence(finding: object) -> str:
    """What a file says of its noise: whole words, and nothing that would steer a terminal."""
    if not isinstance(finding, str):
        return shown(finding)
    plain = "".join(sign if sign.isprintable() else " " for sign in finding)
    return shorten(plain, _LONGEST_SENTENCE, placeholder=" ...")
