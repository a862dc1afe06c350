"""The process that makes programs: trace, lower, compile.

MLIR and XLA can abort the process they run in, so each program is made in a process of its own:
the worker imports torch, transformers and jax once and forks a child per job (see
`neuronc.lower.children`). A child's death is one line on the worker's stdout; `neuronc.lower.jobs`
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
from pathlib import Path

from neuronc.errors import InputError, NeuroncError
from neuronc.families.model_config import read_model_config
from neuronc.lower.children import PARENT, end_with, start_child
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.program_files import (
    EXECUTABLE,
    HLO,
    LOG,
    NEURON_HLO,
    RESULT,
    SIGNATURE,
    STABLEHLO,
)
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.program_spec import (
    MergedWeights,
    ProgramSignature,
    ProgramSpec,
    signature_from_dict,
    signature_to_dict,
)

_JOB_NAME = "NEURONC_JOB_NAME"
_HEAVY = (
    "transformers.models.auto.modeling_auto",
    "neuronc.trace.trace_program",
    "neuronc.lower.torch_to_stablehlo",
    "neuronc.targets.cpu",
)


def make_program(job: dict[str, object], folder: Path) -> None:
    """Write the StableHLO, HLO, legalised HLO and executable of ``job`` into ``folder``.

    The executable of a Neuron target's program is compiled from the legalised HLO: what it proves
    is what neuronx-cc reads. A job with a ``signature`` starts from the files that are already
    there: no torch needed.
    """
    from neuronc.targets.cpu import compile_cpu, set_device_count

    tp = int(str(job["tp"]))
    set_device_count(tp)  # before anything else uses JAX
    if job["signature"]:
        signature = signature_from_dict(job["signature"])  # type: ignore[arg-type]
    else:
        signature = _trace_and_lower(job, folder)
    merged: MergedWeights = ()
    if job["make_executable"]:
        _say("compiling")
        text = _as_it_will_run(folder, str(job["target"]), signature)
        executable, merged = compile_cpu(text, signature, tp=tp)
        (folder / EXECUTABLE).write_bytes(executable)
    described = {**signature_to_dict(signature), "merged_weights": merged}
    (folder / SIGNATURE).write_text(json.dumps(described))


def _as_it_will_run(folder: Path, target: str, signature: ProgramSignature) -> str:
    """StableHLO of the program in ``folder``, in the form in which ``target`` gets it."""
    path = folder / (STABLEHLO if target == "cpu" else NEURON_HLO)
    if not path.is_file():
        message = f"there is no {path.name}"
        raise InputError(message, hint="compile the checkpoint again")
    if target == "cpu":
        return path.read_text(encoding="utf-8")
    from neuronc.targets.neuron.hlo.check_interface import require_interface
    from neuronc.targets.neuron.hlo.rewrites.float8 import as_stored
    from neuronc.targets.neuron.hlo.to_stablehlo import to_stablehlo
    from neuronc.targets.neuron.hlo.top_k_calls import with_rounds

    hlo = with_rounds(as_stored(path.read_bytes()))
    require_interface(hlo, signature)
    return to_stablehlo(hlo)


def _trace_and_lower(job: dict[str, object], folder: Path) -> ProgramSignature:
    from neuronc.lower.finish_stablehlo import finish_stablehlo
    from neuronc.lower.stablehlo_to_hlo import to_hlo_proto
    from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
    from neuronc.trace.trace_program import trace_program

    config = read_model_config(job["config"], source=str(job["source"]))  # type: ignore[arg-type]
    quantize = None if job["quantize"] is None else str(job["quantize"])
    plan = plan_parallelism(config, _shapes(job), int(str(job["tp"])), quantize=quantize)
    dump = IRDump(Path(str(job["dump_ir"])) if job["dump_ir"] else None)
    spec = ProgramSpec(**job["spec"])  # type: ignore[arg-type]
    _say("tracing")
    traced = trace_program(config, plan, spec, dtype=str(job["dtype"]), taps=bool(job["taps"]))
    _say("lowering")
    calls = bool(job["top_k_call"])
    lowered = traced_to_stablehlo(traced, dump, keeps_top_k=calls)
    text = finish_stablehlo(lowered, tp=plan.tp, graphs=traced.graphs)
    dump.write("stablehlo.mlir", lambda: text)
    proto = to_hlo_proto(text, traced.signature)
    dump.write("hlo.pb", lambda: proto)
    (folder / STABLEHLO).write_text(text, encoding="utf-8")
    (folder / HLO).write_bytes(proto)
    if job["target"] != "cpu":
        from neuronc.targets.neuron.chips import NEURON_TARGETS
        from neuronc.targets.neuron.hlo.legalise import legalise
        from neuronc.targets.neuron.hlo.top_k_calls import require_calls

        ends_at_240 = not NEURON_TARGETS[str(job["target"])].has_f8e4m3fn
        legal = legalise(proto, traced.signature, floats_end_at_240=ends_at_240, top_k_call=calls)
        if calls:
            require_calls(legal)
        dump.write("neuron.hlo.pb", lambda: legal)
        (folder / NEURON_HLO).write_bytes(legal)
    return traced.signature


def _shapes(job: dict[str, object]) -> dict[str, tuple[int, ...]]:
    from neuronc.trace.meta_model import parameter_shapes

    if job["shapes"] is None:
        return parameter_shapes(job["config"])  # type: ignore[arg-type]
    return {n: tuple(s) for n, s in job["shapes"].items()}  # type: ignore[attr-defined]


def _say(stage: str) -> None:
    tell({"job": os.environ.get(_JOB_NAME, ""), "stage": stage})


def tell(event: dict[str, object]) -> None:
    """Write ``event`` as a line for the process that waits."""
    # One write of less than a pipe's atomic size, newline included: lines of several processes do
    # not mix. An unbuffered print writes the newline by itself.
    os.write(1, f"{json.dumps(event)}\n".encode())


def run_job(job_file: Path) -> int:
    """Make the program of ``job_file``; a user's error goes into ``result.json``."""
    warnings.simplefilter("ignore")
    job = json.loads(job_file.read_text(encoding="utf-8"))
    os.environ[_JOB_NAME] = job["name"]
    result: dict[str, object] = {}
    try:
        make_program(job, job_file.parent)
    except NeuroncError as error:
        result["error"] = [error.exit_code, error.message, error.hint]
    result["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (job_file.parent / RESULT).write_text(json.dumps(result))
    return 0


def run_forked(job_files: list[Path], num_parallel: int) -> int:
    """Run every job in a forked child, ``num_parallel`` at a time; report each child's end."""
    jobs = [json.loads(job_file.read_text()) for job_file in job_files]
    _import_heavy([job for job in jobs if not job["signature"]])
    waiting, running = list(job_files), dict[int, Path]()
    while waiting or running:
        while waiting and len(running) < num_parallel:
            job_file = waiting.pop(0)
            running[_start(job_file)] = job_file
        pid, status = os.wait()
        job_file = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        tell({"folder": job_file.parent.name, "exit": code})
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
