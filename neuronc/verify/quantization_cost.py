"""What quantised weights cost in accuracy: the original model with them, and with its own weights.

Both are transformers' model in f32 on the same texts, so that nothing but the weights differs; all
others are in the artifact's dtype in both. Numbers to judge by: nothing here passes or fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.families.embedding import Embedding
from neuronc.families.model_config import ModelConfig
from neuronc.verify.compare import kl_divergence, relative_error
from neuronc.verify.embeddings import cosine, pool_rows
from neuronc.verify.reference import ReadTensor, ReferenceModel

Array = np.ndarray[Any, Any]
_MAX_TOKENS = 256  # of one text: bounds the logits in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationCost:
    """The quantised model's rows of logits ``a`` (or embeddings) against the original's, ``b``.

    Attributes:
        num_rows: Rows compared: one per token, or one embedding per text.
        max_relative_error: Largest ``max |a - b| / max |b|`` of a row.
        mean_relative_error: Mean of the same.
        mean_kl: Mean KL divergence from ``b`` to ``a`` in nats; None for embeddings.
        max_kl: Largest of the same.
        top1_agreement: Fraction of rows with the same largest entry; None for embeddings.
        min_cosine: Smallest cosine similarity of embeddings; None for logits.
    """

    num_rows: int
    max_relative_error: float
    mean_relative_error: float
    mean_kl: float | None = None
    max_kl: float | None = None
    top1_agreement: float | None = None
    min_cosine: float | None = None


def cost_of_quantization(
    config: ModelConfig,
    quantized: ReferenceModel,
    names: list[str],
    read_original: ReadTensor,
    tokens: Sequence[int],
    *,
    max_length: int,
) -> QuantizationCost:
    """Run both models on ``tokens``; memory is the original in f32 beside what there is.

    Args:
        config: The model.
        quantized: With the weights that the quantised ones stand for.
        names: Of the parameters.
        read_original: Reads a parameter as the checkpoint has it.
        tokens: Of real text, or random ones; cut into texts.
        max_length: Longest text of the artifact.
    """
    original = ReferenceModel.build(config, names, read_original)
    step = min(max_length, _MAX_TOKENS)
    texts = [list(tokens[begin : begin + step]) for begin in range(0, len(tokens), step)]
    if config.embedding is not None:
        how = config.embedding
        found = [_embeddings(quantized, original, text, how) for text in _halved(texts)]
        return cost_of_embeddings(found)
    rows = [(quantized.logits(text), original.logits(text)) for text in texts]
    return cost_of_logits([pair for a, b in rows for pair in zip(a, b, strict=True)])


def cost_of_logits(rows: Sequence[tuple[Array, Array]]) -> QuantizationCost:
    """Compare rows ``[vocab]`` of the quantised model with the original's."""
    errors = [relative_error(a, b) for a, b in rows]
    divergences = [kl_divergence(a, b) for a, b in rows]
    return QuantizationCost(
        num_rows=len(rows),
        max_relative_error=max(errors),
        mean_relative_error=float(np.mean(errors)),
        mean_kl=float(np.mean(divergences)),
        max_kl=max(divergences),
        top1_agreement=float(np.mean([a.argmax() == b.argmax() for a, b in rows])),
    )


def cost_of_embeddings(rows: Sequence[tuple[Array, Array]]) -> QuantizationCost:
    """Compare embeddings ``[hidden]`` of the quantised model with the original's."""
    errors = [relative_error(a, b) for a, b in rows]
    return QuantizationCost(
        num_rows=len(rows),
        max_relative_error=max(errors),
        mean_relative_error=float(np.mean(errors)),
        min_cosine=min(cosine(a, b) for a, b in rows),
    )


def _embeddings(
    quantized: ReferenceModel, original: ReferenceModel, text: list[int], how: Embedding
) -> tuple[Array, Array]:
    return pool_rows(quantized.hidden(text), how), pool_rows(original.hidden(text), how)


def _halved(texts: list[list[int]]) -> list[list[int]]:
    """Each text and its beginning, its quarter and its eighth: embeddings of several lengths."""
    cuts = [text[: max(1, len(text) // part)] for text in texts for part in (1, 2, 4, 8)]
    return [list(cut) for cut in dict.fromkeys(map(tuple, cuts))]
