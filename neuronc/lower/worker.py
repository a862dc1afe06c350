"""A process that makes one program: trace, lower, compile.

MLIR and XLA can abort the process they run in. So each program is made in a process of its own;
`neuronc.lower.jobs` starts it and turns its death into an error with a name. One JSON line on
stdout per stage begun; the result is files in the job's folder.

Run by hand to reproduce a failure: ``python -m neuronc.lower.worker JOB.json``.
"""

import json
import resource
import sys
import warnings
from pathlib import Path

from neuronc.errors import NeuroncError
from neuronc.families.model_config import read_model_config
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.program_files import EXECUTABLE, HLO, RESULT, SIGNATURE, STABLEHLO
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.program_spec import (
    ProgramSignature,
    ProgramSpec,
    signature_from_dict,
    signature_to_dict,
)


def make_program(job: dict[str, object], folder: Path) -> None:
    """Write the StableHLO, HLO and executable of ``job`` into ``folder``.

    A job with a ``signature`` starts from the StableHLO that is already there: no torch needed.
    """
    from neuronc.targets.cpu import compile_cpu, set_device_count

    tp = int(str(job["tp"]))
    set_device_count(tp)  # before anything else uses JAX
    if job["signature"]:
        text = (folder / STABLEHLO).read_text(encoding="utf-8")
        signature = signature_from_dict(job["signature"])  # type: ignore[arg-type]
    else:
        text, signature = _trace_and_lower(job, folder)
    _say("compiling")
    (folder / EXECUTABLE).write_bytes(compile_cpu(text, signature, tp=tp))


def _trace_and_lower(job: dict[str, object], folder: Path) -> tuple[str, ProgramSignature]:
    _say("loading")
    from neuronc.lower.finish_stablehlo import finish_stablehlo
    from neuronc.lower.stablehlo_to_hlo import to_hlo_proto
    from neuronc.lower.torch_to_stablehlo import exported_to_stablehlo
    from neuronc.trace.trace_program import trace_program

    config = read_model_config(job["config"], source=str(job["source"]))  # type: ignore[arg-type]
    shapes = {n: tuple(s) for n, s in job["shapes"].items()}  # type: ignore[attr-defined]
    plan = plan_parallelism(config, shapes, int(str(job["tp"])))
    dump = IRDump(Path(str(job["dump_ir"])) if job["dump_ir"] else None)
    spec = ProgramSpec(**job["spec"])  # type: ignore[arg-type]
    _say("tracing")
    traced = trace_program(config, plan, spec, dtype=str(job["dtype"]))
    _say("lowering")
    text = finish_stablehlo(exported_to_stablehlo(traced.exported, dump), tp=plan.tp)
    dump.write("stablehlo.mlir", lambda: text)
    proto = to_hlo_proto(text, traced.signature)
    dump.write("hlo.pb", lambda: proto)
    (folder / STABLEHLO).write_text(text, encoding="utf-8")
    (folder / HLO).write_bytes(proto)
    (folder / SIGNATURE).write_text(json.dumps(signature_to_dict(traced.signature)))
    return text, traced.signature


def _say(stage: str) -> None:
    print(json.dumps({"stage": stage}), flush=True)


def main(argv: list[str]) -> int:
    """Make the program of the job file ``argv[0]``; a user's error becomes ``result.json``."""
    warnings.simplefilter("ignore")
    job_file = Path(argv[0])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    result: dict[str, object] = {}
    try:
        make_program(job, job_file.parent)
    except NeuroncError as error:
        result["error"] = [error.exit_code, error.message, error.hint]
    result["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (job_file.parent / RESULT).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
