"""An opened artifact: weights on the ranks, KV caches, and one call per program.

Opening loads executables and weights; it never traces, lowers or compiles, and needs no torch.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from neuronc.artifact.manifest import (
    MANIFEST_FILE,
    PROGRAMS_DIR,
    WEIGHTS_DIR,
    Manifest,
    ProgramEntry,
    read_manifest,
)
from neuronc.errors import InputError, PlanError
from neuronc.lower.program_files import EXECUTABLE
from neuronc.parallel.split_manifest import FileDigest, check_files, rank_file
from neuronc.progress import SILENT, Progress
from neuronc.runtime.weights import empty_cache, load_weights, rank_numbers
from neuronc.targets.cpu import open_cpu, set_device_count
from neuronc.targets.cpu_merge import merge_inputs
from neuronc.targets.host import require_host
from neuronc.trace.program_spec import MergedWeights, Phase, TensorSpec

Array = np.ndarray[Any, Any]
Program = Callable[..., Any]


class Session:
    """Runs an artifact's programs; slots are numbered from 0 to ``batch_size - 1``.

    Not for use by several threads at once: the KV caches are given to every call and taken back
    from it.
    """

    def __init__(
        self,
        manifest: Manifest,
        programs: Mapping[tuple[Phase, int], Program],
        caches: list[Any],
        rank: list[Any],
        checked: "Future[None]",
    ) -> None:
        self.manifest = manifest
        self.batch_size, self.max_length = manifest.batch_size, manifest.max_length
        self.prefill_buckets = manifest.prefill_buckets
        self.decode_buckets = manifest.decode_buckets
        self.vocab_size = manifest.programs[0].signature.outputs[0].shape[1]
        self.load_s = 0.0
        self._programs, self._caches, self._rank = programs, caches, rank
        self._checked = checked

    @classmethod
    def open(cls, folder: Path, *, progress: Progress = SILENT) -> Self:
        """Open the artifact in ``folder``; every file is compared with its digest.

        Machine code is compared before it is loaded. Comparing the weights may go on while the
        first program runs, and its numbers wait for it: none come from a changed file.

        Raises:
            InputError: not an artifact, or a changed byte; for weights, the first call may raise it.
            ToolchainError: the executables were compiled for another machine or jaxlib.
        """
        begin = time.perf_counter()
        manifest = read_manifest(folder)
        _require_listed(folder, manifest)
        require_host(manifest.host)
        set_device_count(manifest.tp)
        with progress.stage("opening the artifact"), _workers() as pool:
            weight_files, others = _weights_apart(manifest)
            check_files(folder, others)
            checked = pool.submit(check_files, folder, weight_files)
            opened = [
                pool.submit(_open_program, folder, entry, manifest.tp)
                for entry in manifest.programs
            ]
            try:
                weights = _load_weights(folder, manifest)
            except Exception:
                checked.result()  # a changed file is the better explanation
                raise
            programs = {
                (entry.phase, entry.bucket): partial(code.result(), *weights[entry.merged_weights])
                for entry, code in zip(manifest.programs, opened, strict=True)
            }
        caches = [empty_cache(spec, tp=manifest.tp) for spec in _inputs(manifest, "cache")]
        rank = [rank_numbers(spec, tp=manifest.tp) for spec in _inputs(manifest, "rank")]
        session = cls(manifest, programs, caches, rank, checked)
        session.load_s = time.perf_counter() - begin
        if checked.done():
            checked.result()
        return session

    def prefill(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> Array:
        """Process one chunk of a sequence into ``slot``; logits ``[vocab]`` of its last token.

        Args:
            slot: Where the sequence lives.
            token_ids: 1 to as many as the largest prefill bucket.
            start: Position of the first token; what is before it must be in the slot already.

        Raises:
            PlanError: the chunk does not fit the largest bucket, or the cache.
            ValueError: no such slot, or no tokens.
        """
        if not 0 <= slot < self.batch_size or len(token_ids) == 0:  # XLA would drop the write
            message = f"{len(token_ids)} tokens for slot {slot} of {self.batch_size}"
            raise ValueError(message)
        bucket = self.prefill_bucket(len(token_ids))
        if not 0 <= start <= self.max_length - bucket:
            message = (
                f"a prefill chunk of bucket {bucket} at position {start} is not inside the KV"
                f" cache of {self.max_length}"
            )
            raise PlanError(message, hint="use next_chunk, which moves the last chunk back")
        padded = np.zeros((1, bucket), dtype=np.int32)
        padded[0, : len(token_ids)] = token_ids
        data = [padded, *(np.array([n], dtype=np.int32) for n in (slot, start, len(token_ids)))]
        logits: Array = self._run("prefill", bucket, data)[0]
        return logits

    def decode(self, token_ids: Array, positions: Array, *, bucket: int | None = None) -> Array:
        """One token for every slot; logits ``[batch, vocab]``.

        Args:
            token_ids: ``[batch]`` i32, each slot's newest token.
            positions: ``[batch]`` i32, where it goes. A slot nobody uses may be given any position
                whose content will be written again before it is read.
            bucket: Which program; the smallest that holds every position if None.

        Raises:
            PlanError: a position is beyond the bucket, or the cache.
        """
        last = int(positions.max())
        bucket = self.decode_bucket(last) if bucket is None else bucket
        if positions.min() < 0 or last >= bucket:  # attention would not see it
            message = f"positions {positions.tolist()} are not all inside decode bucket {bucket}"
            raise PlanError(message, hint="let decode choose the bucket")
        # Copies: a rank may still read its inputs when the logits of the first are here.
        data = [np.array(values, dtype=np.int32) for values in (token_ids, positions)]
        return self._run("decode", bucket, data)

    def prefill_bucket(self, num_tokens: int) -> int:
        """The smallest prefill bucket that holds ``num_tokens``."""
        return _smallest(self.prefill_buckets, num_tokens, "prefill chunk")

    def decode_bucket(self, position: int) -> int:
        """The smallest decode bucket that holds ``position``."""
        return _smallest(self.decode_buckets, position + 1, "position")

    def next_chunk(self, num_done: int, num_tokens: int) -> tuple[int, int]:
        """Which tokens of a prompt to process next: ``(start, end)``.

        Chunks have the size of the largest bucket. Where the bucket of the last one would end
        beyond the cache, it starts earlier and processes some tokens again, to the same result.
        """
        end = min(num_tokens, num_done + self.prefill_buckets[-1])
        bucket = self.prefill_bucket(end - num_done)
        start = min(num_done, self.max_length - bucket)
        return start, end

    def _run(self, phase: Phase, bucket: int, data: list[Array]) -> Array:
        program = self._programs[phase, bucket]
        outputs = program(*self._caches, *self._rank, *data)
        self._caches = list(outputs[1:])
        self._checked.result()
        return np.asarray(outputs[0])


def _inputs(manifest: Manifest, kind: str) -> tuple[TensorSpec, ...]:
    """What all programs take alike: their weights, caches or rank number."""
    return tuple(t for t in manifest.programs[0].signature.inputs if t.kind == kind)


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads that may go on after the block: what was submitted is not waited for."""
    pool = ThreadPoolExecutor(max_workers=3)  # one compares digests, two load programs
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


