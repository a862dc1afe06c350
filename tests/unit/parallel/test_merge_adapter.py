"""What a merged adapter does to a split, and which adapters are refused."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from neuronc.artifact.weights import open_for
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.lora import open_adapter
from neuronc.errors import InputError, UsageError
from neuronc.parallel import merge_adapter
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.pipeline import split
from neuronc.progress import SilentProgress
from neuronc.recipe import Recipe
from tests.tiny_adapters import UP, A, B, Tensors, named, write_adapter
from tests.tiny_models import edit_config, make_checkpoint
from tests.unit.parallel.splitting import joined


def opened(checkpoint: Path, adapter: Path) -> Any:
    return open_for(Recipe(checkpoint=str(checkpoint), adapter=str(adapter)))


def test_a_split_holds_the_merged_weights_and_says_so(tiny_llama: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "chat")
    recipe = Recipe(checkpoint=str(tiny_llama), tp=2, adapter=str(adapter))

    manifest = split(recipe, tmp_path / "out")

    original = load_file(tiny_llama / "model.safetensors")
    found = joined(tmp_path / "out", manifest)
    expected = original[f"{UP}.weight"] + np.float32(1.5) * (B @ A)
    np.testing.assert_allclose(found.pop(f"{UP}.weight"), expected, rtol=1e-6, atol=1e-6)
    assert all(array.tobytes() == original[name].tobytes() for name, array in found.items())
    assert len(found) == len(original) - 1
    recorded = json.loads((tmp_path / "out" / "split.json").read_text())["adapter"]
    assert recorded == {
        "name": "chat",
        "file": "adapter_model.safetensors",
        "sha256": sha256_file(adapter / "adapter_model.safetensors"),
        "config_sha256": sha256_file(adapter / "adapter_config.json"),
    }
    assert read_split_manifest(tmp_path / "out") == manifest


def test_a_split_without_adapter_records_none(tiny_llama: Path, tmp_path: Path) -> None:
    split(Recipe(checkpoint=str(tiny_llama)), tmp_path / "out")

    assert "adapter" not in json.loads((tmp_path / "out" / "split.json").read_text())


WHOLE = {"name": "a", "file": "f", "sha256": "0", "config_sha256": "0"}


@pytest.mark.parametrize("adapter", ["chat", {"name": "chat"}, {**WHOLE, "name": 1}])
def test_a_split_manifest_with_half_an_adapter_is_damaged(
    tiny_llama: Path, tmp_path: Path, adapter: object
) -> None:
    split(Recipe(checkpoint=str(tiny_llama)), tmp_path / "out")
    path = tmp_path / "out" / "split.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "adapter": adapter}))

    with pytest.raises(InputError, match=r"split\.json is damaged"):
        read_split_manifest(tmp_path / "out")


def test_merging_in_blocks_of_rows_is_merging(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    whole = opened(tiny_llama, adapter).reader.read(f"{UP}.weight")
    monkeypatch.setattr(merge_adapter, "_BLOCK_ELEMENTS", 36 * 7)  # 96 rows are no multiple of 7

    in_blocks = opened(tiny_llama, adapter).reader.read(f"{UP}.weight")

    np.testing.assert_allclose(in_blocks, whole, rtol=1e-6, atol=1e-6)


def test_a_file_of_torch_save_is_read_too(tiny_llama: Path, tmp_path: Path) -> None:
    import torch

    adapter = write_adapter(tmp_path / "adapter")
    expected = opened(tiny_llama, adapter).reader.read(f"{UP}.weight")
    (adapter / "adapter_model.safetensors").unlink()
    tensors = {name: torch.from_numpy(array) for name, array in named(UP).items()}
    torch.save(tensors, adapter / "adapter_model.bin")

    found = opened(tiny_llama, adapter)

    assert found.adapter.file == "adapter_model.bin"
    assert found.reader.read(f"{UP}.weight").tobytes() == expected.tobytes()


def test_an_adapter_that_changes_during_the_split_is_noticed(
    tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "chat")

    class Touches(SilentProgress):
        def stage(self, *args: Any, **options: Any) -> Any:
            os.utime(adapter / "adapter_model.safetensors")
            return super().stage(*args, **options)

    recipe = Recipe(checkpoint=str(tiny_llama), adapter=str(adapter))
    with pytest.raises(InputError, match="or adapter chat, changed while it was split"):
        split(recipe, tmp_path / "out", progress=Touches())
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_runs_code_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    adapter = write_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))

    with pytest.raises(InputError, match=r"adapter_model\.bin is not a file of plain tensors"):
        opened(tiny_llama, adapter)
    assert not (tmp_path / "pwned").exists()


def test_the_name_of_a_base_models_adapter_gets_the_prefix(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "gpt2", family="gpt2", tokenizer=False)
    a, b = np.ones((2, 32), np.float32), np.ones((128, 2), np.float32)
    tensors = {**dict.fromkeys(named(UP)), **named("h.1.mlp.c_fc", a, b)}
    adapter = write_adapter(tmp_path / "adapter", tensors, fan_in_fan_out=True)

    found = opened(checkpoint, adapter)

    name = "transformer.h.1.mlp.c_fc.weight"
    own = next(n for n in found.tensors if name.endswith(n))
    original = load_file(checkpoint / "model.safetensors")[own]
    np.testing.assert_allclose(found.reader.read(own), original + 3, rtol=1e-6)


@pytest.mark.parametrize("block", ["block_sparse_moe", "mlp"])
def test_an_expert_is_merged_before_experts_are_stacked(tmp_path: Path, block: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", family="mixtral", tokenizer=False)
    module = f"model.layers.0.{block}.experts.1.w3"
    tensors = {**dict.fromkeys(named(UP)), **named(module)}
    recipe = Recipe(checkpoint=str(checkpoint))
    split(recipe, tmp_path / "plain")

    adapter = write_adapter(tmp_path / "adapter", tensors)
    manifest = split(replace(recipe, adapter=str(adapter)), tmp_path / "merged")

    before, after = (joined(tmp_path / out, manifest) for out in ("plain", "merged"))
    name = "model.layers.0.mlp.experts.gate_up_proj"
    change = after[name] - before[name]
    np.testing.assert_allclose(change[1, 96:], 1.5 * (B @ A), rtol=1e-4, atol=1e-5)
    assert not change[0].any()
    assert not change[1, :96].any()


def test_equal_copies_of_a_tied_embedding_are_one(tiny_llama: Path, tmp_path: Path) -> None:
    table = np.random.default_rng(1).standard_normal((128, 36), np.float32)
    prefix = "base_model.model"
    names = (f"{prefix}.model.embed_tokens.weight", f"{prefix}.lm_head.weight")
    adapter = write_adapter(tmp_path / "adapter", dict.fromkeys(names, table))

    found = opened(tiny_llama, adapter)

    assert found.reader.read("model.embed_tokens.weight").tobytes() == table.tobytes()
    other = {names[0]: table, names[1]: table + 1}
    with pytest.raises(InputError, match="the model's embedding is its LM head too"):
        opened(tiny_llama, write_adapter(tmp_path / "other", other))


@pytest.mark.parametrize(
    "tensors",
    [
        {"base_model.model.lm_head.weight": np.ones((128, 36), np.float32)},
        {"base_model.model.model.embed_tokens.weight": np.ones((128, 36), np.float32)},
        named("lm_head", A, np.ones((128, 2), np.float32)),
        {
            "base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 128), np.float32),
            "base_model.model.model.embed_tokens.lora_embedding_B": np.ones((36, 2), np.float32),
        },
    ],
)
def test_a_change_of_half_a_tied_pair_is_refused(
    tiny_llama: Path, tmp_path: Path, tensors: Tensors
) -> None:
    adapter = write_adapter(tmp_path / "adapter", tensors)

    with pytest.raises(InputError, match="the model's embedding is its LM head too"):
        opened(tiny_llama, adapter)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            named("model.layers.7.mlp.up_proj"),
            r"layers\.7\.mlp\.up_proj\.lora_A.* matches no param",
        ),
        (
            {"base_model.model.score.weight": A},
            r"'base_model\.model\.score\.weight'.* no parameter",
        ),
        (named(UP, b=B[:95]), r"lora_B\.weight'.* is \[95, 2\]; expected \[96, 2\]"),
        (named(UP, A[:1], B[:, :1]), r"lora_A\.weight'.* is \[1, 36\]; expected \[2, 36\]"),
        (named("model.norm"), r"'model\.norm\.weight' is \[36\]; LoRA is merged into matrices"),
        ({f"base_model.model.{UP}.lora_A.weight": None}, "holds lora_B of .*; expected a pair"),
        ({f"base_model.model.{UP}.lora_B.weight": None}, "holds lora_A of .*; expected a pair"),
        ({f"{UP}.lora_A.weight": A}, "named base_model.model"),
        (named(UP, A.astype(np.int8)), "expected floating point"),
        ({f"base_model.model.{UP}.lora_B.bias": B[:, 0]}, r"lora_B\.bias'.* matches no parameter"),
        (
            {f"base_model.model.{UP}.base_layer.weight": A, f"base_model.model.{UP}.weight": A},
            r"two tensors for 'model\.layers\.0\.mlp\.up_proj\.weight'",
        ),
        (
            {"base_model.model.model.norm.weight": np.ones(35, np.float32)},
            r"is \[35\]; expected \[36\]",
        ),
    ],
)
def test_tensors_that_are_not_the_models_are_refused_by_name(
    tiny_llama: Path, tmp_path: Path, tensors: Tensors, told: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", tensors)

    with pytest.raises(InputError, match=told) as caught:
        opened(tiny_llama, adapter)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"use_dora": True}, "has use_dora True; neuronc merges plain LoRA only"),
        ({"peft_type": "VERA"}, "has peft_type 'VERA'; neuronc merges LORA"),
        ({"peft_type": None}, "has peft_type None"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changes the base weights"),
        ({"init_lora_weights": "olora"}, "'olora', which changes the base weights"),
        ({"init_lora_weights": "loftq"}, "'loftq', which changes the base weights"),
        ({"layer_replication": [[0, 1]]}, "has layer_replication"),
        ({"target_parameters": ["mlp.experts"]}, "has target_parameters"),
        ({"trainable_token_indices": [1]}, "has trainable_token_indices"),
        ({"alora_invocation_tokens": [1]}, "has alora_invocation_tokens"),
        ({"made_up_in_2030": 1}, "has made_up_in_2030"),
        ({"r": 0}, "has r 0; expected a positive int"),
        ({"r": True}, "has r True; expected a positive int"),
        ({"lora_alpha": "8"}, "has lora_alpha '8'; expected a number"),
        ({"lora_alpha": float("inf")}, "has lora_alpha inf; expected a number"),
        ({"use_rslora": "yes"}, "has use_rslora 'yes'; expected true or false"),
        ({"rank_pattern": {"(": 2}}, r"has rank_pattern '\('; expected a regular expression"),
        ({"rank_pattern": {"up_proj": 0}}, r"rank_pattern\['up_proj'\] 0"),
        ({"alpha_pattern": [1]}, "has alpha_pattern"),
        ({"bias": "some"}, "has bias 'some'; expected one of none, all, lora_only"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", **config)

    with pytest.raises(InputError, match=told) as caught:
        open_adapter(adapter)
    assert caught.value.hint


def test_a_folder_that_is_no_adapter_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        open_adapter(tmp_path / "absent")
    with pytest.raises(InputError, match=r"it has no adapter_config\.json"):
        open_adapter(tiny_llama)
    adapter = write_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"expected adapter_model\.safetensors or"):
        open_adapter(adapter)


def test_nan_in_a_factor_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", named(UP, A * np.float32(np.nan)))

    with pytest.raises(InputError, match=r"lora_A\.weight' of .* holds NaN"):
        opened(tiny_llama, adapter).reader.read(f"{UP}.weight")


def test_a_merged_value_too_large_for_f16_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", dtype="f16", tokenizer=False)
    adapter = write_adapter(tmp_path / "adapter", named(UP, A * 1000, B * 1000))

    with pytest.raises(InputError, match=r"up_proj\.weight' merged with .* too large for float16"):
        opened(checkpoint, adapter).reader.read(f"{UP}.weight")


def test_an_adapter_for_what_is_split_already_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    from neuronc.pipeline import build

    adapter = write_adapter(tmp_path / "adapter")
    split(Recipe(checkpoint=str(tiny_llama)), tmp_path / "weights")
    recipe = Recipe(checkpoint=str(tmp_path / "weights"), adapter=str(adapter))

    with pytest.raises(UsageError, match="is split already"):
        build(recipe, tmp_path / "out")
    with pytest.raises(UsageError, match="holds the adapter"):
        split(Recipe(checkpoint=str(tiny_llama), adapter=str(adapter)), adapter, overwrite=True)
    assert (adapter / "adapter_model.safetensors").is_file()


def test_the_head_that_a_config_unties_is_merged(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", tie_word_embeddings=False, tokenizer=False)
    adapter = write_adapter(
        tmp_path / "adapter", named("lm_head", A, np.ones((128, 2), np.float32))
    )
    original = load_file(checkpoint / "model.safetensors")["lm_head.weight"]

    found = opened(checkpoint, adapter).reader.read("lm_head.weight")

    np.testing.assert_allclose(found, original + 1.5 * A.sum(0), rtol=1e-5, atol=1e-5)
    edit_config(checkpoint, tie_word_embeddings=True)
    with pytest.raises(InputError, match="LM head too"):
        opened(checkpoint, adapter)
