"""What splitting costs beside copying: ``python -m tests.benchmarks.split_speed``.

A random checkpoint of Llama-3.2-1B's shapes (2.5 GB, bf16) is copied by ``cp``, split by neuronc, and
loaded and saved by safetensors and by transformers, a process each, in turn, on one disk in one run.
``cp`` is timed with and without flushing the copy to the disk, which neuronc always does. Ratios are
of ``cp``'s rate to the other's, of the bytes that each writes: 1.0 is as fast as ``cp``.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neuronc.checkpoint.files_writer import FilesWriter, PlannedFile
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.families.model_config import read_model_config
from tests.unit.parallel.decoder_shapes import decoder_shapes

CONFIG = Path(__file__).parents[2] / "recipes" / "configs" / "llama-3.2-1b" / "config.json"
ROWS_BYTES = 8 << 20

MEASURED = """
import re, sys, time
begin = time.perf_counter()
{work}
took = time.perf_counter() - begin
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(took, int(peak) * 1024)
"""
SPLIT = "from neuronc.cli.app import main; sys.stdout = sys.stderr\nassert main({argv!r}) == 0\nsys.stdout = sys.__stdout__"
SAFETENSORS = """
from safetensors.torch import load_file, save_file
save_file(load_file({source!r} + "/model.safetensors"), {out!r})
"""
TRANSFORMERS = """
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained({source!r}, dtype="bfloat16").save_pretrained({out!r})
"""


def make_checkpoint(folder: Path) -> None:
    """Write random weights, a few rows in memory at a time."""
    folder.mkdir()
    shutil.copy(CONFIG, folder)
    config = read_model_config(json.loads(CONFIG.read_text()), source="benchmark")
    bf16 = DTYPES["bf16"]
    infos = [
        TensorInfo(name=name, shape=shape, dtype=bf16)
        for name, shape in decoder_shapes(config).items()
    ]
    values = np.random.default_rng(0).normal(0, 0.02, ROWS_BYTES // 2).astype(numpy_dtype(bf16))
    file = PlannedFile(path="model.safetensors", tensors=tuple(infos))
    with (
        Lanes(budget_bytes=1 << 26) as lanes,
        FilesWriter(folder, [file], lanes=lanes, lane=1, metadata={"format": "pt"}) as writer,
    ):
        for info in infos:
            width = int(np.prod(info.shape[1:]))
            step = max(1, values.size // width)
            for start in range(0, info.shape[0], step):
                rows = min(step, info.shape[0] - start)
                writer.append(info.name, values[: rows * width].reshape(rows, *info.shape[1:]))
            writer.finish(info.name)


def run(work: str) -> tuple[float, int]:
    """Seconds of ``work`` in a process of its own, imports included, and its peak memory."""
    command = [sys.executable, "-c", MEASURED.format(work=work)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took, peak = done.stdout.split()[-2:]
    return float(took), int(peak)


def copy(source: Path, out: Path, *, flush: bool) -> tuple[float, int]:
    """Seconds of ``cp``, with its copy flushed to the disk or not."""
    begin_s = time.perf_counter()
    subprocess.run(["cp", str(source / "model.safetensors"), str(out)], check=True)
    if flush:
        descriptor = os.open(out, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - begin_s, 0


def split(source: Path, out: Path, *flags: str) -> tuple[float, int]:
    """Seconds of ``neuronc split``."""
    argv = ["split", str(source), "-o", str(out), "--quiet", *flags]
    return run(SPLIT.format(argv=argv))


def ways(source: Path, out: Path) -> dict[str, Callable[[], tuple[float, int]]]:
    """What is compared, by name."""
    told = {"source": str(source), "out": str(out)}
    return {
        "cp": lambda: copy(source, out, flush=False),
        "cp, flushed": lambda: copy(source, out, flush=True),
        "neuronc split --tp 1": lambda: split(source, out),
        "neuronc split --tp 4": lambda: split(source, out, "--tp", "4"),
        "neuronc split --tp 4 --dtype f32": lambda: split(
            source, out, "--tp", "4", "--dtype", "f32"
        ),
        "neuronc split --tp 4 --link": lambda: split(source, out, "--tp", "4", "--link"),
        "safetensors.torch load, save": lambda: run(SAFETENSORS.format(**told)),
        "transformers load, save": lambda: run(TRANSFORMERS.format(**told)),
    }


def written_bytes(out: Path) -> int:
    """Bytes of the file or folder ``out``."""
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def clear(out: Path) -> None:
    """Remove what a run wrote, and let the disk come to rest."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    os.sync()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        source, out = Path(place) / "checkpoint", Path(place) / "out"
        make_checkpoint(source)
        took: dict[str, list[float]] = {}
        sizes: dict[str, int] = {}
        peaks: dict[str, int] = {}
        for _ in range(options.rounds):
            for name, measure in ways(source, out).items():
                clear(out)
                seconds, peak = measure()
                took.setdefault(name, []).append(seconds)
                sizes[name], peaks[name] = written_bytes(out), max(peak, peaks.get(name, 0))
        clear(out)
    rates = {name: sizes[name] / statistics.median(times) / 1e6 for name, times in took.items()}
    print("| | s (median, min to max) | MB written | MB/s | of cp | of cp, flushed | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for name, times in took.items():
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        ratios = [f"{rates[name] / rates[other]:.2f}" for other in ("cp", "cp, flushed")]
        memory = f"{peaks[name] / 1e6:.0f}" if peaks[name] else ""
        cells = [name, spread, f"{sizes[name] / 1e6:.0f}", f"{rates[name]:.0f}", *ratios, memory]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
