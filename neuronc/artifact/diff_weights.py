"""Which tensors two artifacts have differently, by the digests that their splits recorded."""

from dataclasses import dataclass
from pathlib import Path

from neuronc.artifact.manifest import WEIGHTS_DIR, Manifest
from neuronc.parallel.split_manifest import SPLIT_FILE, SplitTensor, read_split_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsDifference:
    """Tensors by name, as the model has them whole: how they lie on the ranks does not matter.

    Attributes:
        num_same: With the same values.
        changed: With other values.
        reshaped: With another shape.
        only_a: In the first artifact alone.
        only_b: In the second alone.
        unknown: Why values cannot be compared; empty where they were.
        files: Tokenizer and other files beside the weights that differ.
    """

    num_same: int = 0
    changed: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    unknown: str = ""
    files: tuple[str, ...] = ()


def compare_weights(
    sides: tuple[Path, Path], manifests: tuple[Manifest, Manifest]
) -> WeightsDifference:
    """Compare the digests in both ``split.json``; no weights are read.

    Args:
        sides: The artifacts' folders.
        manifests: Of both, from `neuronc.artifact.diff.open_side`.

    Raises:
        InputError: a split.json is damaged.
    """
    files = _other_files(*manifests)
    lacking = [str(f) for f, m in zip(sides, manifests, strict=True) if not m.has_weights]
    if lacking:
        return WeightsDifference(unknown=f"{' and '.join(lacking)} has no weights", files=files)
    a, b = (read_split_manifest(folder / WEIGHTS_DIR) for folder in sides)
    both = [name for name in a.tensors if name in b.tensors]
    reshaped = [n for n in both if a.tensors[n].rule.shape != b.tensors[n].rule.shape]
    alike = [name for name in both if name not in set(reshaped)]
    pairs = [(name, a.tensors[name], b.tensors[name]) for name in alike]
    same = [name for name, one, other in pairs if _values(one) == _values(other)]
    stored = [f"{s.dtype}, {s.quantize or 'not quantised'}" for s in (a, b)]
    unknown = ""
    if stored[0] != stored[1]:
        unknown = f"values are stored in two ways: {stored[0]}; {stored[1]}"
    elif not all(one.digest and other.digest for _, one, other in pairs):
        unknown = "a split that is linked to its checkpoint has no digests of tensors"
    changed = [name for name in alike if name not in set(same)]
    return WeightsDifference(
        num_same=0 if unknown else len(same),
        changed=() if unknown else tuple(changed),
        reshaped=tuple(reshaped),
        only_a=tuple(name for name in a.tensors if name not in b.tensors),
        only_b=tuple(name for name in b.tensors if name not in a.tensors),
        unknown=unknown,
        files=files,
    )


def _values(tensor: SplitTensor) -> tuple[str, str | None]:
    return tensor.digest, tensor.scale_digest


def _other_files(a: Manifest, b: Manifest) -> tuple[str, ...]:
    one, other = (
        {
            f.path: f.sha256
            for f in manifest.files
            if f.path.startswith(f"{WEIGHTS_DIR}/") and not f.path.endswith(".safetensors")
        }
        for manifest in (a, b)
    )
    told = {f"{WEIGHTS_DIR}/{SPLIT_FILE}"}
    names = (one.keys() | other.keys()) - told
    return tuple(sorted(name for name in names if one.get(name) != other.get(name)))
