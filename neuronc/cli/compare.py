"""neuronc compare: is a build slower than another one, and may it be?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli import bench_options as flags
from neuronc.cli.compare_sides import Measuring, read_or_measure
from neuronc.cli.options import (
    JsonFlag,
    OnOption,
    QuietFlag,
    RequireSignatureOption,
)
from neuronc.cli.output import Report
from neuronc.errors import InconclusiveError, NeuroncError, RegressionError

if TYPE_CHECKING:
    from neuronc.bench.compare.documents import BenchDocument
    from neuronc.bench.compare.gate import Comparison

EXAMPLES = (
    "neuronc compare base.json new.json --fail-on 'tpot.p50>+5%,ttft.p99>+10%,throughput<-5%'",
    "neuronc compare base.json new.json --junit compare.xml --json",
)


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="The base: JSON of neuronc bench, or an artifact.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The new one, measured alike.")],
    *,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="RULES",
            help="[MODE:]METRIC>+N% or <-N%, with commas between"
            " (default: tpot.p50>+5%,ttft.p50>+5%,throughput<-5%; of sweeps with an SLO also"
            " best<-5%).",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            metavar="MODE",
            help="latency, throughput, serve or sweep, for rules that name none"
            " (default: times of latency, rates of throughput, where both files have them).",
        ),
    ] = None,
    allow_different: Annotated[
        bool,
        typer.Option("--allow-different", help="Compare unlike targets, models or workloads, too."),
    ] = False,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Write a test case for each rule."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="One page: B's plots, and both side by side."),
    ] = None,
    prompt_tokens: flags.PromptTokensOption = None,
    new_tokens: flags.NewTokensOption = None,
    lengths: flags.LengthsOption = None,
    requests: flags.RequestsOption = None,
    repeats: flags.RepeatsOption = None,
    time_budget: flags.PairTimeBudgetOption = None,
    on: OnOption = None,
    require_signature: RequireSignatureOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Compare two benchmarks: PASS (exit 0), FAIL (11) or INCONCLUSIVE (13).

    Two artifacts are measured now, in one process and in turn (5 repeats of latency and throughput
    each, about a minute); the flags about requests are for them.

    Each rule is tested on the repeats in the files, so that chance alone fails at most one
    comparison in 20. FAIL: the whole interval of B against A is past the limit. PASS: it is wholly
    inside. Otherwise the repeats cannot tell, and the answer says about how many more could.

    Sweeps are compared at each load (the loads must be the same); best and knee are rules about a
    whole sweep: best<-5% fails where the largest load that meets the SLO got smaller.
    """
    from neuronc.bench.compare.rules import parse_mode, parse_rules
    from neuronc.bench.outputs.save import Files, save_page
    from neuronc.checkpoint.paths import require_writable
    from neuronc.cli.progress import make_progress
    from neuronc.provenance.signing import require_signatures

    if junit is not None:
        require_writable("junit", junit)
    if html is not None:
        Files(html=html).check()
    require_signatures((a, b), require_signature, progress=make_progress(quiet))
    asked_rules = None if fail_on is None else parse_rules(fail_on)
    wanted = None if mode is None else parse_mode(mode, "--mode")
    asked = Measuring(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        lengths=lengths,
        requests=requests,
        repeats=repeats,
        time_budget=time_budget,
        on=on,
    )
    if a.is_dir() and b.is_dir() and not allow_different:
        _require_alike_artifacts(a, b)
    base, new = read_or_measure(a, b, asked, mode=wanted, progress=make_progress(quiet))
    from neuronc.bench.compare.comparable import caveats, find_mismatches, require_alike
    from neuronc.bench.compare.documents import default_rules, with_modes
    from neuronc.bench.compare.gate import compare as compare_runs

    rules = asked_rules or default_rules(base, new, mode=wanted)
    rules = with_modes(rules, base, new, mode=wanted)
    mismatches = find_mismatches(base, new, rules)
    if not allow_different:
        require_alike(mismatches)
    comparison = compare_runs(base.runs, new.runs, rules)
    doubts = caveats(base, new, mismatches, in_turn=a.is_dir())
    if junit is not None:
        _write_junit(comparison, junit, base, new)
    if html is not None:
        save_page(html, new.content, other=base.content)
    return _report(comparison, base, new, default_rules=fail_on is None, warnings=doubts)


