"""A model's family, checked on a tiny random clone of the very config before weights are touched.

The clone's ranks run in torch as they are (see `neuronc.trace.eager_ranks`), which takes a second;
where they differ from transformers, the first layer whose output does is named. Run as
``python -m neuronc.verify.clone`` it reads ``{"config": ..., "tp": ...}`` on stdin and prints JSON.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from neuronc.errors import InputError, NeuroncError, VerificationError, error_of
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.families.verified import verified
from neuronc.progress import SILENT, Progress
from neuronc.verify.tiny_config import tiny_config

if TYPE_CHECKING:
    import numpy as np

    from neuronc.trace.eager_ranks import EagerRanks

TOLERANCE = 5e-5
"""Of the largest value: f32 sums in another order, through two layers."""
_COMMAND = ("-m", "neuronc.verify.clone")
_UNSUPPORTED = "neuronc does not support this family yet; `neuronc models` lists those it does"
_LENGTH, _BUCKET, _MAX_LENGTH = 16, 8, 24
_MOST_RANKS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class CloneCheck:
    """What the clone showed.

    Attributes:
        made: Whether transformers makes a model of the shrunk config.
        error: Largest difference of logits over the largest logit.
        phase: Of the first difference: ``prefill`` or ``decode``; empty without one.
        layer: The first layer whose output differs; empty if none does, or none could be watched.
        reason: Why no clone was made.
    """

    made: bool
    error: float = 0.0
    phase: str = ""
    layer: str = ""
    reason: str = ""


def needs_clone(config: ModelConfig) -> bool:
    """Whether no test covers the family of ``config``, or the config's way of being split."""
    covered = verified().variants if config.embedding is None else verified().encoders
    return bool(config.family.why_not) or config.model_type not in covered


def require_clone_matches(
    config: ModelConfig,
    *,
    tp: int,
    name: str,
    is_verified_later: bool = True,
    progress: Progress = SILENT,
) -> None:
    """Compare a clone of ``config`` over ``tp`` ranks with transformers, in a process of its own.

    A clone has few heads, so that it is split over at most 8 ranks. Where transformers makes a
    model of the config but none of the shrunk one, the verification of the artifact has to do.

    Args:
        config: The model.
        tp: Number of ranks.
        name: Of the checkpoint, for messages.
        is_verified_later: Whether the artifact itself is going to be verified.
        progress: Told what was found.

    Raises:
        InputError: transformers makes no causal LM of ``config``.
        VerificationError: the clone computes something else, or its process failed; or there is no
            clone, and nothing else would be verified.
        NeuroncError: what planning and tracing the clone refuse.
    """
    tp = min(tp, _MOST_RANKS)
    with progress.stage("checking a tiny clone", total=1, unit="models") as stage:
        found = _in_process(config, tp, name)
        stage.advance(1, note="matches transformers" if found.made else f"none: {found.reason}")
    if not found.made and not is_verified_later:
        message = f"no tiny random clone of {name} can be made to prove its family: {found.reason}"
        hint = "build it with its weights and without --no-verify: then the artifact is verified"
        raise VerificationError(message, hint=hint)
    if found.phase:
        where = f"from layer {found.layer!r} on" if found.layer else "outside the layers"
        message = (
            f"a tiny random clone of {name} at tp={tp} differs from transformers by"
            f" {found.error:.1e} of its largest logit, in {found.phase}, {where}"
        )
        raise VerificationError(message, hint=_UNSUPPORTED)


