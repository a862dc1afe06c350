"""What a user is told before neuronx-cc starts, and while it works."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuronc.artifact.neffs import compile_bundle
from neuronc.cli.app import main
from neuronc.targets.neuron.settings import CompileOptions
from tests.broken_worker import break_legalising
from tests.neuron_doubles import CompilerDouble

_REFUSED_OPERATOR = """
    right = legalise.rewrite_operators
    def wrong(module, **how):
        right(module, **how)
        for computation in module.computations:
            for instruction in computation.instructions:
                if instruction.opcode == "logistic":
                    instruction.opcode = "reduce-precision"
                    instruction.exponent_bits, instruction.mantissa_bits = 8, 23
    legalise.rewrite_operators = wrong
"""


@pytest.mark.parametrize("lower_only", [False, True])
def test_refused_operator_ends_the_build_before_the_compiler_is_called(
    lower_only: bool,
    tiny_checkpoint: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    break_legalising(_REFUSED_OPERATOR, tmp_path, monkeypatch)
    out = tmp_path / "out"
    sizes = ("--max-length", "16", "--prefill-buckets", "8", "--target", "inf2", "--no-verify")
    argv = ["compile", str(tiny_checkpoint), "-o", str(out), *sizes, "--json"]
    assert main([*argv, "--lower-only"] if lower_only else argv) == 7
    error = json.loads(capfd.readouterr().out)["error"]
    assert "neuronx-cc would refuse this:" in error["message"]
    assert "NCC_EVRF001 prefill_8: " in error["message"]
    assert "reduce-precision has no lowering" in error["message"]
    assert "neuronc explain EVRF001" in error["hint"]
    assert compiler.compiled() == []
    assert not out.exists()


class _Notes:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[tuple[float, str]] = []

    @contextmanager
    def stage(self, *_: object, **__: object) -> Iterator["_Notes"]:
        """One list for all stages."""
        yield self

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Remember it."""
        self.notes.append((amount, note))


def test_working_compiler_is_told_with_seconds_and_memory(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compiler.tell(mode="slow", program="prefill_8")
    told = _Notes()
    compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions(num_parallel=1), progress=told)
    beats = [
        re.fullmatch(r"prefill_8: (\d+) s, (\d+\.\d\d) GiB", note)
        for amount, note in told.notes
        if amount == 0 and note.startswith("prefill_8: ")
    ]
    assert len(beats) >= 3
    seconds = [int(beat[1]) for beat in beats if beat]
    assert len(seconds) == len(beats)
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 2
    assert max(float(beat[2]) for beat in beats if beat) >= 0.06  # the double fills 64 MiB
    assert (1, "prefill_8: done") in told.notes


def test_more_compiles_at_once_than_memory_allows_are_done_and_warned_of(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import psutil

    class Memory:
        available = 20 * 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    argv = ["compile", str(tiny_bundle), "--json"]
    assert main([*argv, "-o", str(tmp_path / "three"), "--jobs", "3"]) == 0
    told = "--jobs 3 may need 24 GiB (our guess of 8 GiB each); 20 GiB are free"
    warnings = json.loads(capfd.readouterr().out)["warnings"]
    assert told in warnings
    assert main([*argv, "-o", str(tmp_path / "two"), "--jobs", "2"]) == 0
    assert json.loads(capfd.readouterr().out)["warnings"] == [w for w in warnings if w != told]
    assert sorted(compiler.compiled()) == ["decode_32", "decode_64", "prefill_16", "prefill_8"]