def _require_alike_artifacts(a: Path, b: Path) -> None:
    """Refuse unlike artifacts before a minute is spent on measuring them."""
    from neuronc.artifact.manifest import read_manifest
    from neuronc.bench.compare.comparable import require_alike, unlike_artifacts
    from neuronc.bench.document import fingerprint

    require_alike(tuple(unlike_artifacts(*(fingerprint(read_manifest(f)) for f in (a, b)))))


def _report(
    comparison: "Comparison",
    a: "BenchDocument",
    b: "BenchDocument",
    *,
    default_rules: bool,
    warnings: Sequence[str],
) -> Report:
    from neuronc.bench.compare.report import SCHEMA, to_dict

    def draw(console: Any) -> None:
        from neuronc.bench.compare.drawing import draw_comparison
        from neuronc.cli.tables import draw_pairs

        draw_pairs(console, _heading(comparison, a, b, default_rules=default_rules))
        draw_comparison(console, comparison)

    sides = {name: _side_dict(side) for name, side in (("a", a), ("b", b))}
    return Report(
        command="compare",
        data={
            "schema": SCHEMA,
            **sides,
            "rules_from": "default" if default_rules else "--fail-on",
            **to_dict(comparison),
            "caveats": list(warnings),
        },
        text=draw,
        warnings=tuple(warnings),
        error=_error(comparison),
    )


def _heading(
    comparison: "Comparison", a: "BenchDocument", b: "BenchDocument", *, default_rules: bool
) -> dict[str, str]:
    rules: dict[str, None] = dict.fromkeys(v.rule.text for v in comparison.verdicts)
    source = " (default; --fail-on sets others)" if default_rules else ""
    return {
        "A (base)": f"{a.path}  {_digest(a)}",
        "B (new)": f"{b.path}  {_digest(b)}",
        "ran on": str(b.content.get("headline") or b.content["fingerprint"].get("target")),
        "fails on": ", ".join(rules) + source,
    }


def _digest(side: "BenchDocument") -> str:
    digest = side.content["fingerprint"].get("artifact_digest")
    return f"artifact {str(digest)[:12]}" if digest else ""


def _side_dict(side: "BenchDocument") -> dict[str, object]:
    return {
        "file": str(side.path),
        "artifact_digest": side.content["fingerprint"].get("artifact_digest"),
        "status": side.content.get("status"),
        "repeats": side.repeats,
    }


def _error(comparison: "Comparison") -> NeuroncError | None:
    from neuronc.bench.compare.report import conclusion

    message = conclusion(comparison)
    if comparison.outcome == "FAIL":
        where = "; ".join(f"{found.where}: {found.text}" for found in comparison.attributions)
        hint = where or "the files name no step classes that would say where"
        return RegressionError(message, hint=hint)
    if comparison.outcome == "INCONCLUSIVE":
        open_ones = [v for v in comparison.verdicts if v.outcome == "INCONCLUSIVE"]
        reasons = "; ".join(f"{verdict.rule.label}: {verdict.reason}" for verdict in open_ones)
        hint = f"measure more repeats (neuronc bench --repeats), or on a quieter machine; {reasons}"
        return InconclusiveError(message, hint=hint)
    return None


def _write_junit(
    comparison: "Comparison", path: Path, a: "BenchDocument", b: "BenchDocument"
) -> None:
    from neuronc.bench.compare.junit import write_junit

    sides = {
        f"{name} {key}": str(value)
        for name, side in (("A", a), ("B", b))
        for key, value in _side_dict(side).items()
        if key != "repeats"
    }
    write_junit(comparison, path, properties={"verdict": comparison.outcome, **sides})