def _weights_apart(
    manifest: Manifest,
) -> tuple[tuple[FileDigest, ...], tuple[FileDigest, ...]]:
    """The digests of the rank files, which are large, and of everything else, which is not."""
    ranks = {f"{WEIGHTS_DIR}/{rank_file(rank)}" for rank in range(manifest.tp)}
    return (
        tuple(file for file in manifest.files if file.path in ranks),
        tuple(file for file in manifest.files if file.path not in ranks),
    )


def _open_program(folder: Path, entry: ProgramEntry, tp: int) -> Program:
    signature = merge_inputs(entry.signature, entry.merged_weights)
    return open_cpu((folder / _executable(entry)).read_bytes(), signature, tp=tp)


def _load_weights(folder: Path, manifest: Manifest) -> dict[MergedWeights, list[Any]]:
    """The weights as the programs take them: once, unless programs differ in what they merge."""
    signatures = {entry.merged_weights: entry.signature for entry in manifest.programs}
    return {
        merged: load_weights(folder / WEIGHTS_DIR, signature, merged, tp=manifest.tp)
        for merged, signature in signatures.items()
    }


def _executable(entry: ProgramEntry) -> str:
    return f"{PROGRAMS_DIR}/{entry.name}/{EXECUTABLE}"


def _require_listed(folder: Path, manifest: Manifest) -> None:
    """What is going to be loaded has to be among the files whose digests are compared."""
    needed = {_executable(entry) for entry in manifest.programs}
    needed |= {f"{WEIGHTS_DIR}/{rank_file(rank)}" for rank in range(manifest.tp)}
    missing = sorted(needed - {file.path for file in manifest.files})
    if missing:
        what = f"does not list {', '.join(missing)}"
        message = f"{folder / MANIFEST_FILE} is damaged: it {what}"
        raise InputError(message, hint="compile the artifact again")


def _smallest(buckets: tuple[int, ...], needed: int, subject: str) -> int:
    for bucket in buckets:
        if bucket >= needed:
            return bucket
    message = f"{subject} needs {needed} tokens; the largest bucket is {buckets[-1]}"
    raise PlanError(message, hint="compile with a larger bucket or max length")
