"""neuronc's CPU target beside other engines: ``python -m tests.benchmarks.peers``.

All run SmolLM2-135M-Instruct: a prompt of 128 random ids and 64 greedy tokens, one sequence, the
same weights and the same dtype of weights, arithmetic and KV cache, on the same CPUs; each in a
process of its own that stays open. They answer in turns, one answer each a round, in another order
every round: memory is not as fast from minute to minute, and what is compared should be seconds
apart. With --defaults each runs once more as it comes out of the box, in a table of its own.
Engines are installed into environments in the cache folder, and their weights are converted there,
once. An engine that cannot take part is named with the reason.
"""

import argparse
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from neuronc.bench.roofline.cpu_peaks import measure_cpu
from tests.benchmarks.peers.catalog import OURS, PEERS
from tests.benchmarks.peers.model import prepare_model, weight_bytes
from tests.benchmarks.peers.preparing import Ready, prepare
from tests.benchmarks.peers.process import OWN
from tests.benchmarks.peers.processes import EngineProcess, Outcome
from tests.benchmarks.peers.rounds import Cell, Rounds, beside, run_rounds, shuffled_orders
from tests.benchmarks.peers.summary import Row, summarize
from tests.benchmarks.peers.table import console, markdown, rich_table, titled

VOCABULARY, PROMPT, COUNT, SEED = 49152, 128, 64, 7
WARMUPS = 2  # torch.compile compiles again for the second answer
LENGTHS = {"prompt_tokens": PROMPT, "new_tokens": COUNT}
REFERENCE = "transformers"
PUBLISHED = "bf16"  # what checkpoints come in: the one that engines get to make their own of


def main() -> None:
    """Prepare, run the rounds, print the table, write the files."""
    options = _options()
    screen = console()
    options.cache.mkdir(parents=True, exist_ok=True)
    models = {dtype: prepare_model(options.cache, dtype) for dtype in options.dtypes}
    sizes = {dtype: weight_bytes(model) for dtype, model in models.items()}
    if options.defaults:
        models[OWN] = prepare_model(options.cache, PUBLISHED)
    wanted = [peer for peer in PEERS if not options.engines or peer.name in options.engines]
    ready, reasons = prepare(wanted, models, options.cache, **LENGTHS, tell=screen.log)
    reference = _reference(options.cache)

    def report(rounds: Rounds, bandwidth: float) -> list[Row]:
        rows = summarize(
            rounds, ours=OURS, reference=reference, weight_bytes=sizes, read_bytes_per_s=bandwidth
        )
        _write(options.out, rows, rounds, reasons, bandwidth)
        return rows

    rows = report(*_measure(ready, options, tell=screen.log, report=report))
    for title, found in titled(rows):
        screen.print(rich_table(title, found, OURS))
    for name, reason in reasons.items():
        screen.print(f"left out: {name}: {reason}", highlight=False)


def _measure(
    ready: Mapping[tuple[str, str], Ready],
    options: argparse.Namespace,
    *,
    tell: Callable[[str], None],
    report: Callable[[Rounds, float], object],
) -> tuple[Rounds, float]:
    """The rounds, and the read bandwidth in bytes per second, before or after, the better."""
    before = measure_cpu().read_bytes_per_s
    rounds: Rounds = []
    for cells in _groups(ready, options.threads):
        with ExitStack() as stack:
            answers = {}
            for cell in cells:
                engine = _engine(ready[cell.engine, cell.dtype], cell)
                answers[cell] = stack.enter_context(closing(engine)).answer
            found: Rounds = []
            orders = shuffled_orders(cells, options.rounds, SEED)
            for found in run_rounds(orders, answers, tell=tell):
                report(beside(rounds, found), before)  # who stops a run loses no more than a round
        rounds = beside(rounds, found)
    return rounds, max(before, measure_cpu().read_bytes_per_s)


def _groups(ready: Iterable[tuple[str, str]], threads: Sequence[int]) -> list[list[Cell]]:
    """What is compared with each other, and so open at the same time: a dtype and its threads."""
    groups: dict[tuple[str, int], list[Cell]] = {}
    for name, dtype in ready:
        for number in [0] if dtype == OWN else threads:
            cell = Cell(engine=name, dtype=dtype, threads=number)
            groups.setdefault((dtype, number), []).append(cell)
    return list(groups.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(tempfile.gettempdir()) / "neuronc-peers"
    parser.add_argument("--cache", type=Path, default=default, help="environments and weights")
    parser.add_argument("--out", type=Path, default=Path("peers"), help="folder of the results")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[len(os.sched_getaffinity(0))])
    parser.add_argument(
        "--defaults", action="store_true", help="measure each once more as it comes out of the box"
    )
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    names = [peer.name for peer in PEERS]
    parser.add_argument("--engines", nargs="+", choices=names, help="all if left out")
    return parser.parse_args()


def _prompts() -> dict[str, list[int]]:
    """What is measured and what warms up: no cache of prefixes can confuse the two."""
    dice = random.Random(SEED)
    return {name: dice.choices(range(3, VOCABULARY), k=PROMPT) for name in ("prompt", "warmup")}


def _engine(ready: Ready, cell: Cell) -> EngineProcess:
    job = {
        "do": "answer",
        "folder": str(ready.folder),
        "setting": {"dtype": cell.dtype, "threads": cell.threads, **LENGTHS},
        "cpus": sorted(os.sched_getaffinity(0))[: cell.threads],
        "warmups": WARMUPS,
        **_prompts(),
    }
    return EngineProcess(ready.python, ready.engine, job)


def _reference(cache: Path) -> list[int]:
    """What transformers says in f32; asked once."""
    answer = cache / f"reference-{SEED}-{PROMPT}-{COUNT}.json"
    if not answer.exists():
        peer = next(peer for peer in PEERS if peer.name == REFERENCE)
        model = {"f32": prepare_model(cache, "f32")}
        ready, _ = prepare([peer], model, cache, **LENGTHS, tell=lambda _: None)
        cell = Cell(engine=peer.name, dtype="f32", threads=len(os.sched_getaffinity(0)))
        with closing(_engine(ready[peer.name, "f32"], cell)) as engine:
            outcome = engine.answer()
        if outcome.result is None:
            message = f"no reference: {outcome.reason}"
            raise SystemExit(message)
        answer.write_text(json.dumps(outcome.result["tokens"]))
    tokens: list[int] = json.loads(answer.read_text())
    return tokens


def _write(
    out: Path, rows: list[Row], rounds: Rounds, reasons: dict[str, str], bandwidth: float
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    runs = [[_run_dict(cell, outcome) for cell, outcome in found.items()] for found in rounds]
    document = {
        "prompt_tokens": PROMPT,
        "new_tokens": COUNT,
        "read_bytes_per_s": bandwidth,
        "rows": [row.to_dict() for row in rows],
        "left_out": reasons,
        "rounds": runs,
    }
    (out / "peers.json").write_text(json.dumps(document, indent=1))
    tables = "\n".join(markdown(title, found, OURS) for title, found in titled(rows))
    left_out = "".join(f"\nLeft out: {name}: {why}\n" for name, why in reasons.items())
    (out / "peers.md").write_text(tables + left_out)


def _run_dict(cell: Cell, outcome: Outcome) -> dict[str, Any]:
    return {
        "engine": cell.engine,
        "dtype": cell.dtype,
        "threads": cell.threads,
        "reason": outcome.reason,
        "others_cpu": outcome.others,
        "result": outcome.result,
    }


if __name__ == "__main__":
    main()
