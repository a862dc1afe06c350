"""What the CPU verifies is the legalised HLO: a legalisation that is wrong does not pass."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import PROGRAMS_DIR
from neuronc.artifact.relink import relink
from neuronc.cli.app import main
from neuronc.errors import CompilerError, InputError
from neuronc.lower.program_files import NEURON_HLO
from neuronc.pipeline import build
from neuronc.recipe import Recipe
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.settings import CompileOptions
from tests.broken_worker import break_legalising
from tests.end_to_end.resign import copy_artifact, resign
from tests.tiny_families import random_model

_FAULTS = {
    "groups of one rank": """
        right = legalise._legalise_instruction
        def wrong(instruction):
            right(instruction)
            if instruction.opcode == "all-reduce":
                instruction.ClearField("replica_groups")
                for rank in (0, 1):
                    instruction.replica_groups.add(replica_ids=[rank])
        legalise._legalise_instruction = wrong
    """,
    "maximum for minimum": """
        right = legalise.rewrite_operators
        def wrong(module, **how):
            right(module, **how)
            for computation in module.computations:
                for instruction in computation.instructions:
                    if instruction.opcode == "maximum":
                        instruction.opcode = "minimum"
        legalise.rewrite_operators = wrong
    """,
    "halves exchanged": """
        right = legalise.rewrite_operators
        def wrong(module, **how):
            right(module, **how)
            entry = legalise.entry_of(module)
            for instruction in entry.instructions:
                if instruction.opcode == "concatenate":
                    instruction.operand_ids[:] = list(instruction.operand_ids)[::-1]
        legalise.rewrite_operators = wrong
    """,
    "aliases exchanged": """
        right = legalise.set_aliases
        def wrong(module, signature):
            right(module, signature)
            one, other = module.input_output_alias.entries[:2]
            numbers = one.parameter_number, other.parameter_number
            other.parameter_number, one.parameter_number = numbers
        legalise.set_aliases = wrong
    """,
}


@pytest.fixture
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A worker whose legalisation is broken as the parameter says."""
    break_legalising(_FAULTS[request.param], tmp_path, monkeypatch)
    return str(request.param)


def lower(checkpoint: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    sizes = ("--tp", "2", "--max-length", "16", "--prefill-buckets", "8", "--target", "inf2")
    code = main(["compile", str(checkpoint), "-o", str(out), *sizes, "--lower-only", "--json"])
    error: dict[str, Any] | None = json.loads(capfd.readouterr().out)["error"]
    return code, "" if error is None else str(error["message"])


@pytest.mark.parametrize(
    "fault",
    [
        next(iter(_FAULTS)),
        *(pytest.param(f, marks=pytest.mark.slow) for f in list(_FAULTS)[1:3]),
    ],
    indirect=True,
)
def test_wrong_rewrite_fails_verification(
    fault: str, tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, told = lower(tiny_checkpoint, tmp_path / "out", capfd)
    assert code == 6, (fault, told)
    assert "differs from the original model" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", ["aliases exchanged"], indirect=True)
def test_wrong_aliases_are_refused_by_the_signature(
    fault: str, tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, told = lower(tiny_checkpoint, tmp_path / "out", capfd)
    assert code == 7, (fault, told)
    assert "the legalised HLO has alias" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "tp", "dtype"),
    [("mixtral", 1, "f32"), ("mixtral", 2, "bf16"), ("mixtral", 4, "f32"), ("gemma2", 4, "bf16")],
)
def test_legalised_programs_of_other_families_are_verified(
    family: str, tp: int, dtype: Any, tmp_path: Path
) -> None:
    random_model(family).save_pretrained(tmp_path / "checkpoint")
    recipe = Recipe(
        checkpoint=str(tmp_path / "checkpoint"),
        tp=tp,
        dtype=dtype,
        batch_size=2,
        max_length=32,
        prefill_buckets=(8,),
        target="inf2",
    )
    built = build(recipe, tmp_path / "out", options=CompileOptions(lower_only=True))
    assert (built.manifest.verification or {})["passed"]


def test_program_that_cannot_be_read_back_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    copied = copy_artifact(tiny_bundle, tmp_path / "copy")
    path = copied / PROGRAMS_DIR / "decode_32" / NEURON_HLO
    module = LEGACY.FromString(path.read_bytes())
    instruction = next(i for c in module.computations for i in c.instructions if i.opcode == "dot")
    instruction.opcode = "no-such-operator"
    path.write_bytes(module.SerializeToString())
    resign(copied)
    with pytest.raises(CompilerError, match="program decode_32: XLA does not read the legalised"):
        relink(copied)


def test_program_that_is_not_there_is_bad_input(tiny_bundle: Path, tmp_path: Path) -> None:
    copied = copy_artifact(tiny_bundle, tmp_path / "copy")
    name = f"{PROGRAMS_DIR}/decode_32/{NEURON_HLO}"
    (copied / name).unlink()
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = [f for f in manifest["files"] if f["path"] != name]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"program decode_32: there is no neuron\.hlo\.pb"):
        relink(copied)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["groups of one rank"], indirect=True)
def test_bisecting_runs_the_legalised_programs(
    fault: str, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = copy_artifact(tiny_bundle, tmp_path / "copy")
    assert main(["verify", str(copied), "--bisect", "--quiet", "--json"]) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    assert data["passed"], "the artifact's own programs were made before"
    differing = [layer["layer"] for layer in data["layers"] if layer["differs"]]
    assert differing == ["model.layers.0", "model.layers.1"] * 2, fault
