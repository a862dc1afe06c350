"""An opened artifact: weights on the ranks, KV caches, and one call per program.

Opening loads executables and weights; it never traces, lowers or compiles, and needs no torch.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import numpy as np

from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.errors import PlanError, UsageError
from neuronc.lower.program_files import EXECUTABLE, NEFF
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Place
from neuronc.runtime.opening import comparing, device_name, open_ranks, require_listed
from neuronc.runtime.ranks import Ranks, StartingRanks
from neuronc.trace.program_spec import TOKENS, Phase

Array = np.ndarray[Any, Any]


class Session:
    """Runs an artifact's programs; slots are numbered from 0 to ``batch_size - 1``.

    Not for use by several threads at once: every call changes the KV caches.

    Args:
        manifest: Of the artifact.
        ranks: All its ranks, opened.
        checked: Done when the weights' digests are compared.
        ran_on: What executes the programs here, for reports.
    """

    def __init__(
        self, manifest: Manifest, ranks: Ranks, checked: Future[None], *, ran_on: str = "cpu"
    ) -> None:
        self.manifest, self.ranks = manifest, ranks
        self._starting = ranks if isinstance(ranks, StartingRanks) else None
        self.batch_size, self.max_length = manifest.batch_size, manifest.max_length
        self.prefill_buckets = manifest.prefill_buckets
        self.decode_buckets = manifest.decode_buckets
        self.embed_buckets = manifest.embed_buckets
        self.vocab_size = manifest.programs[0].signature.outputs[0].shape[1]
        self.samples_on_device = manifest.on_device_sampling
        outputs = manifest.programs[0].signature.outputs
        self._outputs = {tensor.name: number for number, tensor in enumerate(outputs)}
        self.ran_on = ran_on
        self.load_s = 0.0
        self._checked = checked

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        on: Place = "target",
        rank_processes: bool = False,
        progress: Progress = SILENT,
    ) -> Self:
        """Open the artifact in ``folder``; every file is compared with its digest.

        What runs is compared before it is loaded. Comparing the weights may go on while the first
        program runs, and its numbers wait for it: none come from a changed file.

        Args:
            folder: The artifact.
            on: Where to run it.
            rank_processes: A process per NeuronCore in place of a thread.
            progress: Told of the opening.

        Raises:
            InputError: not an artifact, a bundle that is still to be compiled, or a changed byte;
                for weights, the first call may raise it.
            ToolchainError: it was compiled for another machine or jaxlib, or needs nrtpy.
            UsageError: ``rank_processes`` where there are no NeuronCores.
        """
        begin = time.perf_counter()
        manifest = read_manifest(folder)
        target = "cpu" if on == "cpu" else manifest.target
        if rank_processes and target == "cpu":
            message = "ranks on the CPU are devices of one process"
            raise UsageError(message, hint="leave out --rank-processes")
        require_listed(folder, manifest, EXECUTABLE if target == "cpu" else NEFF)
        with progress.stage("opening the artifact"), comparing(folder, manifest) as checked:
            ranks = open_ranks(folder, manifest, target, rank_processes=rank_processes)
        ran_on = target if target == "cpu" else device_name(manifest)
        session = cls(manifest, ranks, checked, ran_on=ran_on)
        session.load_s = time.perf_counter() - begin
        return session

    def close(self) -> None:
        """Give back cores and processes; the session cannot be used afterwards."""
        self.ranks.close()

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
        (logits,) = self.prefill_outputs(slot, token_ids, start=start, names=("logits",))
        row: Array = logits[0]
        return row

    def prefill_token(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> int:
        """`prefill`, but the most likely next token, sampled on the device.

        As `neuronc.runtime.sampling.greedy` of the logits, which stay where they are.

        Raises:
            ValueError: the programs do not sample.
        """
        (tokens,) = self.prefill_outputs(slot, token_ids, start=start, names=(TOKENS,))
        return int(tokens[0])

    def prefill_outputs(
        self, slot: int, token_ids: Sequence[int], *, start: int = 0, names: Sequence[str]
    ) -> list[Array]:
        """`prefill`: the outputs ``names`` of one run, ``logits [1, vocab]`` or ``tokens [1]``."""
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
        return self._run("prefill", bucket, data, names)

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
        return self.decode_outputs(token_ids, positions, bucket=bucket, names=("logits",))[0]

    def decode_tokens(
        self, token_ids: Array, positions: Array, *, bucket: int | None = None
    ) -> Array:
        """`decode`, but every slot's most likely next token ``[batch]``, sampled on the device.

        Raises:
            ValueError: the programs do not sample.
        """
        return self.decode_outputs(token_ids, positions, bucket=bucket, names=(TOKENS,))[0]

    @property
    def runs_ahead(self) -> bool:
        """Whether a decode step can start from tokens that the host has not seen: `start_decode`."""
        return self.samples_on_device and self._starting is not None

    def start_decode(self, token_ids: Any, positions: Array, *, bucket: int) -> Any:
        """`decode_tokens` that does not wait: its tokens, for `arrived` and for the step after it.

        Args:
            token_ids: ``[batch]`` i32, on the host or as the step before gave them.
            positions: As of `decode`.
            bucket: Which program.

        Raises:
            PlanError: a position is beyond the bucket.
            TypeError: not `runs_ahead`, for what runs the programs.
            ValueError: not `runs_ahead`, for the programs do not sample.
        """
        if self._starting is None:
            message = f"these ranks run one step at a time: {self.ran_on}"
            raise TypeError(message)
        _check_inside(positions, bucket)
        # Copies of what the host may change while the step runs.
        data = [v.copy() if isinstance(v, np.ndarray) else v for v in (token_ids, positions)]
        wanted = self._numbers((TOKENS,))
        (tokens,) = self._starting.start("decode", bucket, data, wanted=wanted)
        return tokens

    def arrived(self, tokens: Any) -> Array:
        """The tokens of `start_decode`, on the host."""
        found = np.asarray(tokens)
        self._checked.result()
        return found

    def decode_outputs(
        self,
        token_ids: Array,
        positions: Array,
        *,
        bucket: int | None = None,
        names: Sequence[str],
    ) -> list[Array]:
        """`decode`: the outputs ``names`` of one run, ``logits`` or ``tokens``."""
        bucket = self.decode_bucket(int(positions.max())) if bucket is None else bucket
        _check_inside(positions, bucket)
        # Copies: a rank may still read its inputs when the logits of the first are here.
        data = [np.array(values, dtype=np.int32) for values in (token_ids, positions)]
        return self._run("decode", bucket, data, names)

    def embed(self, texts: Sequence[Sequence[int]]) -> Array:
        """Embeddings ``[len(texts), hidden]`` f32 of token ids, in one call.

        Args:
            texts: 1 to ``batch_size`` of them, each of 1 to ``max_length`` tokens.

        Raises:
            PlanError: a text is longer than the largest bucket.
            ValueError: too many texts, or an empty one.
        """
        lengths = np.array([len(text) for text in texts], dtype=np.int32)
        if not 1 <= len(texts) <= self.batch_size or lengths.min() == 0:
            message = f"texts of {lengths.tolist()} tokens for a batch of {self.batch_size}"
            raise ValueError(message)
        bucket = _smallest(self.embed_buckets, int(lengths.max()), "text")
        padded = np.zeros((self.batch_size, bucket), dtype=np.int32)
        for row, text in zip(padded, texts, strict=False):
            row[: len(text)] = text
        unused = np.zeros(self.batch_size - len(texts), dtype=np.int32)
        data = [padded, np.concatenate([lengths, unused])]
        return self._run("embed", bucket, data, ("embedding",))[0][: len(texts)]

    def require(self, *, embeds: bool) -> None:
        """Refuse an artifact for the other task.

        Raises:
            UsageError: it embeds, or it generates.
        """
        if self.manifest.embeds != embeds:
            what, verb = ("generates text", "generate") if embeds else ("embeds texts", "embed")
            message = f"this artifact {what}"
            raise UsageError(message, hint=f"use neuronc {verb}")

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

    def _run(
        self, phase: Phase, bucket: int, data: list[Array], names: Sequence[str]
    ) -> list[Array]:
        found = self.ranks.run(phase, bucket, data, wanted=self._numbers(names))
        self._checked.result()
        return found

    def _numbers(self, names: Sequence[str]) -> list[int]:
        if lost := [name for name in names if name not in self._outputs]:
            message = f"the programs of this artifact have no output {lost[0]}"
            raise ValueError(message)
        return [self._outputs[name] for name in names]


def _check_inside(positions: Array, bucket: int) -> None:
    if positions.min() < 0 or positions.max() >= bucket:  # attention would not see it
        message = f"positions {positions.tolist()} are not all inside decode bucket {bucket}"
        raise PlanError(message, hint="let decode choose the bucket")


def _smallest(buckets: tuple[int, ...], needed: int, subject: str) -> int:
    for bucket in buckets:
        if bucket >= needed:
            return bucket
    message = f"{subject} needs {needed} tokens; the largest bucket is {buckets[-1]}"
    raise PlanError(message, hint="compile with a larger bucket or max length")
