"""What splitting costs and needs, measured in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from neuronc.families.model_config import read_model_config
from tests.unit.parallel.decoder_shapes import SMOLLM2, decoder_shapes

SPLIT = """
import json, re, sys
from pathlib import Path
import neuronc.parallel.split_memory, neuronc.parallel.split_tensors
from neuronc.checkpoint.checkpoint import open_checkpoint
import ml_dtypes, ast  # not part of what is measured

source, out_dir, dtype, block_bytes = sys.argv[1:]
neuronc.parallel.split_memory.DEFAULT_BLOCK_BYTES = int(block_bytes)
# of this process alone; getrusage starts from the peak of the process that spawned it
peak_kb = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak_kb()
neuronc.parallel.split_tensors.split_checkpoint(
    open_checkpoint(source), Path(out_dir), tp=2, dtype=dtype
)
heavy = [name for name in ("torch", "jax", "transformers") if name in sys.modules]
print(json.dumps({"grown_bytes": (peak_kb() - before) * 1024, "heavy": heavy}))
"""


BLOCK_BYTES = 4 << 20


def split_in_process(source: Path, out_dir: Path, dtype: str) -> dict[str, object]:
    out_dir.mkdir()
    command = [sys.executable, "-c", SPLIT, str(source), str(out_dir), dtype, str(BLOCK_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_splitting_safetensors_imports_no_framework(tiny_llama: Path, tmp_path: Path) -> None:
    found = split_in_process(tiny_llama, tmp_path / "out", "bf16")

    assert found["heavy"] == []
    assert (tmp_path / "out" / "rank-1.safetensors").is_file()


def test_peak_memory_is_a_few_tensors_and_not_the_checkpoint(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1152, "intermediate_size": 3456, "num_hidden_layers": 4}
    fields = {**SMOLLM2, **sizes, "vocab_size": 3456}
    shapes = decoder_shapes(read_model_config(fields, source="test"))
    largest_bytes = 4 * max(int(np.prod(shape)) for shape in shapes.values())
    source = tmp_path / "in"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(fields))
    save_file({n: np.zeros(s, np.float32) for n, s in shapes.items()}, source / "model.safetensors")

    found = split_in_process(source, tmp_path / "out", "bf16")

    assert (source / "model.safetensors").stat().st_size > 12 * largest_bytes
    assert int(str(found["grown_bytes"])) < 16 * BLOCK_BYTES + largest_bytes
