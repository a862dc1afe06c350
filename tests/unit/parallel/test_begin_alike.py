"""Rank files whose values lie in the disk's blocks as in the checkpoint's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.checkpoint import direct_file, safetensors_writer
from neuronc.checkpoint.checkpoint import Checkpoint, open_checkpoint
from neuronc.checkpoint.files_writer import PlannedFile
from neuronc.checkpoint.safetensors_reader import read_safetensors_header
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES
from neuronc.errors import PlanError
from neuronc.parallel import begin_alike as begin_alike_module
from neuronc.parallel.begin_alike import begin_alike
from neuronc.parallel.plan_files import plan_files
from neuronc.parallel.rules import ParamRule, Piece
from neuronc.parallel.stored import StoredTensor
from tests.tiny_models import make_checkpoint
from tests.unit.parallel.splitting import split

BLOCK = 4096
F32 = DTYPES["f32"]


@pytest.fixture
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin_alike_module, "DIRECT_BYTES", 1)
    monkeypatch.setattr(safetensors_writer, "DIRECT_BYTES", 1)
    monkeypatch.setattr(direct_file, "_IN_PLACE_BYTES", BLOCK)


def checkpoint_of(folder: Path, **tensors: Any) -> Checkpoint:
    make_checkpoint(folder, tokenizer=False)
    save_file(tensors, folder / "model.safetensors")
    return open_checkpoint(str(folder))


def begin_of(path: Path) -> int:
    return min(stored.offset for stored in read_safetensors_header(path).values()) % BLOCK


@pytest.mark.usefixtures("every_file_is_large")
def test_a_rank_file_begins_as_most_of_its_bytes_do(tmp_path: Path) -> None:
    odd = np.zeros(10, np.float32)  # 40 bytes: what follows lies elsewhere in both files
    large, small = np.zeros((64, 64), np.float32), np.zeros((32, 64), np.float32)
    checkpoint = checkpoint_of(
        tmp_path / "in", a_odd=odd, b_large=large, c_small=small, d_small=small
    )
    reader = checkpoint.reader
    begins = {name: reader.place_of(name).offset % BLOCK for name in checkpoint.tensors}  # type: ignore[attr-defined]
    names = ("c_small", "d_small", "a_odd", "b_large")
    infos = tuple(checkpoint.tensors[name] for name in names)
    rules = {
        info.name: ParamRule(name=info.name, role="replicate", shape=info.shape) for info in infos
    }
    [[file]] = begin_alike(
        ((PlannedFile(path="f", tensors=infos),),), checkpoint, rules, DTYPES["f32"]
    )
    # b_large has the most bytes, and comes after two of 32 * 64 * 4 bytes and one of 40
    assert file.data_begin == (begins["b_large"] - 2 * 32 * 64 * 4 - 40) % BLOCK
    [[other]] = begin_alike(
        ((PlannedFile(path="f", tensors=infos),),), checkpoint, rules, DTYPES["bf16"]
    )
    assert other.data_begin is None  # all is cast: nothing is written from where it lies


@pytest.mark.usefixtures("every_file_is_large")
def test_each_rank_begins_as_its_own_rows_do(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tmp_path / "in", a=np.zeros((64, 6), np.float32))
    whole = checkpoint.tensors["a"]
    ranks = ((Piece(start=0, length=32),), (Piece(start=32, length=32),))
    rule = ParamRule(name="a", role="column", shape=whole.shape, dim=0, ranks=ranks)
    part = TensorInfo(name="a", shape=rule.rank_shape, dtype=whole.dtype)
    files = tuple((PlannedFile(path=f"rank-{rank}", tensors=(part,)),) for rank in range(2))
    [[first], [second]] = begin_alike(files, checkpoint, {"a": rule}, F32)
    begin = begin_of(tmp_path / "in" / "model.safetensors")
    assert (first.data_begin, second.data_begin) == (begin, begin + 32 * 6 * 4)


def test_small_files_begin_where_they_come(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tmp_path / "in", a=np.zeros((64, 64), np.float32))
    info = checkpoint.tensors["a"]
    files = ((PlannedFile(path="f", tensors=(info,)),),)
    rules = {"a": ParamRule(name="a", role="replicate", shape=info.shape)}
    assert begin_alike(files, checkpoint, rules, F32) == files


@pytest.mark.parametrize("tp", [1, 2])
def test_such_a_split_copies_nothing_that_a_rank_takes_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tp: int
) -> None:
    sizes: Any = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 512,
    }
    source = make_checkpoint(tmp_path / "in", tokenizer=False, **sizes)
    plain = split(source, tmp_path / "plain", tp=tp)
    monkeypatch.setattr(begin_alike_module, "DIRECT_BYTES", 1)
    monkeypatch.setattr(safetensors_writer, "DIRECT_BYTES", 1)
    monkeypatch.setattr(direct_file, "_IN_PLACE_BYTES", BLOCK)
    in_place, real = [0], direct_file.DirectFile._write_in_place

    def noted(self: direct_file.DirectFile, values: direct_file.Bytes) -> int:
        done = real(self, values)
        in_place[0] += done
        return done

    monkeypatch.setattr(direct_file.DirectFile, "_write_in_place", noted)
    manifest = split(source, tmp_path / "out", tp=tp)

    assert manifest.tensors == plain.tensors
    for rank in range(tp):
        name = f"rank-{rank}.safetensors"
        there = read_safetensors_header(tmp_path / "plain" / name)
        here = read_safetensors_header(tmp_path / "out" / name)
        assert [s.info for s in there.values()] == [s.info for s in here.values()]
        size = sum(stored.info.size_bytes for stored in here.values())
        values = [(tmp_path / f / name).read_bytes()[-size:] for f in ("plain", "out")]
        assert values[0] == values[1]
    written = sum((tmp_path / "out" / file.path).stat().st_size for file in manifest.files)
    assert in_place[0] > (0.9 if tp == 1 else 0.4) * written
    assert begin_of(tmp_path / "out" / "rank-0.safetensors") == begin_of(
        source / "model.safetensors"
    )


def test_a_cap_on_files_has_room_for_the_spaces_in_a_header() -> None:
    cap = 64 << 20
    stored = [
        StoredTensor(
            rule=ParamRule(name=name, role="replicate", shape=((8 << 20) - 256,)), dtype="f32"
        )
        for name in ("a", "b", "c")
    ]
    [files] = plan_files(stored, 1, "neuronc", cap)
    assert all(file.size_bytes + BLOCK <= cap for file in files)
    info = TensorInfo(name="a", shape=(cap // 4,), dtype=F32)
    [file] = [PlannedFile(path="f", tensors=(info,))]
    assert file.size_bytes == cap
    too_large = [
        StoredTensor(rule=ParamRule(name="a", role="replicate", shape=(cap // 4,)), dtype="f32")
    ]
    with pytest.raises(PlanError, match=f"takes {cap + 512 + BLOCK} bytes"):
        plan_files(too_large, 1, "neuronc", cap)
