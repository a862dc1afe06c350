"""What is written for transformers-neuronx, compared with what that tool's loader expects."""

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError, PlanError
from neuronc.parallel.layouts import parameter_files
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.layouts.parameter_files import state_dict_keys
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from tests.unit.parallel.test_split_progress import RecordingProgress

TABLE = "model.embed_tokens.weight"


@pytest.fixture
def written(tiny_llama: Path, tmp_path: Path) -> Path:
    """`tiny_llama` in the layout of transformers-neuronx."""
    write(tiny_llama, tmp_path / "out")
    return tmp_path / "out"


def write(source: Path, out_dir: Path, **options: Any) -> None:
    out_dir.mkdir(exist_ok=True)
    checkpoint = open_checkpoint(str(source))
    options = {"tp": 1, "dtype": "auto", **options}
    split_checkpoint(
        checkpoint, out_dir, options=SplitOptions(layout="transformers-neuronx"), **options
    )


def read_map(folder: Path) -> dict[str, str]:
    names: dict[str, str] = json.loads(
        (folder / "pytorch_model.bin" / "key_to_filename.json").read_text()
    )
    return names


def test_torch_loads_every_parameter_from_its_own_file(written: Path, tiny_llama: Path) -> None:
    original = load_file(tiny_llama / "model.safetensors")
    names = read_map(written)
    assert names.keys() == original.keys() | {"lm_head.weight"}
    assert list(names.values()) == [f"p{i}.{key}" for i, key in enumerate(names)]
    for name, array in original.items():
        tensor = torch.load(written / "pytorch_model.bin" / names[name], weights_only=True)
        assert tensor.numpy().tobytes() == array.tobytes()
        assert tuple(tensor.shape) == array.shape


def test_the_map_is_indented_by_two_as_the_tool_writes_it(written: Path) -> None:
    path = written / "pytorch_model.bin" / "key_to_filename.json"
    assert path.read_text() == json.dumps(read_map(written), indent=2)


def test_a_file_holds_one_parameter_and_not_the_storage_of_others(written: Path) -> None:
    path = written / "pytorch_model.bin" / read_map(written)[TABLE]
    assert path.stat().st_size < 128 * 36 * 4 + 3000


def test_a_tied_head_gets_a_file_because_the_tool_does_not_tie(
    written: Path, tiny_llama: Path
) -> None:
    table = load_file(tiny_llama / "model.safetensors")[TABLE]
    path = written / "pytorch_model.bin" / read_map(written)["lm_head.weight"]
    assert np.array_equal(torch.load(path, weights_only=True).numpy(), table)


@pytest.mark.parametrize(
    ("names", "is_tied", "head"),
    [
        ((TABLE,), True, TABLE),
        (("transformer.wte.weight",), True, "transformer.wte.weight"),
        ((TABLE,), False, None),
        ((TABLE, "lm_head.weight"), False, "lm_head.weight"),
        (("model.norm.weight",), True, None),
    ],
)
def test_only_a_head_that_is_tied_is_a_copy(
    names: tuple[str, ...], is_tied: bool, head: str | None
) -> None:
    assert state_dict_keys(names, is_tied=is_tied).get("lm_head.weight") == head


def test_a_changed_file_is_not_the_tensor_that_was_written(written: Path) -> None:
    path = written / "pytorch_model.bin" / read_map(written)[TABLE]
    torch.save(torch.zeros(128, 36), path)
    checkpoint = open_any_checkpoint(str(written))
    with pytest.raises(InputError, match=f"'{TABLE}' of .* is not the tensor"):
        checkpoint.reader.read(TABLE)
    (written / "split.json").unlink()
    assert not open_any_checkpoint(str(written)).reader.read(TABLE).any()


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameter_files, "free_bytes", lambda _: 1000)
    with pytest.raises(PlanError, match=r"no room for .*pytorch_model\.bin"):
        write(tiny_llama, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_write_that_fails_is_the_systems_error_and_not_one_of_torch(
    tiny_llama: Path, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the first parameter has 18 kB
    try:
        with pytest.raises(PlanError, match=r"p0\.model.* is larger than the file system"):
            write(tiny_llama, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_interrupt_ends_the_writing(tiny_llama: Path, tmp_path: Path) -> None:
    progress = RecordingProgress(interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        write(tiny_llama, tmp_path / "out", progress=progress)
    (notes,) = progress.stages.values()
    assert len(notes) == 3
