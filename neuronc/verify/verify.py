"""Run an artifact and the original model on the same tokens, and compare every logit."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.artifact.manifest import WEIGHTS_DIR
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.dtypes import DTYPES
from neuronc.errors import VerificationError
from neuronc.families.embedding import FIELD
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.parallel.model_names import named_as_model
from neuronc.parallel.split_manifest import SplitManifest, read_split_manifest
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Place
from neuronc.runtime.session import Session
from neuronc.verify.cases import make_rounds, real_tokens
from neuronc.verify.compare import Comparison, compare_rows
from neuronc.verify.embeddings import EmbeddingComparison, compare_embeddings, run_embeddings
from neuronc.verify.quantization_cost import QuantizationCost, cost_of_quantization
from neuronc.verify.reference import References, from_checkpoint, from_shards, unquantized
from neuronc.verify.reference_tokens import ReferenceTokens, record_tokens
from neuronc.verify.run_rounds import run_rounds


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        comparison: The numbers.
        reference: What the artifact was compared with, in words.
        target: Where the artifact ran.
        non_finite_weights: Weights that hold NaN or infinity, by name.
        quantize: How the artifact's weights are quantised; the reference then has the values that
            the quantised ones stand for.
        quantization_cost: What that costs; None where the original weights are not at hand.
        reference_tokens: What the original model says next, for later runs to be held against;
            empty for an artifact that embeds, or that did not pass.
        num_top_k_calls: Custom calls for top-k in what neuronx-cc reads that did not run as they
            are: rounds of maxima stood for them, or a test double's own top-k.
    """

    comparison: Comparison | EmbeddingComparison
    reference: str
    target: str
    non_finite_weights: tuple[str, ...]
    quantize: str | None = None
    quantization_cost: QuantizationCost | None = None
    reference_tokens: tuple[ReferenceTokens, ...] = ()
    num_top_k_calls: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON form, as stored in the manifest."""
        return {
            "passed": self.comparison.passed,
            "target": self.target,
            "reference": self.reference,
            "non_finite_weights": list(self.non_finite_weights),
            **asdict(self.comparison),
            **({} if self.quantize is None else {"quantization": self._quantization()}),
            "reference_tokens": [sequence.to_dict() for sequence in self.reference_tokens],
            **({"unverified_top_k_calls": self.num_top_k_calls} if self.num_top_k_calls else {}),
        }

    def _quantization(self) -> dict[str, Any]:
        cost = self.quantization_cost
        return {"scheme": self.quantize, "cost": None if cost is None else asdict(cost)}


def verify_artifact(
    folder: Path,
    *,
    checkpoint: Checkpoint | None = None,
    on: Place = "cpu",
    progress: Progress = SILENT,
) -> Verification:
    """Compare the artifact in ``folder`` with transformers.

    Prefill logits of every prompt and decode logits of every forced step, in every slot, through
    every program. Memory is the artifact's weights plus the model in f32.

    Args:
        folder: The artifact.
        checkpoint: Where the reference's weights come from; None puts the rank shards together.
        on: Where the artifact runs. A Neuron artifact's programs run on the CPU as well: the same
            legalised programs through another code generator.
        progress: Told of every round.

    Raises:
        VerificationError: the shards are not the checkpoint's tensors. (Numbers that differ are
            in the result, not an error.)
    """
    with closing(Session.open(folder, on=on, progress=progress)) as session:
        return _verify(session, folder, checkpoint, progress)


def _verify(
    session: Session, folder: Path, checkpoint: Checkpoint | None, progress: Progress
) -> Verification:
    weights_dir = folder / WEIGHTS_DIR
    split = read_split_manifest(weights_dir)
    config, references, non_finite = open_references(weights_dir, checkpoint, progress)
    found = _compare(session, references, config, weights_dir, progress)
    _require_all_programs(session, found)
    is_device = session.ran_on == session.manifest.target
    return Verification(
        comparison=found,
        reference=_describe_reference(split, checkpoint),
        target=session.ran_on,
        non_finite_weights=non_finite,
        quantize=split.quantize,
        num_top_k_calls=0 if is_device else session.manifest.num_top_k_calls,
        quantization_cost=_cost(session, references, config, weights_dir, checkpoint, progress),
        reference_tokens=_tokens(session, references, found, weights_dir, progress),
    )


def _tokens(
    session: Session,
    references: References,
    found: Comparison | EmbeddingComparison,
    weights_dir: Path,
    progress: Progress,
) -> tuple[ReferenceTokens, ...]:
    if isinstance(found, EmbeddingComparison) or not found.passed:
        return ()
    allowed = found.tolerance_ulp * DTYPES[session.manifest.dtype].eps
    with progress.stage("recording the original model's tokens"):
        return record_tokens(session, references.truth.logits, weights_dir, allowed=allowed)


def _cost(
    session: Session,
    references: References,
    config: ModelConfig,
    weights_dir: Path,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> QuantizationCost | None:
    """What quantisation costs, where there is any and the original weights are at hand."""
    split = read_split_manifest(weights_dir)
    if split.quantize is None or checkpoint is None:
        return None
    with progress.stage("comparing with the original weights"):
        return cost_of_quantization(
            config,
            references.truth,
            list(split.tensors),
            unquantized(named_as_model(checkpoint, config), split),
            real_tokens(weights_dir, config.vocab_size),
            max_length=session.max_length,
        )


def open_references(
    weights_dir: Path, checkpoint: Checkpoint | None, progress: Progress
) -> tuple[ModelConfig, References, tuple[str, ...]]:
    """The model, what to compare it with, and the weights that hold NaN or infinity."""
    split = read_split_manifest(weights_dir)
    with progress.stage("building the reference model with transformers"):
        raw = _read_config(weights_dir, checkpoint)
        config = read_model_config(raw, source=split.source)
        checkpoint = named_as_model(checkpoint, config) if checkpoint else None
        read = from_checkpoint(checkpoint, split) if checkpoint else from_shards(weights_dir, split)
        finite = _FiniteCheck(read)
        references = References.build(config, list(split.tensors), finite, dtype=split.dtype)
    return config, references, tuple(finite.bad)


def _compare(
    session: Session,
    references: References,
    config: ModelConfig,
    weights_dir: Path,
    progress: Progress,
) -> Comparison | EmbeddingComparison:
    dtype, num_layers = session.manifest.dtype, config.num_layers
    if config.embedding is None:
        rows = list(run_rounds(session, references, make_rounds(session, weights_dir), progress))
        return compare_rows(rows, dtype=dtype, num_layers=num_layers)
    padding = config.raw.get("pad_token_id")  # in a text, transformers would not count it
    tokens = [t for t in real_tokens(weights_dir, config.vocab_size) if t != padding]
    texts = run_embeddings(session, references, config.embedding, tokens, progress)
    return compare_embeddings(texts, dtype=dtype, num_layers=num_layers)


def failure(verification: Verification, subject: str) -> VerificationError | None:
    """The error for a failed ``verification``, None for one that passed."""
    found = verification.comparison
    if found.passed:
        return None
    message = (
        f"{subject} differs from the original model first at {found.first_divergence}:"
        f" {found.describe()}"
    )
    return VerificationError(message, hint="do not use it; compile again with --dump-ir and report")


def _require_all_programs(session: Session, found: Comparison | EmbeddingComparison) -> None:
    """A program that no sequence passed through would be called verified without proof."""
    missed = [p.name for p in session.manifest.programs if p.name not in found.by_program]
    if missed:
        message = f"verification has no sequence for {', '.join(missed)}"
        raise VerificationError(message, hint="drop the bucket, or report this gap")


class _FiniteCheck:
    """Passes tensors through and remembers which hold NaN or infinity."""

    def __init__(self, read: Any) -> None:
        self._read, self.bad = read, list[str]()

    def __call__(self, name: str) -> Any:
        tensor = self._read(name)
        if not np.isfinite(tensor.astype(np.float32)).all():
            self.bad.append(name)
        return tensor


def _read_config(weights_dir: Path, checkpoint: Checkpoint | None) -> Mapping[str, Any]:
    from neuronc.checkpoint.folder import read_config

    own = read_config(weights_dir)
    if checkpoint is None:
        return own
    return {**checkpoint.config, **({FIELD: own[FIELD]} if FIELD in own else {})}


def _describe_reference(split: SplitManifest, checkpoint: Checkpoint | None) -> str:
    origin = f"checkpoint {split.source}" if checkpoint else "rank shards put together"
    if checkpoint is not None and checkpoint.adapter is not None:
        origin += f" with adapter {checkpoint.adapter.name}"
    stored = split.dtype
    if split.quantize is not None:
        stored += f" and dequantised {split.quantize}"
    return f"transformers eager, f32 arithmetic, {stored} weights from {origin}"
