from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.parallel.split_tensors import split_checkpoint
from neuronc.progress import Stage


class RecordingStage:
    def __init__(self, notes: list[str], interrupt_at: int | None) -> None:
        self.notes, self.interrupt_at = notes, interrupt_at
        self.amounts: list[float] = []

    def advance(self, amount: float = 1, note: str = "") -> None:
        assert amount > 0
        self.notes.append(note)
        self.amounts.append(amount)
        if len(self.notes) == self.interrupt_at:
            raise KeyboardInterrupt


class RecordingProgress:
    """Keeps each stage's notes by (title, total, unit); Ctrl-C comes at one step if asked for."""

    def __init__(self, *, interrupt_at: int | None = None) -> None:
        self.stages: dict[tuple[str, float | None, str], list[str]] = {}
        self.interrupt_at = interrupt_at
        self.amounts: dict[str, float] = {}

    @contextmanager
    def stage(
        self, title: str, *, total: float | None = None, unit: str = "", still: bool = False
    ) -> Iterator[Stage]:
        notes = self.stages.setdefault((title, total, unit), [])
        stage = RecordingStage(notes, self.interrupt_at)
        yield stage
        self.amounts[title] = sum(stage.amounts)


def test_progress_is_told_of_every_tensor_once(tiny_llama: Path, tmp_path: Path) -> None:
    progress = RecordingProgress()
    checkpoint = open_checkpoint(str(tiny_llama))

    manifest = split_checkpoint(checkpoint, tmp_path, tp=2, dtype="auto", progress=progress)

    names = list(manifest.tensors)
    read_bytes = sum(info.size_bytes for info in checkpoint.tensors.values())
    assert progress.stages == {
        ("splitting over 2 ranks", read_bytes, "bytes"): names,
        ("writing config and tokenizer", None, ""): [],
    }
    assert progress.amounts["splitting over 2 ranks"] == read_bytes


def test_an_interrupt_in_the_middle_leaves_no_rank_file(tiny_llama: Path, tmp_path: Path) -> None:
    progress = RecordingProgress(interrupt_at=3)
    checkpoint = open_checkpoint(str(tiny_llama))

    with pytest.raises(KeyboardInterrupt):
        split_checkpoint(checkpoint, tmp_path, tp=2, dtype="auto", progress=progress)

    assert list(tmp_path.iterdir()) == []
