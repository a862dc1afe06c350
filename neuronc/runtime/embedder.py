"""Texts to embeddings, with an opened artifact: tokenized, batched by length, padded to buckets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.artifact.manifest import WEIGHTS_DIR
from neuronc.errors import PlanError, UsageError
from neuronc.progress import SILENT, Progress
from neuronc.runtime.session import Session
from neuronc.runtime.text import TextCodec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What became of some texts.

    Attributes:
        embeddings: ``[texts, hidden]`` f32, in their order.
        num_tokens: Tokens of each text that were embedded.
        truncated: Numbers of the texts that were cut.
    """

    embeddings: Array
    num_tokens: tuple[int, ...]
    truncated: tuple[int, ...]


def embed_texts(
    session: Session,
    folder: Path,
    texts: Sequence[str],
    *,
    truncate: bool = False,
    progress: Progress = SILENT,
) -> Embedded:
    """Embed ``texts`` with the artifact in ``folder``, opened as ``session``.

    Texts of like length share a call, so that little is padded.

    Raises:
        InputError: the artifact has no usable tokenizer.
        PlanError: a text is longer than the artifact's max length, and is not to be truncated.
        UsageError: a text is empty or no valid Unicode.
    """
    codec = TextCodec.open(folder / WEIGHTS_DIR)
    tokens = [codec.encode(text) for text in texts]
    limit = session.max_length
    for number, ids in enumerate(tokens):
        if not texts[number].strip() or not ids:
            message = f"text {number + 1} of {len(texts)} is empty"
            raise UsageError(message, hint="leave it out")
        if len(ids) > limit and not truncate:
            message = f"text {number + 1} has {len(ids)} tokens; the artifact takes {limit}"
            raise PlanError(message, hint="pass --truncate, or compile with a larger --max-length")
    truncated = tuple(number for number, ids in enumerate(tokens) if len(ids) > limit)
    # The last token ends a text for the model ([SEP]): it stays.
    kept = [ids if len(ids) <= limit else (*ids[: limit - 1], ids[-1]) for ids in tokens]
    embeddings = embed_tokens(session, kept, progress=progress)
    num_tokens = tuple(len(ids) for ids in kept)
    return Embedded(embeddings=embeddings, num_tokens=num_tokens, truncated=truncated)


def embed_tokens(
    session: Session, texts: Sequence[Sequence[int]], *, progress: Progress = SILENT
) -> Array:
    """Embeddings ``[texts, hidden]`` f32 of token ids, as many in a call as the artifact takes."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    found: list[Array] = []
    with progress.stage("embedding", total=len(texts), unit="texts") as stage:
        for begin in range(0, len(order), session.batch_size):
            batch = order[begin : begin + session.batch_size]
            found.append(session.embed([texts[number] for number in batch]))
            stage.advance(len(batch))
    rows = np.concatenate(found)
    embeddings = np.empty_like(rows)
    embeddings[order] = rows
    return embeddings
