"""What every number of the document means: the block ``definitions``."""

from neuronc.bench import metrics
from neuronc.bench.statistics.estimate import MEANT as MEANT_BY_ESTIMATE
from neuronc.bench.statistics.pooled import MEANT
from neuronc.bench.statistics.steady import RATIO

_TIMES = (
    "Of a request: t_sched is its scheduled arrival (in a closed loop, which schedules nothing, when"
    " it was sent), t_send when the engine was given it, t_1 to t_n when its n tokens could be read"
    " on the host. All by one monotonic clock."
)
_OTHERS = {
    "goodput_requests_per_s": "Requests that kept every bound / duration.",
    "attainment": "Requests that kept every bound / requests to be made; failed ones kept none.",
    "fluidity": "Token deadlines met / token deadlines: deadline_1 = t_sched + the ttft bound,"
    " deadline_(j+1) = deadline_j + the tpot bound, anew from a token that missed its own.",
    "user_tokens_per_s": "1 / p50 of tpot: what one user gets while an answer comes.",
    "user_tokens_per_s_p95": "1 / p95 of tpot: 95 of 100 requests get at least this.",
    "kept_up": "Time from the first to the last arrival / time between their first tokens, at most"
    " 1: below it, a queue grows.",
    "output_tokens_per_s_steady": "Tokens in the steady window / its length: the longest time with"
    f" {RATIO:.0%} of the peak number of requests in their slots.",
    "intervals": f"{MEANT} {MEANT_BY_ESTIMATE}",
    "mbu": "Bytes that the step's real tokens need / (its median time x read bandwidth).",
    "mfu": "FLOPs that the step's real tokens need / (its median time x peak FLOPs per second).",
    "context": "Of a program alone: tokens in each slot afterwards. Decode at the first position its"
    " bucket is chosen for, halfway and at its end; prefill at the start of a slot, halfway, at the end.",
    "floor_ms": "Predicted by the roofline: the larger of (bytes of the program, padding and all, /"
    " read bandwidth) and (its FLOPs / peak FLOPs per second), by the peaks of machine.source. No"
    " step is faster, unless its weights stay in a cache.",
    "over_floor": "Measured: median time of the step / floor_ms.",
    "jitter": "Of a step class: p99.9 / p50 of its times, and their standard deviation / mean.",
}
"""Of what is no metric of a timeline alone."""
DEFINITIONS: dict[str, str] = {"t": _TIMES, **metrics.DEFINITIONS, **_OTHERS}
