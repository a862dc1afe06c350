"""An opened artifact: weights on the ranks, KV caches, and one call per program.

Opening loads executables and weights; it never traces, lowers or compiles, and needs no torch.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from neuronc.artifact.manifest import PROGRAMS_DIR, WEIGHTS_DIR, Manifest, read_manifest
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import PlanError
from neuronc.lower.program_files import EXECUTABLE
from neuronc.parallel.split_manifest import check_files
from neuronc.progress import SILENT, Progress
from neuronc.runtime.weights import empty_cache, load_weights, rank_numbers
from neuronc.targets.cpu import open_cpu, set_device_count
from neuronc.targets.host import require_host

Array = np.ndarray[Any, Any]


class Session:
    """Runs an artifact's programs; slots are numbered from 0 to ``batch_size - 1``.

    Not for use by several threads at once: the KV caches are given to every call and taken back
    from it.
    """

    def __init__(
        self,
        manifest: Manifest,
        programs: dict[tuple[str, int], Callable[..., Any]],
        weights: list[Any],
        caches: list[Any],
        rank: list[Any],
    ) -> None:
        self.manifest = manifest
        self.batch_size, self.max_length = manifest.batch_size, manifest.max_length
        self.prefill_buckets = manifest.prefill_buckets
        self.decode_buckets = manifest.decode_buckets
        self.vocab_size = manifest.programs[0].signature.outputs[0].shape[1]
        self.load_s = 0.0
        self._programs, self._weights, self._caches, self._rank = programs, weights, caches, rank

    @classmethod
    def open(cls, folder: Path, *, progress: Progress = SILENT) -> Self:
        """Open the artifact in ``folder``; every file is compared with its digest.

        Raises:
            InputError: not an artifact, or a changed byte.
            ToolchainError: the executables were compiled for another machine or jaxlib.
        """
        begin = time.perf_counter()
        manifest = read_manifest(folder)
        require_host(manifest.host)
        set_device_count(manifest.tp)
        with progress.stage("opening the artifact"), ThreadPoolExecutor(max_workers=1) as pool:
            checked = pool.submit(check_files, folder, manifest.files)
            signature = manifest.programs[0].signature
            by_kind = {
                kind: tuple(t for t in signature.inputs if t.kind == kind)
                for kind in ("weight", "cache", "rank")
            }
            weights = load_weights(folder / WEIGHTS_DIR, by_kind["weight"], tp=manifest.tp)
            checked.result()  # before any machine code from the artifact is loaded
            programs: dict[tuple[str, int], Callable[..., Any]] = {}
            for entry in manifest.programs:
                payload = (folder / PROGRAMS_DIR / entry.name / EXECUTABLE).read_bytes()
                programs[entry.phase, entry.bucket] = open_cpu(
                    payload, entry.signature, tp=manifest.tp
                )
        dtype = numpy_dtype(DTYPES[manifest.dtype])
        caches = [empty_cache(spec, dtype, tp=manifest.tp) for spec in by_kind["cache"]]
        rank = [rank_numbers(spec, tp=manifest.tp) for spec in by_kind["rank"]]
        session = cls(manifest, programs, weights, caches, rank)
        session.load_s = time.perf_counter() - begin
        return session

    def prefill(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> Array:
        """Process one chunk of a sequence into ``slot``; logits ``[vocab]`` of its last token.

        Args:
            slot: Where the sequence lives.
            token_ids: At most the largest prefill bucket.
            start: Position of the first token; what is before it must be in the slot already.

        Raises:
            PlanError: the chunk does not fit the largest bucket, or the cache.
        """
        bucket = self.prefill_bucket(len(token_ids))
        if start + bucket > self.max_length:
            message = (
                f"a prefill chunk of bucket {bucket} at position {start} ends beyond the KV cache"
                f" of {self.max_length}"
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
        """
        if bucket is None:
            bucket = self.decode_bucket(int(positions.max()))
        return self._run("decode", bucket, [token_ids, positions])

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

    def _run(self, phase: str, bucket: int, data: list[Array]) -> Array:
        program = self._programs[phase, bucket]
        outputs = program(*self._weights, *self._caches, *self._rank, *data)
        self._caches = list(outputs[1:])
        return np.asarray(outputs[0])


def _smallest(buckets: tuple[int, ...], needed: int, subject: str) -> int:
    for bucket in buckets:
        if bucket >= needed:
            return bucket
    message = f"{subject} needs {needed} tokens; the largest bucket is {buckets[-1]}"
    raise PlanError(message, hint="compile with a larger bucket or max length")
