"""``neuron_config.json``, the file that NxD Inference keeps beside its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronc.checkpoint.paths import writing
from neuronc.dtypes import Dtype

NEURON_CONFIG = "neuron_config.json"


def write_neuron_config(config: Mapping[str, Any], out_dir: Path, tp: int, element: Dtype) -> str:
    """Write what a split knows, in the form of NxD Inference, and return the file's name.

    NxD Inference saves its whole ``InferenceConfig``: the fields of ``config.json``, and in
    ``neuron_config`` what was chosen for the device; keys sorted, indent 2 (``models/config.py``).
    Of the latter these are written, and no others:

    * ``tp_degree``: number of rank files in ``weights/``.
    * ``torch_dtype``: torch's name of the element type of every tensor in them.
    * ``save_sharded_checkpoint``: true, the weights lie beside this file.

    Batch sizes, lengths and buckets belong to a compiled model; the reader's defaults hold.

    Raises:
        PlanError: The disk is full.
        UsageError: ``out_dir`` cannot be written.
    """
    chosen = {"tp_degree": tp, "torch_dtype": element.torch, "save_sharded_checkpoint": True}
    fields = {**config, "neuron_config": chosen}
    text = json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with writing(out_dir / NEURON_CONFIG, needed_bytes=len(text)):
        (out_dir / NEURON_CONFIG).write_text(text, encoding="utf-8")
    return NEURON_CONFIG
