"""What becomes of every entry of transformers' causal-LM mapping: ``make sweep``.

A tiny random clone of each is run over ranks in torch and compared with transformers, then its
programs are lowered. The answers go to ``neuronc/families/sweep.toml``. Each entry has a process of
its own and a time limit. Takes about an hour on two cores; ``--no-lower`` a quarter of that.
"""

import argparse
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

TP = (1, 2)
_LIMIT_S = 300
_OUT = Path(__file__).parents[1] / "neuronc" / "families" / "sweep.toml"
_HEAD = """# What becomes of a tiny random clone of every entry of transformers' causal-LM mapping, by tp
# degree; written by `make sweep`. ok: its ranks compute what transformers does, and it lowers.
# Anything else says what is in the way.
"""


def judge(model_type: str, tp: int, *, lowers: bool) -> str:
    """``ok``, or what is in the way of ``model_type`` at ``tp``."""
    from neuronc.errors import NeuroncError
    from neuronc.verify.clone import check_clone

    try:
        config = default_config(model_type)
        found = check_clone(config, tp=tp)
        if found.phase:
            where = f" from {found.layer} on" if found.layer else ""
            return f"differs in {found.phase}{where} by {found.error:.0e}"
        if lowers:
            lower_clone(config, tp)
    except NeuroncError as error:
        return one_line(error.message)
    except Exception as error:  # noqa: BLE001 (whatever a family raises is its answer)
        return one_line(f"{type(error).__name__}: {error}")
    return "ok"


def default_config(model_type: str) -> dict[str, Any]:
    """The config of ``model_type`` as its class has it, as a decoder where it may be an encoder."""
    from transformers import AutoConfig

    found = AutoConfig.for_model(model_type).to_dict()
    as_decoder = {"is_decoder": True} if found.get("is_decoder") is False else {}
    # A null would be taken at its word where the class, left alone, computes a value.
    given = {k: v for k, v in found.items() if v is not None}
    return {**_sizes_that_checkpoints_give(found), **given, **as_decoder}


def _sizes_that_checkpoints_give(config: dict[str, Any]) -> dict[str, Any]:
    """Where the class default is null and its own model fails on that, as some do."""
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if not isinstance(heads, int) or not isinstance(hidden, int):
        return {}
    usual = {
        "head_dim": hidden // heads,
        "num_key_value_heads": heads,
        "num_experts_per_tok": 2,
        "n_routed_experts": 8,
    }
    return {name: usual[name] for name in usual if name in config and config[name] is None}


def lower_clone(config: dict[str, Any], tp: int) -> None:
    """Lower the prefill and decode programs of the clone of ``config``."""
    from neuronc.families.model_config import read_model_config
    from neuronc.lower.finish_stablehlo import finish_stablehlo
    from neuronc.lower.ir_dump import IRDump
    from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
    from neuronc.parallel.plan import plan_parallelism
    from neuronc.trace.meta_model import parameter_shapes
    from neuronc.trace.program_spec import list_programs
    from neuronc.trace.trace_program import trace_program
    from neuronc.verify.tiny_config import tiny_config

    clone = read_model_config(tiny_config(config), source="the clone")
    plan = plan_parallelism(clone, parameter_shapes(clone.raw), tp)
    specs = list_programs(batch_size=2, max_length=24, prefill_buckets=(8,), decode_buckets=(24,))
    for spec in specs:
        traced = trace_program(clone, plan, spec, dtype="f32")
        text = traced_to_stablehlo(traced, IRDump(None))
        finish_stablehlo(text, tp=tp, graphs=traced.graphs)


def one_line(text: str) -> str:
    """At most 160 characters of ``text``."""
    return " ".join(text.split())[:160]


def in_child(model_type: str, tp: int, *, lowers: bool) -> str:
    """`judge` in a forked child, which may die."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.alarm(_LIMIT_S)
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        os.write(writing, judge(model_type, tp, lowers=lowers).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGALRM:
        return f"takes more than {_LIMIT_S} s"
    return answer or f"its process died ({code})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="model types; all without any")
    parser.add_argument("--no-lower", action="store_true")
    parser.add_argument("--tp", type=int, nargs="+", default=TP, help="tp degrees")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    import neuronc.lower.torch_to_stablehlo
    import neuronc.verify.clone  # noqa: F401

    lines = [_HEAD]
    counts = dict.fromkeys(options.tp, 0)
    for model_type in options.types or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        answers = {tp: in_child(model_type, tp, lowers=not options.no_lower) for tp in options.tp}
        for tp, answer in answers.items():
            counts[tp] += answer == "ok"
        told = ", ".join(f"tp{tp} = {json.dumps(answer)}" for tp, answer in answers.items())
        lines.append(f'"{model_type}" = {{ {told} }}')
        print(lines[-1], flush=True)
    print(counts)
    if not options.types and not options.no_lower and options.tp == TP:
        _OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
