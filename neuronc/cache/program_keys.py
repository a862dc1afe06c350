"""The keys of a build: what a lowered program, an executable, a NEFF and a report depend on.

Weights are in none but the report's, so a fine-tune finds the programs of its base model.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import neuronc
from neuronc.artifact.same_config import without_effect
from neuronc.cache.canonical import digest_hlo, digest_stablehlo
from neuronc.cache.key import Key
from neuronc.lower.program_files import NEURON_HLO, SIGNATURE, STABLEHLO
from neuronc.targets.host import describe_host
from neuronc.tools import tool_versions

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest

_LOWERING_CODE = ("dtypes.py", "families", "parallel", "trace", "lower", "targets")
_COMPILING_CODE = (
    "lower/stablehlo_to_hlo.py",
    "targets/cpu*.py",
    "targets/host.py",
    "targets/neuron/hlo",
)


def lowered_key(job: Mapping[str, Any]) -> Key:
    """Of the lowered program that ``job``, the JSON form of a ``ProgramJob``, makes.

    Fields of the config that no program depends on are left out.
    """
    spec = dict(job["spec"])
    ignored = without_effect(is_embedding=spec["phase"] == "embed")
    config = {k: _plain(v) for k, v in job["config"].items() if k not in ignored}
    return Key(
        kind="lowered",
        inputs={
            "phase": spec.pop("phase"),
            "bucket": spec.pop("bucket"),
            **spec,
            "tp": job["tp"],
            "dtype": job["dtype"],
            "quantize": job["quantize"],
            "target": job["target"],
            "top_k_call": job["top_k_call"],
            "taps": job["taps"],
            "config": config,
            "shapes": None if job["shapes"] is None else digest_json(job["shapes"]),
            "tools": tool_versions(),
            "code": code_digest(_LOWERING_CODE),
        },
    )


def _plain(value: object) -> Any:
    """``value`` with words for infinities, which configs hold and canonical JSON does not."""
    return json.loads(json.dumps(value), parse_constant=str)


def executable_key(folder: Path, *, target: str, tp: int) -> Key:
    """Of XLA:CPU's executable of the lowered program in ``folder``."""
    return Key(
        kind="executable",
        inputs={
            "program": program_digest(folder, target),
            "signature": _signature_digest(folder),
            "target": target,
            "tp": tp,
            "host": describe_host(),
            "jax": tool_versions()["jax"],
            "code": code_digest(_COMPILING_CODE),
        },
    )


def neff_key(hlo: bytes, *, args: Sequence[str], compiler: str) -> Key:
    """Of neuronx-cc's NEFF of the legalised program ``hlo``.

    ``args`` name the target; the program holds its replica groups, so programs of different tp never
    share a NEFF.
    """
    inputs = {"program": digest_hlo(hlo), "args": list(args), "compiler": compiler}
    return Key(kind="neff", inputs=inputs)


def verification_key(manifest: "Manifest") -> Key:
    """Of the report of verifying an artifact against the checkpoint that it was made of.

    The checkpoint's files are told apart by size and time, as in a manifest's request: copied
    elsewhere, they are read and compared again.
    """
    request = manifest.request
    return Key(
        kind="verification",
        inputs={
            "artifact": manifest.digest,
            "checkpoint_files": request.get("checkpoint_files"),
            "adapter_files": request.get("adapter_files"),
            "host": describe_host(),
            "tools": tool_versions(),
            "code": code_digest(("*.py", *_PACKAGES)),
        },
    )


_PACKAGES = ("families", "parallel", "trace", "lower", "targets", "verify", "runtime", "checkpoint")


def program_digest(folder: Path, target: str) -> str:
    """Of the lowered program in ``folder``, in the form that is compiled for ``target``."""
    if target == "cpu":
        return digest_stablehlo((folder / STABLEHLO).read_text(encoding="utf-8"))
    return digest_hlo((folder / NEURON_HLO).read_bytes())


def _signature_digest(folder: Path) -> str:
    """Of kinds, shapes, types and aliases; what inputs are called decides nothing."""
    told = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    rows = {side: [[row[0], *row[2:]] for row in told[side]] for side in ("inputs", "outputs")}
    return digest_json([rows, told["aliases"]])


def digest_json(value: object) -> str:
    """sha256, hex, of ``value`` in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(patterns: tuple[str, ...]) -> str:
    """sha256, hex, of the parts of neuronc itself that match ``patterns``, below its package.

    Versions alone would let a checkout serve what yesterday's code made. About a megabyte is read.
    """
    root = Path(neuronc.__file__).parent
    digest = hashlib.sha256()
    for pattern in patterns:
        for found in sorted(root.glob(pattern)):
            files = [found] if found.is_file() else sorted(found.rglob("*"))
            for path in files:
                if path.suffix in (".py", ".toml"):
                    content = path.read_bytes()
                    digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
                    digest.update(content)
    return digest.hexdigest()
