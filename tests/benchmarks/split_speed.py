"""What splitting costs beside copying: ``python -m tests.benchmarks.split_speed``.

A random checkpoint of Llama-3.2-1B's shapes (2.5 GB, bf16) is copied by ``cp``, split by neuronc, and
loaded and saved by safetensors and by transformers, a process each, on one disk in one run, in
another order each round. ``cp`` is timed with and without flushing the copy to the disk, which neuronc
always does. Ratios are of the others' rates to ``cp``'s, of the bytes that each writes: 1.0 is as fast
as ``cp``.

Before each, the disk comes to rest, the checkpoint is read into the page cache, and as much memory as
``cp`` fills is used once and freed: a virtual machine may have given it back to its host, and getting
it again takes three times as long as copying. ``cp`` pays that and neuronc does not, which is not
what is compared here.
"""

import argparse
import compileall
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import neuronc
from neuronc.checkpoint.files_writer import FilesWriter, PlannedFile
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.families.model_config import read_model_config
from tests.unit.parallel.decoder_shapes import decoder_shapes

CONFIG = Path(__file__).parents[2] / "recipes" / "configs" / "llama-3.2-1b" / "config.json"
ROWS_BYTES = 8 << 20

MEASURED = """
import re, sys
{work}
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(int(peak) * 1024)
"""
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
    """Seconds of ``work`` in a process of its own, from start to end, and its peak memory."""
    command = [sys.executable, "-c", MEASURED.format(work=work)]
    begin_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - begin_s, int(done.stdout.split()[-1])


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
    """Seconds of ``neuronc split`` as people run it, and the peak memory that it reports."""
    command = [sys.executable, "-m", "neuronc", "split", str(source), "-o", str(out)]
    begin_s = time.perf_counter()
    done = subprocess.run([*command, "--json", "--quiet", *flags], capture_output=True, check=True)
    return time.perf_counter() - begin_s, json.loads(done.stdout)["data"]["peak_rss_bytes"]


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
    """Remove what a run wrote."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)


def come_to_rest(source: Path) -> None:
    """The state that every measurement begins in; see above."""
    os.sync()
    size_bytes = 0
    with (source / "model.safetensors").open("rb", buffering=0) as file:
        while read := len(file.read(ROWS_BYTES)):
            size_bytes += read
    np.ones(size_bytes + size_bytes // 4, np.uint8)


@dataclass(kw_only=True)
class Found:
    """What was measured of one way."""

    took: list[float]
    written_bytes: int
    peak_bytes: int

    def rate(self, of: Callable[[list[float]], float] = statistics.median) -> float:
        """MB written in a second, by the median of the rounds or another of their times."""
        return self.written_bytes / of(self.took) / 1e6


def measure(source: Path, out: Path, *, rounds: int, only: str) -> dict[str, Found]:
    """Every way by name, each round in another order."""
    chosen = {name: way for name, way in ways(source, out).items() if name.startswith(("cp", only))}
    found = {name: Found(took=[], written_bytes=0, peak_bytes=0) for name in chosen}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(chosen), len(chosen)):
            clear(out)
            come_to_rest(source)
            seconds, peak = chosen[name]()
            found[name].took.append(seconds)
            found[name].written_bytes = written_bytes(out)
            found[name].peak_bytes = max(peak, found[name].peak_bytes)
    clear(out)
    return found


def print_table(found: dict[str, Found]) -> None:
    """Seconds, rates, and rates beside those of ``cp``."""
    print("| | s: median (min to max) | MB written | MB/s | of cp | of cp, flushed | by min | MB |")
    print("|---|---|---|---|---|---|---|---|")
    cp, flushed = found["cp"], found["cp, flushed"]
    for name, way in found.items():
        cells = [
            name,
            f"{statistics.median(way.took):.2f} ({min(way.took):.2f} to {max(way.took):.2f})",
            f"{way.written_bytes / 1e6:.0f}",
            f"{way.rate():.0f}",
            f"{way.rate() / cp.rate():.2f}",
            f"{way.rate() / flushed.rate():.2f}",
            f"{way.rate(min) / flushed.rate(min):.2f}",
            f"{way.peak_bytes / 1e6:.0f}" if way.peak_bytes else "",
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="how the names of what is measured begin")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args()
    compileall.compile_dir(Path(neuronc.__file__).parent, quiet=1)  # as an installation does
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        source, out = Path(place) / "checkpoint", Path(place) / "out"
        make_checkpoint(source)
        print_table(measure(source, out, rounds=options.rounds, only=options.only))


if __name__ == "__main__":
    main()
