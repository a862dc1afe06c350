"""An artifact of a few bytes, made by hand: what describes it needs no program that runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronc.artifact.contents import digest_files
from neuronc.artifact.manifest import Manifest, write_manifest
from neuronc.provenance.inputs import Descriptor
from neuronc.provenance.write import write_documents
from tests.unit.artifact.test_hostile_manifest import manifest as bare_manifest

INPUTS: tuple[Descriptor, ...] = (
    {
        "name": "checkpoint",
        "uri": "pkg:huggingface/org/model@" + "1" * 40,
        "digest": {"neuroncFilesV1": "2" * 64, "gitCommit": "1" * 40},
        "annotations": {
            "source": "x",
            "license": "apache-2.0",
            "base_models": ["org/base"],
            "said_in": "README.md",
        },
    },
    {
        "name": "checkpoint/model.safetensors",
        "digest": {"sha256": "3" * 64},
        "annotations": {"size_bytes": 12},
    },
)
REQUEST: dict[str, Any] = {
    "checkpoint": "/home/somebody/models/x",
    "adapter": "/home/somebody/adapters/polite",
    "checkpoint_files": "5" * 64,
    "tp": 1,
}


def make_small(folder: Path, *, request: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    """Write a small artifact with provenance into the new ``folder``."""
    for name, text in (
        ("weights/config.json", '{"model_type": "llama"}'),
        ("weights/rank-0.safetensors", "weights"),
        ("programs/prefill_8/program.hlo.pb", "program"),
        ("programs/prefill_8/cpu.exe", "executable"),
        ("programs/prefill_8/neuronx-cc.log", "took 3 s"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tools = {"neuronc": "0.1", "torch": "2.13.0+cpu", "jaxlib": "0.9", "absent": None}
    fields = {"files": digest_files(folder), "tool_versions": tools, **changes}
    manifest = replace(bare_manifest(), request=REQUEST if request is None else request, **fields)
    write_manifest(manifest, folder)
    write_documents(folder, manifest, INPUTS)
    return manifest
