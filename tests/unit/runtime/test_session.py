"""Which chunks, which buckets, and what a session refuses before anything runs."""

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronc.errors import InputError, PlanError
from neuronc.runtime.session import Session
from tests.unit.runtime.toy_programs import open_toy, toy_logits


@st.composite
def caches(draw: st.DrawFn) -> dict[str, Any]:
    max_length = draw(st.integers(2, 300))
    buckets = draw(st.sets(st.integers(1, max_length), min_size=1, max_size=4))
    return {"max_length": max_length, "prefill_buckets": tuple(sorted(buckets))}


@given(cache=caches(), data=st.data())
def test_chunks_cover_the_prompt_inside_the_cache(cache: dict[str, Any], data: Any) -> None:
    session = open_toy(**cache, decode_buckets=(cache["max_length"],))
    num_tokens = data.draw(st.integers(1, cache["max_length"]))
    num_done = data.draw(st.integers(0, num_tokens - 1))
    largest = cache["prefill_buckets"][-1]
    num_expected = -(-(num_tokens - num_done) // largest)
    for _ in range(num_expected):
        start, end = session.next_chunk(num_done, num_tokens)
        bucket = session.prefill_bucket(end - start)
        assert 0 <= start <= num_done < end <= num_tokens
        assert start + bucket <= cache["max_length"]
        assert end - num_done == min(largest, num_tokens - num_done)
        if num_done + bucket <= cache["max_length"]:
            assert start == num_done, "a chunk moves back only where it has to"
        num_done = end
    assert num_done == num_tokens


def test_chunk_at_the_end_of_the_cache_moves_back_and_gives_the_same_logits() -> None:
    session = open_toy(max_length=20, prefill_buckets=(16,), decode_buckets=(20,))
    prompt = tuple(range(1, 20))
    session.prefill(0, prompt[:16])
    assert session.next_chunk(16, 19) == (4, 19)
    assert (session.prefill(0, prompt[4:19], start=4) == toy_logits(prompt)).all()


@pytest.mark.parametrize(("num_tokens", "bucket"), [(1, 8), (8, 8), (9, 16), (16, 16)])
def test_smallest_prefill_bucket_that_fits_is_taken(num_tokens: int, bucket: int) -> None:
    assert open_toy().prefill_bucket(num_tokens) == bucket


@pytest.mark.parametrize(("position", "bucket"), [(0, 32), (31, 32), (32, 64), (63, 64)])
def test_smallest_decode_bucket_that_holds_the_position_is_taken(
    position: int, bucket: int
) -> None:
    assert open_toy().decode_bucket(position) == bucket


def test_chunk_larger_than_every_bucket_is_refused() -> None:
    with pytest.raises(PlanError, match="prefill chunk needs 17 tokens; the largest bucket is 16"):
        open_toy().prefill(0, range(17))


def test_chunk_whose_padding_would_leave_the_cache_is_refused() -> None:
    with pytest.raises(PlanError, match="bucket 16 at position 50 is not inside") as refused:
        open_toy().prefill(0, range(9), start=50)
    assert refused.value.exit_code == 4


def test_position_beyond_the_cache_is_refused() -> None:
    positions = np.array([3, 64], dtype=np.int32)
    with pytest.raises(PlanError, match="position needs 65 tokens"):
        open_toy().decode(np.zeros(2, dtype=np.int32), positions)


@pytest.mark.parametrize("position", [-1, 32])
def test_position_outside_the_asked_bucket_is_refused(position: int) -> None:
    positions = np.array([3, position], dtype=np.int32)
    with pytest.raises(PlanError, match="not all inside decode bucket 32"):
        open_toy().decode(np.zeros(2, dtype=np.int32), positions, bucket=32)


@pytest.mark.parametrize(("slot", "token_ids"), [(2, (1,)), (-1, (1,)), (0, ())])
def test_slot_or_chunk_that_does_not_exist_is_misuse(slot: int, token_ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"for slot {slot} of 2"):
        open_toy().prefill(slot, token_ids)


@pytest.mark.parametrize("path", ["programs/decode_32/cpu.exe", "weights/rank-1.safetensors"])
def test_file_without_a_recorded_digest_is_not_loaded(
    tiny_artifact: Path, tmp_path: Path, path: str
) -> None:
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if file["path"] != path]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=rf"manifest\.json is damaged: it does not list {path}"):
        Session.open(folder)


def test_program_outside_the_artifact_is_not_loaded(tiny_artifact: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    shutil.copytree(folder / "programs" / "decode_32", tmp_path / "elsewhere")
    manifest = json.loads((folder / "manifest.json").read_text())
    name = "../../elsewhere"
    manifest["programs"][0]["name"] = name
    digest = next(f for f in manifest["files"] if f["path"] == "programs/decode_32/cpu.exe")
    manifest["files"].append({**digest, "path": f"programs/{name}/cpu.exe"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"programs\.name cannot be"):
        Session.open(folder)


def test_no_numbers_come_out_before_the_weights_are_compared() -> None:
    session = open_toy()
    compared: Future[None] = Future()
    session._checked = compared
    with ThreadPoolExecutor(max_workers=1) as pool:
        logits = pool.submit(session.prefill, 0, (1,))
        with pytest.raises(TimeoutError):
            logits.result(timeout=0.2)
        compared.set_exception(InputError("rank-0: digest mismatch", hint="make it again"))
        with pytest.raises(InputError, match="digest mismatch"):
            logits.result()


def test_changed_weights_are_the_reason_given_even_where_they_cannot_be_loaded(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    rank_1 = folder / "weights" / "rank-1.safetensors"
    header = len(rank_1.read_bytes()).to_bytes(8, "little")
    rank_1.write_bytes(header + rank_1.read_bytes()[8:])
    with pytest.raises(InputError, match=r"rank-1.*digest mismatch"):
        Session.open(folder)
