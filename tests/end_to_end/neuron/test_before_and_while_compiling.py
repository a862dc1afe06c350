"""What a user is told before neuronx-cc starts, and while it works."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuronc.artifact.neffs import compile_bundle
from neuronc.cli.app import main
from neuronc.targets.neuron.compiler import programs
from neuronc.targets.neuron.settings import CompileOptions
from tests.broken_worker import break_legalising
from tests.neuron_doubles import CompilerDouble

PROGRAMS = ["prefill_8", "prefill_16", "decode_32", "decode_64"]
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


@pytest.mark.parametrize("lower_only", [False, pytest.param(True, marks=pytest.mark.slow)])
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


def test_where_memory_is_for_one_compile_another_waits(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "available_memory_bytes", lambda: 9 * 2**30)  # one of 8 fits
    compiler.tell(mode="slow", program="prefill_8")
    told = _Notes()
    options = CompileOptions(num_parallel=2)
    compile_bundle(tiny_bundle, tmp_path / "art", options, progress=told)
    notes = [note for _, note in told.notes]
    assert "prefill_16: waits for memory" in notes
    assert notes.index("prefill_8: done") < notes.index("prefill_16: done")
    assert compiler.compiled()[0] == "prefill_8"


def test_a_compile_gives_way_when_memory_is_short_and_is_done_alone(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = iter([10**12])  # for the two that begin; then it is gone
    monkeypatch.setattr(programs, "available_memory_bytes", lambda: next(left, 0))
    compiler.tell(mode="slow")
    told = _Notes()
    options = CompileOptions(num_parallel=2)
    compile_bundle(tiny_bundle, tmp_path / "art", options, progress=told)
    notes = [note for _, note in told.notes]
    gave_way = [note for note in notes if "gave way, and is compiled alone later" in note]
    assert len(gave_way) == 1
    assert sorted(set(compiler.compiled())) == sorted(PROGRAMS)
    assert sum(amount for amount, _ in told.notes) == len(PROGRAMS)
