"""One engine in a process of its own: ``python process.py ENGINE_FILE JOB_FILE``.

Runs in the engine's virtual environment, where nothing of neuronc is, so it and the engines import
nothing of each other: an engine is a file with ``prepare(model, folder, setting)``, which converts
the weights once, and a class ``Engine`` like the protocol below. The job is a JSON object. What it
gives are lines of standard output that begin with `MARK`: one when the weights are converted, or
one when the engine is open and warm and then one for each line of standard input, an answer.
"""

import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

MARK = "peer: "
"""Before what is told in JSON: engines print as well."""

OWN = "own"
"""Instead of a dtype: everything is the engine's own choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What an engine is prepared for and measured in.

    Attributes:
        dtype: Of weights, arithmetic and KV cache; `OWN` leaves these to the engine, and the
            number of threads and the length of its caches as well.
        prompt_tokens: Length of the prompt.
        new_tokens: How many follow.
        threads: To compute with; no preparation depends on them, so there it is 0.
    """

    dtype: str
    prompt_tokens: int
    new_tokens: int
    threads: int = 0

    @property
    def is_own(self) -> bool:
        """Whether the engine has to show what it does out of the box."""
        return self.dtype == OWN

    @property
    def max_length(self) -> int:
        """Of the whole sequence."""
        return self.prompt_tokens + self.new_tokens


class Engine(Protocol):
    """What a file under ``engines`` has to have; made from folder and setting.

    Attributes:
        versions: Of the packages that do the work.
        settings: Every one that is not the engine's default, by its name.
    """

    versions: dict[str, str]
    settings: dict[str, str]

    def generate(self, prompt: Sequence[int], count: int, on_token: Callable[[int], None]) -> None:
        """Exactly ``count`` greedy tokens, one call for each as soon as it is known."""

    def dtypes(self) -> dict[str, str]:
        """``weights``, ``compute`` and ``kv`` as the engine tells them, where it does."""


def main(arguments: Sequence[str]) -> None:
    """Prepare or answer, as the job says."""
    engine_file, job_file = map(Path, arguments)
    job = json.loads(job_file.read_text())
    module = load_file(engine_file)
    if job["do"] == "prepare":
        module.prepare(Path(job["model"]), Path(job["folder"]), Setting(**job["setting"]))
        tell({})
    else:
        if job["cpus"]:
            os.sched_setaffinity(0, set(job["cpus"]))
        answer(module.Engine, job)
    os._exit(0)  # some engines' threads do not end by themselves


def tell(result: dict[str, Any]) -> None:
    """Give ``result`` to who started this."""
    print(f"\n{MARK}{json.dumps(result)}", flush=True)


def load_file(path: Path) -> Any:
    """The module in ``path``; its folder stays off the path, where it would hide packages."""
    spec = importlib.util.spec_from_file_location("peer_engine", path)
    if spec is None or spec.loader is None:
        message = f"{path} is not a Python file"
        raise ImportError(message)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(make: Callable[[Path, Setting], Engine], job: dict[str, Any]) -> None:
    """Open and warm the engine; for every line of standard input answer the prompt once.

    The warm-up prompt goes before each: other engines had the caches meanwhile, and no cache of
    prefixes is to know the prompt.
    """
    setting = Setting(**job["setting"])
    count = setting.new_tokens
    begin = time.perf_counter()
    engine = make(Path(job["folder"]), setting)
    load_s = time.perf_counter() - begin
    for _ in range(job["warmups"]):
        generate(engine, job["warmup"], count)
    warmup_s = time.perf_counter() - begin - load_s
    rss_bytes = memory_bytes()
    dtypes = engine.dtypes()  # once: some compile the model again to tell
    if not setting.is_own:
        check_dtypes(dtypes, setting.dtype)
    tell({})
    for _ in sys.stdin:
        generate(engine, job["warmup"], count)
        run = generate(engine, job["prompt"], count)
        tell(
            {
                **run,
                "load_s": load_s,
                "warmup_s": warmup_s,
                "rss_bytes": rss_bytes,
                "versions": engine.versions,
                "settings": engine.settings,
                "dtypes": dtypes,
            }
        )


def generate(engine: Engine, prompt: Sequence[int], count: int) -> dict[str, Any]:
    """One answer: its tokens, the time to the first and the gaps between them."""
    tokens: list[int] = []
    times: list[float] = []

    def on_token(token: int) -> None:
        times.append(time.perf_counter())
        tokens.append(int(token))

    begin = time.perf_counter()
    engine.generate(prompt, count, on_token)
    if len(tokens) != count:
        message = f"{len(tokens)} tokens instead of {count}"
        raise RuntimeError(message)
    gaps = [1e3 * (after - before) for before, after in pairwise(times)]
    if statistics.fmean(gaps) < 1e-2:
        message = "the tokens came all at once, so nothing was timed"
        raise RuntimeError(message)
    return {"tokens": tokens, "ttft_ms": 1e3 * (times[0] - begin), "itl_ms": gaps}


def check_dtypes(told: dict[str, str], wanted: str) -> None:
    """Refuse an engine that says it stores or computes in something else."""
    wrong = {what: dtype for what, dtype in told.items() if dtype != wanted}
    if wrong:
        message = f"measured in {wrong}, not in {wanted}"
        raise RuntimeError(message)


def memory_bytes() -> int:
    """Resident memory now: of an engine that is open and warm."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(sys.argv[1:])
