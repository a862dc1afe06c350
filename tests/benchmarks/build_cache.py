"""What the cache saves: builds cold, warm, frozen and unchanged; its own cost; hits over 30 edits.

    python -m tests.benchmarks.build_cache --checkpoint CHECKPOINT --rounds 3 --out build_cache.json

Builds are whole processes, from the first import to the exit code, verification included. Each
round has a store of its own, and takes its four builds and numbers of workers one after the other,
so that a load that comes and goes meets them all. The edits are of a tiny model of our own, seeded.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from neuronc.cache.local_store import LocalStore
from tests.tiny_models import edit_config, make_checkpoint

BUILDS = ("cold", "warm", "frozen", "unchanged")
"""Empty store; store filled, new folder; the same with --frozen; the folder is there already."""
SIZES = ("--batch-size", "2", "--max-length", "512", "--prefill-buckets", "32,128")
TINY_SIZES = ("--batch-size", "2", "--max-length", "64", "--prefill-buckets", "8,16")
NUM_EDITS, SEED, REPEATS = 30, 7, 5


def main() -> None:
    asked = _arguments()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="build-cache-") as folder:
        root = Path(folder)
        tiny = make_checkpoint(root / "tiny")
        checkpoint = asked.checkpoint or str(tiny)
        sizes = SIZES if asked.checkpoint else TINY_SIZES
        load = [os.getloadavg()]
        seconds = measure_builds(checkpoint, sizes, asked.rounds, asked.jobs, root)
        load.append(os.getloadavg())
        overhead = measure_overhead(root / "store")
        edits = list(run_edits(tiny, asked.edits, root)) if asked.edits else []
        load.append(os.getloadavg())
    document = {
        "checkpoint": asked.checkpoint or "tiny llama",
        "sizes": list(sizes),
        "tp": 2,
        "rounds": asked.rounds,
        "seconds": {f"{jobs} workers": found for jobs, found in seconds.items()},
        "overhead_ms": overhead,
        "edits": [asdict(edit) for edit in edits],
        "load": load,
    }
    draw(document, console)
    if asked.out:
        asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", help="default: a tiny model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of workers")
    parser.add_argument("--edits", type=int, default=NUM_EDITS)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def build(*arguments: str, store: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole process, and its report."""
    command = [sys.executable, "-m", "neuronc", "build", *arguments, "--json", "--quiet"]
    begin_s = time.perf_counter()
    done = subprocess.run(
        [*command, "--cache", str(store)], check=False, stdout=subprocess.PIPE, text=True
    )
    took_s = time.perf_counter() - begin_s
    document = json.loads(done.stdout)
    if not document["ok"]:
        raise SystemExit(document["error"]["message"])
    return took_s, document["data"]


def measure_builds(
    checkpoint: str, sizes: tuple[str, ...], rounds: int, workers: list[int], root: Path
) -> dict[int, dict[str, list[float]]]:
    """Seconds of every build, by number of workers; the last store stays at ``root/store``."""
    seconds: dict[int, dict[str, list[float]]] = {
        jobs: {name: [] for name in BUILDS} for jobs in workers
    }
    for _ in range(rounds):
        for jobs in workers:
            store, out = root / "store", root / "out"
            shutil.rmtree(store, ignore_errors=True)
            for name in BUILDS:
                if name != "unchanged":
                    shutil.rmtree(out, ignore_errors=True)
                flags = ["--frozen"] if name == "frozen" else []
                took_s, report = build(
                    checkpoint, "-o", str(out), "--tp", "2", "--dtype", "f32", *sizes,
                    "--jobs", str(jobs), *flags, store=store,
                )  # fmt: skip
                if bool(report["made"]) != (name == "cold"):
                    message = f"the {name} build made {report['made']}"
                    raise SystemExit(message)
                seconds[jobs][name].append(round(took_s, 3))
    shutil.rmtree(root / "out")
    return seconds


