"""Other weights in an artifact: the same programs, a fine-tune's numbers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuronc import pipeline
from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.cli.app import main
from neuronc.errors import InputError, NeuroncError, PlanError, UsageError, VerificationError
from neuronc.pipeline import refit, split
from neuronc.recipe import Recipe
from neuronc.runtime.session import Session
from tests.end_to_end.resign import copy_artifact, edit_manifest, resign
from tests.end_to_end.test_build import assert_same_text_as_transformers
from tests.end_to_end.test_commands import run_ok, run_refused
from tests.end_to_end.test_verify_catches import edit_program
from tests.tiny_adapters import write_adapter
from tests.tiny_models import edit_config, make_checkpoint

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def fine_tune(tmp_path: Path) -> Path:
    """The tiny llama with other weights."""
    return make_checkpoint(tmp_path / "in" / "fine-tune", seed=1)


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> int:
        raise AssertionError

    monkeypatch.setattr(pipeline, "run_jobs", never)


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = {name: np.array(array) for name, array in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def programs_of(manifest: Manifest) -> dict[str, str]:
    return {f.path: f.sha256 for f in manifest.files if f.path.startswith("programs/")}


def refused(artifact: Path, weights: Path, **options: Any) -> NeuroncError:
    """The error of a refit, which must leave nothing."""
    out = artifact.parent / "refused" / "new"
    with pytest.raises(NeuroncError) as caught:
        refit(artifact, str(weights), out, **options)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    return caught.value


@pytest.fixture
def artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    return copy_artifact(tiny_artifact, tmp_path / "artifact")


@pytest.mark.usefixtures("_no_compiler")
def test_a_refit_answers_as_the_fine_tune_with_the_very_same_programs(
    tiny_artifact: Path, fine_tune: Path, tmp_path: Path
) -> None:
    before = read_manifest(tiny_artifact)

    built = refit(tiny_artifact, str(fine_tune), tmp_path / "new")

    assert (built.manifest.verification or {})["passed"]
    assert "checkpoint fine-tune" in (built.manifest.verification or {})["reference"]
    assert read_manifest(tmp_path / "new") == built.manifest
    assert programs_of(built.manifest) == programs_of(before)
    assert all((built.folder / path).samefile(tiny_artifact / path) for path in programs_of(before))
    assert built.manifest.model["source"] == "fine-tune"
    assert built.manifest.request["refit_of"] == before.digest
    assert_same_text_as_transformers(fine_tune, tmp_path / "new")


@pytest.mark.usefixtures("_no_compiler")
def test_a_build_that_asks_for_the_same_finds_it_done(
    tiny_artifact: Path, fine_tune: Path, tmp_path: Path
) -> None:
    refit(tiny_artifact, str(fine_tune), tmp_path / "new")
    sizes = {"batch_size": 2, "max_length": 64, "tp": 2, "dtype": "f32"}
    buckets = {"prefill_buckets": (8, 16), "decode_buckets": (32, 64)}
    recipe = Recipe(checkpoint=str(fine_tune), **sizes, **buckets)  # type: ignore[arg-type]

    assert pipeline.build_cached(recipe, tmp_path / "new").reused
    with pytest.raises(UsageError, match="batch_size was 2, asked 3"):
        pipeline.build_cached(
            Recipe(checkpoint=str(fine_tune), **{**sizes, "batch_size": 3}, **buckets),  # type: ignore[arg-type]
            tmp_path / "new",
        )


def test_without_verification_no_framework_is_imported_and_it_says_unverified(
    tiny_artifact: Path, fine_tune: Path, tmp_path: Path
) -> None:
    argv = ["refit", str(tiny_artifact), "--weights", str(fine_tune), "-o", str(tmp_path / "new")]
    program = (
        "import sys\n"
        "for name in ('torch', 'jax', 'torch_mlir'): sys.modules[name] = None\n"
        "from neuronc.cli.app import main\n"
        f"sys.exit(main({[*argv, '--no-verify', '--json']!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["data"]["verification"] == "unverified"
    assert "unverified" in document["warnings"][0]
    assert read_manifest(tmp_path / "new").verification is None


def test_the_verb_reports_as_compile_does(
    tiny_artifact: Path, fine_tune: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (fine_tune / "tokenizer.json").unlink()
    out = str(tmp_path / "new")
    argv = ("refit", str(tiny_artifact), "--weights", str(fine_tune), "-o", out)

    data = run_ok(capfd, *argv)

    assert data["programs"] == ["prefill_8", "prefill_16", "decode_32", "decode_64"]
    assert data["weights"]["source"] == "fine-tune"
    assert data["verification"]["passed"]
    code, told = run_refused(capfd, *argv)
    assert (code, "exists already" in told) == (2, True)
    assert main([*argv, "--overwrite", "--no-verify", "--quiet"]) == 0
    assert "the checkpoint has no tokenizer" in capfd.readouterr().err
    assert not (tmp_path / "new" / "weights" / "tokenizer.json").exists()


def test_fields_that_no_program_depends_on_may_differ(
    tiny_artifact: Path, fine_tune: Path, tmp_path: Path
) -> None:
    edit_config(
        fine_tune,
        _name_or_path="me/fine-tune",
        transformers_version="4.40.0",
        dtype=None,
        torch_dtype="bfloat16",
        eos_token_id=[2, 7],
        temperature=0.7,
        attention_dropout=0.1,
        use_cache=False,
        # as transformers 4 wrote them
        rope_parameters=None,
        rope_theta=10000.0,
        head_dim=8,
        attention_bias=None,
    )

    manifest = refit(tiny_artifact, str(fine_tune), tmp_path / "new", verify=False).manifest

    config = json.loads((tmp_path / "new" / "weights" / "config.json").read_text())
    assert config["eos_token_id"] == [2, 7]
    assert manifest.dtype == "f32"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05, there 1e-06"),
        ({"rms_norm_eps": None}, None),  # left out, it has the default of its class
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', there 'silu'"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_parameters is"),
        ({"rope_parameters": None, "rope_theta": 500.0}, "rope_parameters is"),
        ({"num_key_value_heads": 9}, "num_key_value_heads is 9, there 3"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False, there True"),
        ({"attention_bias": True}, "attention_bias is True, there False"),
        ({"model_type": "mistral"}, "model_type is 'mistral', there 'llama'"),
        ({"made_up": 1}, "made_up is 1, there None"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
    ],
)
def test_a_config_of_another_program_is_refused_by_its_field(
    artifact: Path, fine_tune: Path, tmp_path: Path, fields: dict[str, Any], told: str | None
) -> None:
    edit_config(fine_tune, **fields)

    if told is None:
        refit(artifact, str(fine_tune), tmp_path / "new", verify=False)
        return
    error = refused(artifact, fine_tune, verify=False)
    assert error.exit_code == 3
    assert f"does not fit the programs of {artifact}: {told}" in error.message


def test_tensors_of_another_model_are_refused_by_name(artifact: Path, tmp_path: Path) -> None:
    def other(change: Callable[[dict[str, Any]], object]) -> str:
        folder = tmp_path / "other"
        shutil.rmtree(folder, ignore_errors=True)
        make_checkpoint(folder, seed=1)
        change_weights(folder, change)
        return refused(artifact, folder, verify=False).message

    bias = "model.layers.0.self_attn.q_proj.bias"
    told = other(lambda t: t.update({bias: np.ones(72, np.float32)}))
    assert f"has tensor '{bias}', which no program" in told
    told = other(lambda t: [t.pop(name) for name in list(t) if "up_proj" in name])
    assert "lacks tensor 'model.layers.0.mlp.up_proj.weight'" in told
    told = other(lambda t: t.update({UP: np.ones((95, 36), np.float32)}))
    assert f"tensor '{UP}' of other is [95, 36]; expected [96, 36]" in told
    told = other(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}))
    assert "has a 'lm_head.weight' that is not its 'model.embed_tokens.weight'" in told


def test_an_equal_copy_of_a_tied_head_is_no_obstacle(
    tiny_artifact: Path, fine_tune: Path, tmp_path: Path
) -> None:
    change_weights(
        fine_tune, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()})
    )

    refit(tiny_artifact, str(fine_tune), tmp_path / "new", verify=False)

    Session.open(tmp_path / "new").prefill(0, (1,))


def test_a_layout_that_the_programs_do_not_take_is_refused(artifact: Path, fine_tune: Path) -> None:
    path = artifact / "weights" / "split.json"
    data = json.loads(path.read_text())
    tensor = data["tensors"]["model.layers.1.mlp.down_proj.weight"]
    tensor["ranks"] = tensor["ranks"][::-1]  # rank 1 holds what rank 0 did
    path.write_text(json.dumps(data))
    resign(artifact)

    told = refused(artifact, fine_tune, verify=False).message

    assert "'model.layers.1.mlp.down_proj.weight' is split otherwise" in told


def test_a_split_folder_is_linked_if_it_is_for_these_ranks(
    artifact: Path, fine_tune: Path, tmp_path: Path
) -> None:
    split(Recipe(checkpoint=str(fine_tune), tp=2), tmp_path / "weights")
    split(Recipe(checkpoint=str(fine_tune), tp=3), tmp_path / "weights3")

    built = refit(artifact, str(tmp_path / "weights"), tmp_path / "new")

    assert (built.manifest.verification or {})["passed"]
    shard = "rank-1.safetensors"
    assert (tmp_path / "new" / "weights" / shard).samefile(tmp_path / "weights" / shard)
    assert isinstance(refused(artifact, tmp_path / "weights3"), PlanError)


def test_an_adapter_is_merged_into_the_weights(
    tiny_artifact: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "chat")

    built = refit(tiny_artifact, str(tiny_checkpoint), tmp_path / "new", adapter=str(adapter))

    assert built.split is not None
    assert built.split.adapter is not None
    assert built.split.adapter.name == "chat"
    assert (built.manifest.verification or {})["reference"].endswith("with adapter chat")


def test_a_failed_verification_leaves_nothing(artifact: Path, fine_tune: Path) -> None:
    edit_program(
        artifact,
        "decode_32",
        "dense<[[0, 1]]> : tensor<1x2xi64>",
        "dense<[[0], [1]]> : tensor<2x1xi64>",
    )

    error = refused(artifact, fine_tune)

    assert isinstance(error, VerificationError)
    assert "first at decode_32" in error.message


def test_a_changed_program_is_refused_before_anything_is_written(
    artifact: Path, fine_tune: Path
) -> None:
    path = artifact / "programs" / "decode_32" / "program.hlo.pb"
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    assert "digest mismatch" in refused(artifact, fine_tune, verify=False).message


def test_an_artifact_without_weights_is_refused(artifact: Path, fine_tune: Path) -> None:
    def bare(manifest: dict[str, Any]) -> None:
        kept = [f for f in manifest["files"] if not f["path"].startswith("weights/rank")]
        manifest["files"] = [f for f in kept if f["path"] != "weights/split.json"]

    for path in (artifact / "weights").glob("rank-*"):
        path.unlink()
    (artifact / "weights" / "split.json").unlink()
    edit_manifest(artifact, bare)

    told = refused(artifact, fine_tune)

    assert isinstance(told, InputError)
    assert "it has no weights to replace" in told.message


def test_the_output_may_not_be_what_it_is_made_of(artifact: Path, fine_tune: Path) -> None:
    for out, what in ((artifact, "artifact"), (fine_tune.parent, "checkpoint")):
        with pytest.raises(UsageError, match=f"holds the {what}"):
            refit(artifact, str(fine_tune), out, overwrite=True)
    assert (artifact / "manifest.json").is_file()
    assert (fine_tune / "model.safetensors").is_file()
