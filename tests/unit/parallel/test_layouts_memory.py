"""What writing and reading a layout needs, measured in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.families.model_config import read_model_config
from neuronc.parallel.split_memory import SplitMemory
from tests.unit.parallel.decoder_shapes import SMOLLM2, decoder_shapes

MEASURE = """
import re, sys
from pathlib import Path
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
import ml_dtypes, torch, torch.serialization, ast  # not part of what is measured

source, out_dir, layout = sys.argv[1:]
# of this process alone; getrusage starts from the peak of the process that spawned it
peak_kb = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak_kb()
split_checkpoint(open_any_checkpoint(source), Path(out_dir), tp=1, dtype="auto", options=SplitOptions(layout=layout))
print((peak_kb() - before) * 1024)
"""


def grown_bytes(source: Path, out_dir: Path, layout: str) -> int:
    out_dir.mkdir()
    command = [sys.executable, "-c", MEASURE, str(source), str(out_dir), layout]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["transformers-neuronx", "nxdi"])
def test_writing_and_reading_need_a_few_tensors_and_not_the_checkpoint(
    tmp_path: Path, layout: str
) -> None:
    sizes = {"hidden_size": 1152, "intermediate_size": 3456, "num_hidden_layers": 8}
    fields = {**SMOLLM2, **sizes, "vocab_size": 3456}
    shapes = decoder_shapes(read_model_config(fields, source="test"))
    largest_bytes = 4 * max(int(np.prod(shape)) for shape in shapes.values())
    source = tmp_path / "in"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(fields))
    save_file({n: np.ones(s, np.float32) for n, s in shapes.items()}, source / "model.safetensors")

    written = grown_bytes(source, tmp_path / "out", layout)
    read_back = grown_bytes(tmp_path / "out", tmp_path / "again", "neuronc")

    memory = SplitMemory()
    blocks = memory.budget_bytes + memory.buffer_bytes(1)
    # Blocks that wait, and tensors that are mapped, read and turned for the next ones: how many at
    # once depends on which thread is faster. 138 to 172 MB were measured.
    bound_bytes = 8 * largest_bytes + blocks
    assert (source / "model.safetensors").stat().st_size > 2 * bound_bytes
    assert max(written, read_back) < bound_bytes