def measure_overhead(root: Path) -> dict[str, dict[str, float]]:
    """Median milliseconds to take an entry from the store and to put it, by kind; mean bytes."""
    taken, put, sizes = defaultdict(list), defaultdict(list), defaultdict(list)
    store = LocalStore(root=root)
    for entry in store.entries():
        kind, names = entry.key.kind, [file.path for file in entry.files]
        sizes[kind].append(entry.size_bytes)
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory(dir=root.parent) as folder:
                begin_s = time.perf_counter()
                store.take(entry.key, Path(folder))
                taken[kind].append((time.perf_counter() - begin_s) * 1e3)
                other = LocalStore(root=Path(folder, "other"))
                begin_s = time.perf_counter()
                other.put(entry.key, Path(folder), names, entry.facts)
                put[kind].append((time.perf_counter() - begin_s) * 1e3)
    return {
        kind: {
            "take": round(median(taken[kind]), 2),
            "put": round(median(put[kind]), 2),
            "bytes": sum(sizes[kind]) / len(sizes[kind]),
        }
        for kind in sizes
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A recipe and its checkpoint, as far as edits change them."""

    tp: int = 1
    batch_size: int = 1
    max_length: int = 64
    prefill: tuple[int, ...] = (8, 16)
    decode: tuple[int, ...] = (64,)
    dtype: str = "f32"
    theta: float = 10_000.0
    seed: int = 0
    eos: int = 2
    folder: str = "model"

    def programs(self) -> set[tuple[object, ...]]:
        """What its programs depend on, told apart without asking the cache."""
        shared = (self.tp, self.batch_size, self.max_length, self.dtype, self.theta)
        buckets = [("prefill", b) for b in self.prefill] + [("decode", b) for b in self.decode]
        return {(*bucket, *shared) for bucket in buckets}


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """One edit and the build after it.

    Attributes:
        what: Was edited.
        programs: The build has.
        made: Were compiled.
        unseen: No build before had: what a perfect cache would compile.
        seconds: Of the whole process, without verification.
    """

    what: str
    programs: int
    made: int
    unseen: int
    seconds: float


def edits_of(state: State, before: list[State], random: Random) -> dict[str, State]:
    """What people change between builds, and the state after each."""
    spare_prefill = [b for b in (8, 16, 24, 32, 48) if b not in state.prefill]
    larger = tuple(sorted((*state.prefill, random.choice(spare_prefill))))
    decode = (32, state.max_length) if len(state.decode) == 1 else (state.max_length,)
    longer = 192 - state.max_length  # 64 or 128
    return {
        "add a prefill bucket": replace(state, prefill=larger[:4]),
        "remove a prefill bucket": replace(state, prefill=state.prefill[:-1] or (8,)),
        "add or remove a decode bucket": replace(state, decode=decode),
        "batch size": replace(state, batch_size=3 - state.batch_size),
        "tp": replace(state, tp=3 - state.tp),
        "dtype": replace(state, dtype="bf16" if state.dtype == "f32" else "f32"),
        "max length": replace(state, max_length=longer, decode=(*state.decode[:-1], longer)),
        "other weights": replace(state, seed=state.seed + 1),
        "config field without effect": replace(state, eos=2 + (state.eos + 1) % 50),
        "checkpoint in another folder": replace(state, folder=f"{state.folder}x"),
        "rope theta": replace(state, theta=state.theta * 2),
        "back to an earlier recipe": replace(random.choice(before), seed=state.seed),
    }


def run_edits(tiny: Path, count: int, root: Path) -> Iterator[Edit]:
    """Build after every edit, into the same store; the first build is not counted.

    Every edit comes once before any comes again, in an order that the seed decides.
    """
    random, state = Random(SEED), State()
    before, seen = [state], set(state.programs())
    _build_state(state, tiny, root)
    names: list[str] = []
    for _ in range(count):
        choices = edits_of(state, before, random)
        names = names or random.sample(sorted(choices), len(choices))
        name = names.pop()
        state = choices[name]
        took_s, report = _build_state(state, tiny, root)
        asked = state.programs()
        yield Edit(
            what=name,
            programs=len(asked),
            made=len(report["made"]),
            unseen=len(asked - seen),
            seconds=round(took_s, 2),
        )
        seen |= asked
        before.append(state)


def _build_state(state: State, tiny: Path, root: Path) -> tuple[float, dict[str, Any]]:
    folder, out = root / state.folder, root / "edited"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    if state.seed:
        make_checkpoint(folder, seed=state.seed)
    else:
        shutil.copytree(tiny, folder)
    rope = {"rope_type": "default", "rope_theta": state.theta}
    edit_config(folder, eos_token_id=state.eos, rope_parameters=rope)
    return build(
        str(folder), "-o", str(out), "--no-verify", "--tp", str(state.tp),
        "--batch-size", str(state.batch_size), "--max-length", str(state.max_length),
        "--prefill-buckets", ",".join(map(str, state.prefill)),
        "--decode-buckets", ",".join(map(str, state.decode)),
        "--dtype", state.dtype, store=root / "edits",
    )  # fmt: skip


def draw(document: dict[str, Any], console: Console) -> None:
    """The figures, ratios side by side."""
    table = Table(title=f"{document['checkpoint']}, tp=2, median of {document['rounds']}")
    for column in ("workers", *BUILDS, "cold / warm", "cold / unchanged"):
        table.add_column(column, justify="right")
    for workers, found in document["seconds"].items():
        medians = {name: median(values) for name, values in found.items()}
        ratios = [medians["cold"] / medians[name] for name in ("warm", "unchanged")]
        seconds = [f"{medians[name]:.2f} s" for name in BUILDS]
        table.add_row(workers, *seconds, *(f"{ratio:.1f}x" for ratio in ratios))
    console.print(table)
    table = Table(title="the store's own time, an entry, median")
    for column in ("kind", "take", "put", "size"):
        table.add_column(column, justify="right")
    for kind, ms in document["overhead_ms"].items():
        cells = (f"{ms['take']:.2f} ms", f"{ms['put']:.2f} ms", f"{ms['bytes'] / 1e6:.2f} MB")
        table.add_row(kind, *cells)
    console.print(table)
    if edits := document["edits"]:
        _draw_edits(edits, console)
    loads = ", ".join(f"{one[0]:.2f}" for one in document["load"])
    console.print(f"load before, between and after: {loads}")


def _draw_edits(edits: list[dict[str, Any]], console: Console) -> None:
    table = Table(title=f"{len(edits)} edits of a tiny model's recipe, seed {SEED}")
    for column in ("edit", "programs", "compiled", "never seen before", "seconds"):
        table.add_column(column, justify="left" if column == "edit" else "right")
    for one in edits:
        row = (one["programs"], one["made"], one["unseen"], one["seconds"])
        table.add_row(one["what"], *map(str, row))
    console.print(table)
    programs, made, unseen = (
        sum(one[name] for one in edits) for name in ("programs", "made", "unseen")
    )
    console.print(
        f"hit rate {1 - made / programs:.1%}: {made} of {programs} programs compiled;"
        f" {unseen} were never seen before, so {programs - made} of {programs - unseen} that an"
        " earlier build had made were found"
    )


if __name__ == "__main__":
    main()
