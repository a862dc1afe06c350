"""The process that makes programs: trace, lower, compile.

MLIR and XLA can abort the process they run in, so each program is made in a process of its own:
the worker imports torch, transformers and jax once and forks a child per job (see
`neuronc.lower.schedule`). A child's death is one line on the worker's stdout; `neuronc.lower.follow_worker`
turns it into an error with a name.

Reproduce one failing program by hand: ``python -m neuronc.lower.worker JOB.json``.
"""

import importlib
import json
import os
import resource
import sys
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path

from neuronc.cache.cache import open_stores
from neuronc.errors import NeuroncError
from neuronc.lower.admission import Admission, available_memory_bytes
from neuronc.lower.children import PARENT, end_with, start_child
from neuronc.lower.program_files import LOG, RESULT
from neuronc.lower.schedule import Schedule, Task

_HEAVY = (
    "transformers.models.auto.modeling_auto",
    "neuronc.trace.trace_program",
    "neuronc.lower.torch_to_stablehlo",
    "neuronc.lower.make_program",
    "neuronc.targets.cpu",
)


def tell(event: dict[str, object]) -> None:
    """Write ``event`` as a line for the process that waits."""
    # One write of less than a pipe's atomic size, newline included: lines of several processes do
    # not mix. An unbuffered print writes the newline by itself.
    os.write(1, f"{json.dumps(event)}\n".encode())


def _say(name: str, stage: str) -> None:
    tell({"job": name, "stage": stage})


def run_job(job_file: Path) -> int:
    """Make the program of ``job_file``; a user's error goes into ``result.json``."""
    warnings.simplefilter("ignore")
    from neuronc.lower.make_program import make_program

    job = json.loads(job_file.read_text(encoding="utf-8"))
    result: dict[str, object] = {}
    try:
        cache = None if job["cache"] is None else open_stores(**job["cache"])
        say = partial(_say, job["name"])
        make_program(job, job_file.parent, cache, say)
    except NeuroncError as error:
        result["error"] = [error.exit_code, error.message, error.hint]
    result["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (job_file.parent / RESULT).write_text(json.dumps(result))
    return 0


def run_forked(job_files: list[Path], num_parallel: int) -> int:
    """Run every job in a forked child, at most ``num_parallel`` at a time; report each child's end."""
    jobs = [json.loads(job_file.read_text()) for job_file in job_files]
    _import_heavy([job for job in jobs if not job["signature"]])
    files = {job_file.parent.name: job_file for job_file in job_files}
    Schedule(
        [Task(name=j["name"], known_bytes=j["known_bytes"]) for j in jobs],
        start=lambda name: _start(files[name]),
        admission=Admission(num_parallel=num_parallel, available_bytes=available_memory_bytes),
        tell=tell,
    ).run()
    return 0


def _start(job_file: Path) -> int:
    command = [sys.executable, "-m", "neuronc.lower.worker", str(job_file)]
    return start_child(lambda: run_job(job_file), command, job_file.parent / LOG)


def _import_heavy(to_trace: list[dict[str, object]]) -> None:
    """Import what every child needs. No library starts threads or devices on import.

    torch starts threads for the first large tensor that it computes: it is told to need none.
    """
    warnings.simplefilter("ignore")
    for name in _HEAVY if to_trace else _HEAVY[-1:]:
        importlib.import_module(name)
    if to_trace:
        warm_up(to_trace[0]["config"])


def warm_up(config: object) -> None:
    """Do once what the first model of a family and the first export of a process import."""
    import torch

    from neuronc.trace.meta_model import parameter_shapes

    torch.set_num_threads(1)
    with suppress(NeuroncError):  # the child says it
        parameter_shapes(config)  # type: ignore[arg-type]
    torch.export.export(torch.nn.ReLU(), (torch.zeros(1),), strict=False)


def main(argv: list[str]) -> int:
    """``JOB.json`` alone runs here; ``NUM_PARALLEL JOB.json ...`` runs each in a child."""
    if PARENT in os.environ:
        end_with(int(os.environ.pop(PARENT)))
    if len(argv) == 1:
        return run_job(Path(argv[0]))
    return run_forked([Path(name) for name in argv[1:]], int(argv[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
