"""One program from its job: trace, lower, compile; what the store has is taken from there.

Whoever holds a key's lock makes the entry; others wait for it.
"""

import json
import resource
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import neuronc
from neuronc.cache.cache import Cache
from neuronc.cache.program_keys import executable_key, lowered_key
from neuronc.errors import InputError
from neuronc.families.model_config import read_model_config
from neuronc.lower.cached_program import keep_executable, keep_lowered, take_executable
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.program_files import EXECUTABLE, HLO, NEURON_HLO, SIGNATURE, STABLEHLO
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.program_spec import (
    ProgramSignature,
    ProgramSpec,
    signature_from_dict,
    signature_to_dict,
)

Job = Mapping[str, Any]
"""A ``ProgramJob`` as JSON."""
Say = Callable[[str], None]


def make_program(job: Job, folder: Path, cache: Cache | None, say: Say) -> None:
    """Write the StableHLO, HLO, legalised HLO and executable of ``job`` into ``folder``.

    The executable of a Neuron target's program is compiled from the legalised HLO: what it proves
    is what neuronx-cc reads. A job with a ``signature`` starts from the files that are already
    there: no torch needed.
    """
    from neuronc.targets.cpu import set_device_count

    set_device_count(int(job["tp"]))  # before anything else uses JAX
    if job["signature"]:
        (folder / SIGNATURE).write_text(json.dumps(job["signature"]), encoding="utf-8")
    else:
        _lower(job, folder, cache, say)
    if job["make_executable"]:
        _compile(job, folder, cache, say)


def _lower(job: Job, folder: Path, cache: Cache | None, say: Say) -> None:
    if cache is None:
        return _trace_and_lower(job, folder, say)
    key, begin = lowered_key(job), time.monotonic()
    with cache.lock(key, say):
        if cache.take(key, folder) is None:  # another build may have made it meanwhile
            _trace_and_lower(job, folder, say)
            keep_lowered(cache, key, folder, _facts(job, begin))
    return None


def _compile(job: Job, folder: Path, cache: Cache | None, say: Say) -> None:
    if cache is None:
        return _make_executable(job, folder, say)
    key = executable_key(folder, target=job["target"], tp=job["tp"])
    begin = time.monotonic()
    with cache.lock(key, say):
        if not take_executable(cache, key, folder):
            _make_executable(job, folder, say)
            keep_executable(cache, key, folder, _facts(job, begin))
    return None


def _facts(job: Job, begin_s: float) -> dict[str, Any]:
    model = (job["config"] or {}).get("model_type")
    return {
        "what": f"{job['name']}, tp {job['tp']}, {job['dtype']}, {model}",
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - begin_s, 3),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "neuronc": neuronc.__version__,
    }


def _make_executable(job: Job, folder: Path, say: Say) -> None:
    from neuronc.targets.cpu import compile_cpu

    say("compiling")
    told = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    signature = signature_from_dict(told)
    text = _as_it_will_run(folder, str(job["target"]), signature)
    is_proof = job["target"] != "cpu"  # of what neuronx-cc reads
    executable, merged = compile_cpu(text, signature, tp=int(job["tp"]), as_written=is_proof)
    (folder / EXECUTABLE).write_bytes(executable)
    (folder / SIGNATURE).write_text(json.dumps({**told, "merged_weights": merged}))


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


def _trace_and_lower(job: Job, folder: Path, say: Say) -> None:
    from neuronc.lower.finish_stablehlo import finish_stablehlo
    from neuronc.lower.stablehlo_to_hlo import to_hlo_proto
    from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
    from neuronc.trace.trace_program import trace_program

    config = read_model_config(job["config"], source=str(job["source"]))
    plan = plan_parallelism(config, _shapes(job), int(job["tp"]), quantize=job["quantize"])
    dump = IRDump(Path(job["dump_ir"]) if job["dump_ir"] else None)
    spec = ProgramSpec(**job["spec"])
    say("tracing")
    traced = trace_program(config, plan, spec, dtype=job["dtype"], taps=job["taps"])
    say("lowering")
    lowered = traced_to_stablehlo(traced, dump, keeps_top_k=job["top_k_call"])
    text = finish_stablehlo(lowered, tp=plan.tp, graphs=traced.graphs)
    dump.write("stablehlo.mlir", lambda: text)
    proto = to_hlo_proto(text, traced.signature)
    dump.write("hlo.pb", lambda: proto)
    (folder / STABLEHLO).write_text(text, encoding="utf-8")
    (folder / HLO).write_bytes(proto)
    if job["target"] != "cpu":
        _legalise(job, folder, proto, traced.signature, dump)
    told = {**signature_to_dict(traced.signature), "merged_weights": []}
    (folder / SIGNATURE).write_text(json.dumps(told), encoding="utf-8")


def _legalise(
    job: Job, folder: Path, proto: bytes, signature: ProgramSignature, dump: IRDump
) -> None:
    from neuronc.targets.neuron.chips import NEURON_TARGETS
    from neuronc.targets.neuron.hlo.legalise import legalise
    from neuronc.targets.neuron.hlo.top_k_calls import require_calls

    calls = bool(job["top_k_call"])
    ends_at_240 = not NEURON_TARGETS[job["target"]].has_f8e4m3fn
    legal = legalise(proto, signature, floats_end_at_240=ends_at_240, top_k_call=calls)
    if calls:
        require_calls(legal)
    dump.write("neuron.hlo.pb", lambda: legal)
    (folder / NEURON_HLO).write_bytes(legal)


def _shapes(job: Job) -> dict[str, tuple[int, ...]]:
    from neuronc.trace.meta_model import parameter_shapes

    if job["shapes"] is None:
        return parameter_shapes(job["config"])
    return {n: tuple(s) for n, s in job["shapes"].items()}
