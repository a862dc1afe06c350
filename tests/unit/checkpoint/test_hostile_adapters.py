"""Adapters and pickled weights that somebody made to break a reader."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from neuronc.checkpoint.lora import open_adapter
from neuronc.checkpoint.lora_config import read_lora_config
from neuronc.checkpoint.torch_reader import TorchReader, load_torch_file
from neuronc.errors import InputError
from tests.unit.checkpoint.hostile import JSON_VALUES, QUICK, damaged, refuse_or_accept

ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}


@QUICK
@given(
    st.sampled_from(
        ["r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "peft_type",
         "fan_in_fan_out", "init_lora_weights", "layers_pattern", "unheard_of"]
    ),
    JSON_VALUES,
)  # fmt: skip
def test_any_adapter_config_ends_in_no_traceback(tmp_path: Path, name: str, value: object) -> None:
    for found in (value, {**ADAPTER, name: value}, {**ADAPTER, name: {"a.b": value, "(": 1}}):
        (tmp_path / "adapter_config.json").write_text(json.dumps(found))
        refuse_or_accept(lambda: read_lora_config(tmp_path).scale_of("model.a.b"))


@pytest.mark.parametrize(
    "pattern", ["(", "a{99999999999}", "(?i)a", "(" * 50_000, "[", "*", "a)(b", r"\1"]
)
def test_a_pattern_that_cannot_be_matched_is_refused(tmp_path: Path, pattern: str) -> None:
    fields = {**ADAPTER, "rank_pattern": {pattern: 3}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="rank_pattern") as caught:
        read_lora_config(tmp_path).rank_of("model.a")
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*a){9}x", ".*.*.*.*.*x", "(?:a|a)*x", r"(\w*)*x"])
def test_a_pattern_that_takes_for_ever_is_refused(tmp_path: Path, pattern: str) -> None:
    fields = {**ADAPTER, "alpha_pattern": {pattern: 3}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="at most 4 repetitions, none of a group"):
        read_lora_config(tmp_path)


@pytest.mark.parametrize(
    "pattern", [r"layers\.\d+\.self_attn\.[qk]_proj", "^model.layers.(0|1).q_proj", "q.*[)+*]?"]
)
def test_a_pattern_as_peft_has_them_is_taken(tmp_path: Path, pattern: str) -> None:
    fields = {**ADAPTER, "rank_pattern": {pattern: 3}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(fields))
    assert pattern in read_lora_config(tmp_path).rank_pattern


@pytest.mark.parametrize("rank", [10**400, 2**31, True, 0, -1, 1.0])
def test_a_rank_that_no_matrix_has_is_refused(tmp_path: Path, rank: object) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({**ADAPTER, "r": rank}))
    with pytest.raises(InputError, match=r"has r .*; expected a positive int"):
        read_lora_config(tmp_path)


@QUICK
@given(st.data())
def test_damaged_adapter_weights_end_in_no_traceback(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    names = ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight")
    raw = save({name: np.zeros((2, 2), np.float32) for name in names})
    (tmp_path / "adapter_model.safetensors").write_bytes(damaged(data, raw))
    refuse_or_accept(lambda: open_adapter(tmp_path))


def _shadowed() -> torch.Tensor:
    tensor = torch.nn.Parameter(torch.zeros(2))
    for name in ("detach", "contiguous", "numpy", "reshape"):
        setattr(tensor, name, 5)
    return tensor


def test_attributes_that_a_pickle_sets_on_a_tensor_are_not_used(tmp_path: Path) -> None:
    torch.save({"a": _shadowed()}, tmp_path / "x.bin")
    found = load_torch_file(tmp_path / "x.bin")
    assert TorchReader(folder=tmp_path, stored=found).read("a").tolist() == [0, 0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
        lambda: torch.zeros(1).expand(2**40),
        lambda: torch.complex(torch.zeros(2), torch.ones(2)).conj().imag,
    ],
)
def test_a_tensor_of_a_torch_file_that_is_not_plain_is_refused(
    tmp_path: Path, make: Callable[[], torch.Tensor]
) -> None:
    torch.save({"a": make()}, tmp_path / "x.bin")
    with pytest.raises(InputError, match=r"x\.bin"):
        load_torch_file(tmp_path / "x.bin")
