"""What makes a key another, and what does not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache import program_keys
from neuronc.cache.key import Key
from neuronc.cache.program_keys import executable_key, lowered_key, neff_key
from neuronc.recipe import Recipe
from tests.entries import make_hlo, make_job

_SIGNATURE: dict[str, Any] = {
    "inputs": [["weight", "model.w", [4, 4], "f32"], ["cache", "k.0", [1, 64, 1, 8], "f32"]],
    "outputs": [["data", "logits", [1, 128], "f32"]],
    "aliases": {"1": 1},
    "merged_weights": [],
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "program.mlir").write_text("module @jit_f {\n  %0 = add %1, %2\n}\n")
    (tmp_path / "signature.json").write_text(json.dumps(_SIGNATURE))
    return tmp_path


def edit_signature(folder: Path, **fields: Any) -> None:
    (folder / "signature.json").write_text(json.dumps({**_SIGNATURE, **fields}))


@pytest.mark.parametrize(
    "changed",
    [
        {"tp": 4},
        {"dtype": "bf16"},
        {"quantize": "int8"},
        {"target": "inf2"},
        {"top_k_call": True},
        {"taps": True},
        {"shapes": {"model.embed_tokens.weight": (256, 32)}},
        {"shapes": None},
        {"spec": {"phase": "prefill"}},
        {"spec": {"bucket": 32}},
        {"spec": {"batch_size": 1}},
        {"spec": {"max_length": 128}},
        {"spec": {"on_device_sampling": True}},
        {"config": {"hidden_size": 64}},
        {"config": {"model_type": "mistral"}},
        {"config": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}},
        {"config": {"a_field_nobody_knows": 1}},
        {"config": {"limit": float("inf")}},
    ],
)
def test_what_decides_a_lowered_program_is_in_its_key(changed: dict[str, Any]) -> None:
    assert lowered_key(make_job(**changed)).digest != lowered_key(make_job()).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "another"},
        {"source": "org/fine-tune"},
        {"dump_ir": "ir"},
        {"cache": {"folder": "elsewhere", "behind": None}},
        {"known_bytes": 5},
        {"make_executable": False},
        {"signature": {"inputs": []}},
        {"config": {"_name_or_path": "somewhere"}},
        {"config": {"architectures": ["X"], "torch_dtype": "bfloat16", "eos_token_id": 7}},
        {"config": {"pad_token_id": 5}},
    ],
)
def test_what_decides_nothing_is_not(changed: dict[str, Any]) -> None:
    assert lowered_key(make_job(**changed)).digest == lowered_key(make_job()).digest


def test_padding_counts_where_positions_may_be_counted_from_it() -> None:
    embed = {"phase": "embed"}
    one, other = (make_job(spec=embed, config={"pad_token_id": n}) for n in (0, 1))
    assert lowered_key(one).digest != lowered_key(other).digest


def test_pooling_of_an_encoder_is_in_the_key(tmp_path: Path) -> None:
    from neuronc.checkpoint.sentence import config_for

    raw = {"model_type": "bert", "hidden_size": 32}
    recipe = Recipe(checkpoint="model", task="embed")
    configs = [
        config_for(asked, raw, tmp_path)
        for asked in (
            replace(recipe, pooling="mean"),
            replace(recipe, pooling="cls"),
            replace(recipe, pooling="mean", normalize=False),
        )
    ]
    keys = {lowered_key(make_job(spec={"phase": "embed"}, config=c)).digest for c in configs}
    assert len(keys) == 3


def test_a_job_that_went_through_json_has_the_same_key() -> None:
    job = make_job(config={"limit": float("inf")})
    assert lowered_key(json.loads(json.dumps(job))).digest == lowered_key(job).digest


def test_order_of_config_fields_decides_nothing() -> None:
    job = make_job()
    turned = {**job, "config": dict(reversed(job["config"].items()))}
    assert lowered_key(turned).digest == lowered_key(job).digest


def test_another_version_of_a_tool_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lowered_key(make_job())
    monkeypatch.setattr(program_keys, "tool_versions", lambda: {"torch": "9.9"})
    names = [name for name, *_ in lowered_key(make_job()).differences(before)]
    assert "tools.torch" in names


def test_another_line_of_our_own_code_is_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lower", "trace"):
        (tmp_path / name).mkdir()
    code = tmp_path / "lower" / "jobs.py"
    code.write_text("x = 1\n")
    monkeypatch.setattr("neuronc.__file__", str(tmp_path / "__init__.py"))
    digest = program_keys.code_digest.__wrapped__  # what is remembered stays as it is
    digests = set()
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        code.write_text(text)
        digests.add(digest(("lower", "trace")))
    assert len(digests) == 2


def test_key_of_an_executable_is_of_the_program_and_this_machine(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> str:
        return executable_key(program, target="cpu", tp=2).digest

    before = key()
    (program / "program.mlir").write_text("module @other {\n  %0 = add %1, %2\n}\n")
    assert key() == before
    edit_signature(program, inputs=[["weight", "renamed", [4, 4], "f32"], _SIGNATURE["inputs"][1]])
    assert key() == before
    edit_signature(program, merged_weights=[["model.w"]])
    assert key() == before
    edit_signature(program, inputs=[["weight", "model.w", [4, 8], "f32"], _SIGNATURE["inputs"][1]])
    assert key() != before
    edit_signature(program, aliases={})
    assert key() != before
    edit_signature(program)
    assert executable_key(program, target="cpu", tp=1).digest != before
    (program / "program.mlir").write_text("module @jit_f {\n  %0 = mul %1, %2\n}\n")
    assert key() != before
    (program / "program.mlir").write_text("module @jit_f {\n  %0 = add %1, %2\n}\n")
    assert key() == before
    monkeypatch.setattr(program_keys, "describe_host", lambda: {"isa": []})
    assert key() != before


def test_key_of_a_neff_is_of_program_arguments_and_compiler() -> None:
    hlo = make_hlo().SerializeToString()
    keys = {
        neff_key(hlo, args=args, compiler=version).digest
        for args in (["--target", "inf2"], ["--target", "trn2"])
        for version in ("2.1", "2.2")
    }
    assert len(keys) == 4


def test_a_key_without_a_word_for_its_input_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        _ = Key(kind="neff", inputs={"x": float("nan")}).digest


def test_differences_are_named_in_the_order_of_the_key() -> None:
    one = lowered_key(make_job(tp=4, config={"hidden_size": 64}))
    assert one.differences(lowered_key(make_job())) == [
        ("tp", 4, 2),
        ("config.hidden_size", 64, 32),
    ]