def _in_process(config: ModelConfig, tp: int, name: str) -> CloneCheck:
    """`check_clone` in a process of its own."""
    job = json.dumps({"config": dict(config.raw), "tp": tp})
    command = [sys.executable, *_COMMAND]
    done = subprocess.run(command, input=job, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = "; ".join(done.stderr.strip().splitlines()[-1:]) or f"exit {done.returncode}"
        message = f"a tiny random clone of {name} at tp={tp} cannot be run: {told[:300]}"
        raise VerificationError(message, hint=_UNSUPPORTED)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "refused" in answer:
        exit_code, message, hint = answer["refused"]
        raise error_of(exit_code, f"a tiny random clone of {name}: {message}", hint=hint)
    return CloneCheck(**answer)


def check_clone(config: Mapping[str, Any], *, tp: int) -> CloneCheck:
    """Compare a clone of ``config`` with transformers: prompts in chunks, then mixed decode.

    Raises:
        InputError: transformers makes no causal LM of ``config`` itself.
        NeuroncError: what planning and tracing the clone refuse.
    """
    import numpy as np
    import torch

    from neuronc.parallel.plan import plan_parallelism
    from neuronc.trace.eager_ranks import EagerRanks
    from neuronc.trace.layer_outputs import watching
    from neuronc.trace.meta_model import build_shapes, stored_names

    try:
        model = random_model(config)
    except InputError as refused:
        build_shapes(config, dtype=torch.float32, attention="eager")
        return CloneCheck(made=False, reason=refused.message)
    stored = {name: model.state_dict()[name] for name in stored_names(model)}
    clone = read_model_config(tiny_config(config), source="the clone")
    plan = plan_parallelism(clone, {n: tuple(w.shape) for n, w in stored.items()}, tp)
    ranks = EagerRanks(clone, plan, stored, batch_size=2, max_length=_MAX_LENGTH, dtype="f32")
    ids = np.random.default_rng(0).integers(4, clone.vocab_size, (2, _LENGTH))
    with torch.no_grad(), watching(model) as expected:
        logits = model(input_ids=torch.tensor(ids), use_cache=False).logits.numpy()
    largest = 0.0
    with watching(ranks.models[0]) as found:
        for step in _steps(ranks, ids):
            error = step.error(logits)
            largest = max(largest, error)
            if not error < TOLERANCE:
                layer = step.first_difference(found, expected)
                return CloneCheck(made=True, error=error, phase=step.phase, layer=layer)
    return CloneCheck(made=True, error=largest)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One call of a program: which tokens it saw, and its logits for the last of each row."""

    phase: str
    rows: list[int]
    positions: list[list[int]]
    logits: "np.ndarray[Any, Any]"

    def error(self, expected: "np.ndarray[Any, Any]") -> float:
        """Largest difference over the largest logit; NaN where a logit is none."""
        last = [at[-1] for at in self.positions]
        difference = abs(self.logits - expected[self.rows, last]).max()
        return float(difference / abs(expected).max())

    def first_difference(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
        """The first layer whose output differs; empty if none does."""
        for name, output in found.items():
            whole = expected[name]
            for row, own, at in zip(self.rows, output, self.positions, strict=True):
                difference = (own[: len(at)] - whole[row, at]).abs().max()
                if not difference < TOLERANCE * whole.abs().max():
                    return name
        return ""


def _steps(ranks: "EagerRanks", ids: "np.ndarray[Any, Any]") -> Iterator[_Step]:
    """Two prompts in chunks, the second of them shorter, then both decode, each at its own place."""
    starts = [0, 0]
    for slot, lengths in enumerate([(_BUCKET, 4), (_BUCKET, 2)]):
        for length in lengths:
            at = list(range(starts[slot], starts[slot] + length))
            tokens = ids[slot, at].tolist()
            logits = ranks.prefill(tokens, slot=slot, start=at[0], bucket=_BUCKET)
            yield _Step(phase="prefill", rows=[slot], positions=[at], logits=logits[None])
            starts[slot] += length
    for step in range(_LENGTH - max(starts)):
        places = [start + step for start in starts]
        logits = ranks.decode(ids[[0, 1], places].tolist(), places)
        yield _Step(phase="decode", rows=[0, 1], positions=[[at] for at in places], logits=logits)


def random_model(config: Mapping[str, Any]) -> Any:
    """Transformers' model of ``config`` made tiny, with seeded weights large enough to matter.

    Raises:
        InputError: transformers makes no model of it.
    """
    import torch

    from neuronc.trace.meta_model import build_model

    tiny = tiny_config(config)
    family = read_model_config(tiny, source="the clone").family
    generator = torch.Generator().manual_seed(7)
    model = build_model(tiny, dtype=torch.float32, attention=family.reference_attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = parameter.dim() == 1 and "norm" in name and name.endswith("weight")
            size = 0.1 if parameter.dim() == 1 else 0.3
            parameter.copy_(noise * size + (1.0 if is_scale else 0.0))
    return model


def main() -> int:
    """Check the clone of the config on stdin."""
    warnings.simplefilter("ignore")
    job = json.load(sys.stdin)
    try:
        answer = asdict(check_clone(job["config"], tp=job["tp"]))
    except NeuroncError as error:
        answer = {"refused": [error.exit_code, error.message, error.hint]}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
