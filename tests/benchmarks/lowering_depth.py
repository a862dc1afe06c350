"""What lowering costs as models get deeper: ``python -m tests.benchmarks.lowering_depth``.

Llama-3-70B's sizes with 2, 8, 32 and 80 layers at tp 8, then SmolLM2's 30 layers at tp 1, from
config alone. Every program has a process of its own, forked once libraries are imported, as
neuronc's worker does; times are wall seconds, memory is the process's peak.
"""

import json
import os
import resource
import time
import warnings
from typing import Any

LLAMA_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 80,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
}
SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}
STAGES = ("model", "trace", "stablehlo", "hlo", "neuron hlo")


def lower(raw: dict[str, Any], tp: int, phase: Any) -> dict[str, float]:
    """Seconds of every stage of one program, and the process's peak memory in GB."""
    from neuronc.families.model_config import read_model_config
    from neuronc.lower.finish_stablehlo import finish_stablehlo
    from neuronc.lower.ir_dump import IRDump
    from neuronc.lower.stablehlo_to_hlo import to_hlo_proto
    from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
    from neuronc.parallel.plan import plan_parallelism
    from neuronc.targets.neuron.hlo.legalise import legalise
    from neuronc.trace.meta_model import parameter_shapes
    from neuronc.trace.program_spec import ProgramSpec
    from neuronc.trace.trace_program import trace_program

    spec = ProgramSpec(phase=phase, bucket=512, batch_size=1, max_length=512)
    at = [time.perf_counter()]

    def done(result: Any) -> Any:
        at.append(time.perf_counter())
        return result

    config = read_model_config(raw, source="benchmark")
    plan = done(plan_parallelism(config, parameter_shapes(raw), tp))
    traced = done(trace_program(config, plan, spec, dtype="bf16"))
    text = done(finish_stablehlo(traced_to_stablehlo(traced, IRDump(None)), tp=tp))
    proto = done(to_hlo_proto(text, traced.signature))
    done(legalise(proto, traced.signature))
    taken = {name: after - before for name, before, after in zip(STAGES, at, at[1:], strict=False)}
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {**taken, "total": at[-1] - at[0], "peak GB": peak_gb}


def in_child(raw: dict[str, Any], tp: int, phase: str) -> dict[str, float]:
    """`lower` in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, json.dumps(lower(raw, tp, phase)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    found: dict[str, float] = json.loads(answer)
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    import neuronc.lower.stablehlo_to_hlo
    import neuronc.lower.torch_to_stablehlo
    import neuronc.targets.neuron.hlo.legalise
    import neuronc.trace.trace_program  # noqa: F401
    from neuronc.lower.worker import warm_up

    warm_up(SMOLLM2)

    cells = [("70B", {**LLAMA_70B, "num_hidden_layers": n}, 8) for n in (2, 8, 32, 80)]
    columns = (*STAGES, "total", "peak GB")
    print(f"{'model':8} {'layers':>6} {'program':>8}", *(f"{name:>10}" for name in columns))
    for name, raw, tp in [*cells, ("SmolLM2", SMOLLM2, 1)]:
        for phase in ("prefill", "decode"):
            found = in_child(raw, tp, phase)
            shown = (f"{found[column]:10.2f}" for column in columns)
            print(f"{name:8} {raw['num_hidden_layers']:6} {phase:>8}", *shown, flush=True)


if __name__ == "__main__":
    main()
