"""Verification can fail: each way of breaking an artifact is caught."""

import json
from pathlib import Path

import numpy as np
import pytest

from neuronc.artifact.relink import relink
from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError, VerificationError
from neuronc.pipeline import verify
from neuronc.verify.verify import verify_artifact
from tests.end_to_end.resign import copy_artifact, resign


def change_one_weight(artifact: Path, rank: int) -> None:
    """Add 0.5 to one f32 in the middle of a rank's file."""
    path = artifact / "weights" / f"rank-{rank}.safetensors"
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    middle = header + (len(data) - header) // 8 * 4
    value = np.frombuffer(bytes(data[middle : middle + 4]), np.float32) + np.float32(0.5)
    data[middle : middle + 4] = value.tobytes()
    path.unlink()
    path.write_bytes(data)


def swap_ranks(artifact: Path) -> None:
    first, second = (artifact / "weights" / f"rank-{r}.safetensors" for r in (0, 1))
    kept = first.read_bytes()
    first.unlink()
    first.write_bytes(second.read_bytes())
    second.unlink()
    second.write_bytes(kept)


def edit_program(artifact: Path, name: str, old: str, new: str) -> None:
    """Change a program's StableHLO once and compile it again."""
    path = artifact / "programs" / name / "program.mlir"
    text = path.read_text()
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new, 1))
    resign(artifact)
    relink(artifact)


@pytest.fixture
def artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    return copy_artifact(tiny_artifact, tmp_path / "artifact")


def test_untouched_artifact_passes_against_shards_and_checkpoint(
    artifact: Path, tiny_checkpoint: Path
) -> None:
    manifest, error = verify(artifact, None)
    assert error is None
    assert manifest.verification is not None
    assert "rank shards" in manifest.verification["reference"]
    manifest, error = verify(artifact, str(tiny_checkpoint))
    assert error is None
    assert manifest.verification is not None
    assert "checkpoint" in manifest.verification["reference"]


def test_changed_weight_is_refused_by_its_digest(artifact: Path) -> None:
    change_one_weight(artifact, rank=1)
    with pytest.raises(InputError, match=r"rank-1\.safetensors: digest mismatch"):
        verify(artifact, None)


def test_changed_weight_with_fitting_digests_is_not_the_checkpoints(artifact: Path) -> None:
    change_one_weight(artifact, rank=1)
    resign(artifact)
    with pytest.raises(VerificationError, match="is not the checkpoint's tensor"):
        verify(artifact, None)


def test_changed_weight_with_fitting_digests_differs_from_the_checkpoint(
    artifact: Path, tiny_checkpoint: Path
) -> None:
    change_one_weight(artifact, rank=0)
    resign(artifact)
    manifest, error = verify(artifact, str(tiny_checkpoint))
    assert error is not None
    assert error.exit_code == 6
    assert manifest.verification is not None
    assert manifest.verification["max_ulp"] > manifest.verification["tolerance_ulp"]
    assert json.loads((artifact / "manifest.json").read_text())["verification"]["passed"] is False


def test_swapped_ranks_are_caught_from_shards_and_from_the_checkpoint(
    artifact: Path, tiny_checkpoint: Path
) -> None:
    swap_ranks(artifact)
    with pytest.raises(InputError, match="digest mismatch"):
        verify(artifact, None)
    resign(artifact)
    with pytest.raises(VerificationError, match="is not the checkpoint's tensor"):
        verify(artifact, None)
    _, error = verify(artifact, str(tiny_checkpoint))
    assert error is not None
    assert "differs from the original model first at prefill" in error.message


@pytest.mark.parametrize("program", ["prefill_16", "decode_32"])
def test_dropped_all_reduce_is_caught_and_the_program_named(artifact: Path, program: str) -> None:
    # Each rank in a group of its own: the all-reduce then sums nothing.
    edit_program(
        artifact,
        program,
        "dense<[[0, 1]]> : tensor<1x2xi64>",
        "dense<[[0], [1]]> : tensor<2x1xi64>",
    )
    _, error = verify(artifact, None)
    assert error is not None
    assert f"first at {program}" in error.message


def test_wrong_scale_of_attention_is_caught(artifact: Path) -> None:
    scale = "3.535534e-01"  # 1 / sqrt(8), as MLIR prints it
    text = (artifact / "programs" / "decode_64" / "program.mlir").read_text()
    line = next(part for part in text.split("dense<") if part.startswith("0.35355"))
    value = line.split(">")[0]
    assert value.startswith(scale[:4].replace("3.53", "0.35"))
    edit_program(artifact, "decode_64", f"dense<{value}>", "dense<0.350000000>")
    _, error = verify(artifact, None)
    assert error is not None
    assert "first at decode_64" in error.message


def test_nan_weights_are_named(tiny_artifact: Path, tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_checkpoint))

    class WithNaN:
        def read(self, name: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
            tensor = np.array(checkpoint.reader.read(name))
            if name.endswith("layers.1.mlp.up_proj.weight"):
                tensor[0, 0] = np.nan
            return tensor

    damaged = type(checkpoint)(
        source=checkpoint.source,
        path=checkpoint.path,
        config=checkpoint.config,
        tensors=checkpoint.tensors,
        companions=checkpoint.companions,
        reader=WithNaN(),
    )
    found = verify_artifact(tiny_artifact, checkpoint=damaged)
    assert found.non_finite_weights == ("model.layers.1.mlp.up_proj.weight",)
    assert not found.comparison.passed
