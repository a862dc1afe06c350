"""Engine processes: started, timed beside the rest of the machine, and their failures told."""

import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.venvs import last_line

PROCESS = Path(__file__).with_name("process.py")
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 1800
_LEAVE_OUT = ("OPENBLAS_CORETYPE", "XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What an engine process gave.

    Attributes:
        result: Its JSON; None if it failed.
        reason: Why it failed.
        others: Share of the machine's CPU time that went to other processes meanwhile.
    """

    result: Mapping[str, Any] | None
    reason: str = ""
    others: float = 0.0


def run_engine(python: Path, engine: Path, job: Mapping[str, Any]) -> Outcome:
    """One process of ``engine``; never raises for what the engine does."""
    begin, busy, own = time.perf_counter(), _busy_s(), _children_s()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        command = [str(python), "-P", str(PROCESS), str(engine), file.name]
        try:
            done = subprocess.run(
                command,
                env=_environment(job),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(result=None, reason=f"no result after {TIMEOUT_S} s")
        except OSError as error:
            return Outcome(result=None, reason=f"{error.strerror}: {python}")
    elapsed = (time.perf_counter() - begin) * (os.cpu_count() or 1)
    others = max(0.0, (_busy_s() - busy) - (_children_s() - own)) / elapsed
    return _outcome(done, others)


def _outcome(done: "subprocess.CompletedProcess[str]", others: float) -> Outcome:
    if done.returncode != 0:
        reason = f"exit status {done.returncode}: {last_line(done.stderr)}"
        return Outcome(result=None, reason=reason, others=others)
    try:
        result = json.loads(last_line_whole(done.stdout))
    except ValueError:
        return Outcome(result=None, reason="its last line is not JSON", others=others)
    return Outcome(result=result, others=others)


def last_line_whole(text: str) -> str:
    """The last line that is not empty."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _environment(job: Mapping[str, Any]) -> dict[str, str]:
    """The caller's, without what would tune some engines and not the others."""
    kept = {name: value for name, value in os.environ.items() if name not in _LEAVE_OUT}
    cpus = job.get("cpus")
    own = cpus == []  # no CPUs are named where the engine is to choose
    threads = {} if own else {"OMP_NUM_THREADS": str(len(cpus or ()) or os.cpu_count())}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**kept, **offline, **threads, "PYTHONPATH": str(ROOT)}


def _busy_s() -> float:
    """CPU time that the machine spent on anything, or that was stolen from it."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
