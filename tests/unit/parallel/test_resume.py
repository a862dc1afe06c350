"""A split that was stopped goes on where it was, and ends as if nothing had happened."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuronc import pipeline
from neuronc.errors import InputError, NeuroncError, PlanError, UsageError
from neuronc.families.model_config import read_model_config
from neuronc.parallel import write_ranks
from neuronc.parallel.layouts.names import Layout
from neuronc.parallel.split_journal import JOURNAL_FILE, Journal
from neuronc.parallel.split_options import SplitOptions
from neuronc.recipe import Recipe
from tests.unit.parallel.decoder_shapes import SMOLLM2, decoder_shapes
from tests.unit.parallel.test_split_progress import RecordingProgress

SPLIT = """
import sys
from neuronc.checkpoint import safetensors_writer
from neuronc.parallel import split_memory, write_ranks
from neuronc import pipeline
from neuronc.parallel.split_options import SplitOptions
from neuronc.recipe import Recipe
from pathlib import Path

write_ranks.STEP_BYTES = 300_000
safetensors_writer.DIRECT_BYTES = 0
split_memory.DEFAULT_BLOCK_BYTES = 50_000
recipe = Recipe(checkpoint=sys.argv[1], tp=3, dtype="f32")
print("ready", flush=True)
pipeline.split(recipe, Path(sys.argv[2]), options=SplitOptions(max_file_bytes=2_000_000))
"""


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ranks, "STEP_BYTES", 1)


@pytest.fixture
def medium_llama(tmp_path: Path) -> Path:
    """Some 16 MB in bf16: long enough to be killed in the middle."""
    sizes = {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 10}
    fields = {**SMOLLM2, **sizes, "num_attention_heads": 9, "head_dim": 32, "vocab_size": 4096}
    shapes = decoder_shapes(read_model_config(fields, source="test"))
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float16) for name, shape in shapes.items()}
    (source / "config.json").write_text(json.dumps(fields))
    save_file(weights, source / "model.safetensors")
    return source


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run(source: Path, out: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SPLIT, str(source), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.slow
def test_killed_at_20_moments_it_ends_as_an_uninterrupted_one(
    medium_llama: Path, tmp_path: Path
) -> None:
    with run(medium_llama, tmp_path / "whole") as process:
        wait_ready(process)
        begin_s = time.monotonic()
        assert process.wait(100) == 0
        duration_s = time.monotonic() - begin_s
    rng = random.Random(0)
    out, kills, went_on = tmp_path / "out", 0, 0
    while kills < 20:
        with run(medium_llama, out) as process:
            wait_ready(process)
            time.sleep(rng.uniform(0, duration_s))
            process.kill()
        kills += 1
        journal = tmp_path / ".out.partial" / JOURNAL_FILE
        went_on += journal.is_file() and len(journal.read_text().splitlines()) > 1
        if out.exists():  # it was quicker than the kill: begin anew
            assert contents(out) == contents(tmp_path / "whole")
            for path in sorted(out.iterdir()):
                path.unlink()
            out.rmdir()
    assert went_on >= 3, "no kill came between two steps"

    with run(medium_llama, out) as process:
        assert process.wait(100) == 0

    assert contents(out) == contents(tmp_path / "whole")
    assert not (tmp_path / ".out.partial").exists()


def split(source: Path, out: Path, **options: Any) -> None:
    progress = options.pop("progress", RecordingProgress())
    pipeline.split(
        Recipe(checkpoint=str(source), tp=options.pop("tp", 2)),
        out,
        options=SplitOptions(**options),
        progress=progress,
    )


def interrupt(source: Path, out: Path, at: int = 8, **options: Any) -> Path:
    """Stop a split at its ``at``-th block; the folder that it leaves."""
    with pytest.raises(KeyboardInterrupt):
        split(source, out, progress=RecordingProgress(interrupt_at=at), **options)
    return out.with_name(f".{out.name}.partial")


def resumed_bytes(source: Path, out: Path, **options: Any) -> float:
    progress = RecordingProgress()
    split(source, out, progress=progress, **options)
    return progress.amounts.get("reading what is there already", 0.0)


@pytest.mark.parametrize("layout", ["neuronc", "nxdi", "transformers-neuronx"])
def test_an_interrupted_split_goes_on_in_every_layout(
    tiny_llama: Path, tmp_path: Path, layout: Layout
) -> None:
    tp = 1 if layout == "transformers-neuronx" else 3
    split(tiny_llama, tmp_path / "whole", tp=tp, layout=layout)
    interrupt(tiny_llama, tmp_path / "out", tp=tp, layout=layout)

    assert resumed_bytes(tiny_llama, tmp_path / "out", tp=tp, layout=layout) > 10_000

    whole, out = contents(tmp_path / "whole"), contents(tmp_path / "out")
    assert whole.keys() == out.keys()
    assert all(whole[name] == data for name, data in out.items())


def test_a_byte_that_changed_meanwhile_is_noticed_and_the_split_begins_anew(
    tiny_llama: Path, tmp_path: Path
) -> None:
    split(tiny_llama, tmp_path / "whole")
    partial = interrupt(tiny_llama, tmp_path / "out")
    path = next(partial.glob("rank-1*"))
    path.write_bytes(path.read_bytes()[:-200].replace(b"a", b"b", 1) + b"\0" * 200)

    split(tiny_llama, tmp_path / "out")

    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_was_cut_off_counts_as_not_written(
    tiny_llama: Path, tmp_path: Path, cut: int
) -> None:
    split(tiny_llama, tmp_path / "whole")
    journal = interrupt(tiny_llama, tmp_path / "out") / JOURNAL_FILE
    journal.write_text(journal.read_text()[:-cut])

    assert resumed_bytes(tiny_llama, tmp_path / "out") > 0

    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("text", ["", "{}\n", "[1, 2]\n3\n", '{"a": \n', "\0\n"])
def test_a_journal_that_makes_no_sense_is_begun_anew(
    tiny_llama: Path, tmp_path: Path, text: str
) -> None:
    split(tiny_llama, tmp_path / "whole")
    journal = interrupt(tiny_llama, tmp_path / "out") / JOURNAL_FILE
    journal.write_text(text)

    split(tiny_llama, tmp_path / "out")

    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("changed", [{"tp": 3}, {"max_file_bytes": 60_000}, {"layout": "nxdi"}])
def test_what_was_begun_for_another_request_is_not_gone_on_with(
    tiny_llama: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    split(tiny_llama, tmp_path / "whole", **changed)
    interrupt(tiny_llama, tmp_path / "out")

    assert resumed_bytes(tiny_llama, tmp_path / "out", **changed) == 0

    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_checkpoint_is_not_gone_on_with(
    tiny_llama: Path, changed: Any, tmp_path: Path
) -> None:
    source = changed()
    interrupt(source, tmp_path / "out")
    weights = load_file(source / "model.safetensors")
    save_file({name: array + 1 for name, array in weights.items()}, source / "model.safetensors")

    assert resumed_bytes(source, tmp_path / "out") == 0


def test_two_processes_do_not_write_into_one_folder(tiny_llama: Path, tmp_path: Path) -> None:
    partial = interrupt(tiny_llama, tmp_path / "out")
    before = contents(partial)
    other = Journal(partial, json.loads(before[JOURNAL_FILE].split(b"\n")[0])["request"])

    with pytest.raises(UsageError, match="another process is writing"):
        split(tiny_llama, tmp_path / "out")

    other.close()
    assert contents(partial) == before
    assert resumed_bytes(tiny_llama, tmp_path / "out") > 0


def full_disk(monkeypatch: pytest.MonkeyPatch, after_writes: int) -> None:
    writes = iter(range(10**9))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(writes) >= after_writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_disk_that_fills_up_loses_nothing(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(tiny_llama, tmp_path / "whole", max_file_bytes=30_000)
    with monkeypatch.context() as patched:
        full_disk(patched, after_writes=3)
        with pytest.raises(PlanError, match="no room") as caught:
            split(tiny_llama, tmp_path / "out", max_file_bytes=30_000)
    assert "goes on where it stopped" in caught.value.hint
    assert not (tmp_path / "out").exists()

    assert resumed_bytes(tiny_llama, tmp_path / "out", max_file_bytes=30_000) > 0

    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_bad_input_leaves_nothing_behind(changed: Any, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    source = changed({name: np.full((96, 36), 1e30, np.float32)})
    with pytest.raises(InputError, match="too large for f16"):
        pipeline.split(Recipe(checkpoint=str(source), dtype="f16"), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["changed"]


def test_a_checkpoint_that_changes_during_the_split_is_noticed(
    changed: Any, tmp_path: Path
) -> None:
    source = changed()

    class Touches(RecordingProgress):
        def stage(self, *args: Any, **options: Any) -> Any:
            os.utime(source / "model.safetensors")
            return super().stage(*args, **options)

    with pytest.raises(InputError, match="changed while it was split"):
        split(source, tmp_path / "out", progress=Touches())
    assert not (tmp_path / "out").exists()


def _links_in_the_way(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / ".out.partial"
    place.symlink_to(tmp_path)
    yield place
    place.unlink()
    place.write_text("mine")
    yield place


def test_a_link_in_the_place_of_the_unfinished_folder_is_refused(
    tiny_llama: Path, tmp_path: Path
) -> None:
    for place in _links_in_the_way(tmp_path):
        with pytest.raises(NeuroncError, match="in the way"):
            split(tiny_llama, tmp_path / "out")
        assert place.exists()
