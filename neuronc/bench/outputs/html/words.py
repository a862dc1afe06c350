"""Names, units and one plain sentence for every metric a reader meets on the page."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """How a metric is called.

    Attributes:
        label: A few words, with the usual abbreviation.
        unit: As printed behind the number; empty for a bare count.
        says: What it means to someone who waits for tokens.
        scale: What to multiply the document's number with before ``unit`` fits.
        more_is_better: None where neither direction is good in itself.
    """

    label: str
    unit: str
    says: str
    scale: float = 1.0
    more_is_better: bool | None = False


LATENCIES = {
    "ttft_ms": Words(
        label="first token (TTFT)", unit="ms", says="from the arrival of a request to its 1st token"
    ),
    "tpot_ms": Words(
        label="per token (TPOT)", unit="ms", says="mean time per token after the first, per request"
    ),
    "itl_ms": Words(label="token gap (ITL)", unit="ms", says="every gap between two tokens"),
    "e2e_ms": Words(
        label="whole request (E2E)",
        unit="ms",
        says="from the arrival of a request to its last token",
    ),
    "queue_ms": Words(label="queue", unit="ms", says="from the arrival until a slot was free"),
    "prefill_ms": Words(
        label="prefill", unit="ms", says="time in the prefill programs of a request"
    ),
    "ttft_send_ms": Words(
        label="first token from sending", unit="ms", says="as TTFT, but from the call of the engine"
    ),
    "norm_ms": Words(
        label="whole request per token", unit="ms", says="the whole request divided by its tokens"
    ),
    "late_ms": Words(
        label="sent late", unit="ms", says="from the scheduled arrival until the engine was told"
    ),
    "late_own_ms": Words(
        label="sent late, no program running", unit="ms", says="the part of it no program explains"
    ),
}
SCALARS = {
    "output_tokens_per_s": Words(
        label="output tokens",
        unit="tokens/s",
        says="generated tokens of all requests; neither prompt nor padding counts",
        more_is_better=True,
    ),
    "output_tokens_per_s_steady": Words(
        label="output tokens, steady",
        unit="tokens/s",
        says="the same without the filling and draining of the slots",
        more_is_better=True,
    ),
    "user_tokens_per_s": Words(
        label="tokens for one user",
        unit="tokens/s",
        says="how fast an answer comes once it has begun, for the middle request",
        more_is_better=True,
    ),
    "user_tokens_per_s_p95": Words(
        label="tokens for one user, at least",
        unit="tokens/s",
        says="95 of 100 requests get this or more",
        more_is_better=True,
    ),
    "requests_per_s": Words(
        label="requests",
        unit="requests/s",
        says="finished, whether in time or not",
        more_is_better=True,
    ),
    "goodput_requests_per_s": Words(
        label="goodput",
        unit="requests/s",
        says="requests that met every objective",
        more_is_better=True,
    ),
    "attainment": Words(
        label="objectives met",
        unit="%",
        says="share of all requests sent that met every objective; failed ones did not",
        scale=100.0,
        more_is_better=True,
    ),
    "occupancy": Words(
        label="slots in use",
        unit="%",
        says="of all slots, over the time of all decode steps",
        scale=100.0,
        more_is_better=None,
    ),
    "pad_waste": Words(
        label="padding",
        unit="%",
        says="of the positions that prefill computed and nobody asked for",
        scale=100.0,
    ),
}
STATS = {"p50": "median", "p90": "p90", "p95": "p95", "p99": "p99", "p99_9": "p99.9"}


def abbreviation(metric: str) -> str:
    """As people write it where room is short: ``TTFT p50``, ``output tokens/s``."""
    name, _, stat = metric.partition(".")
    if not stat:
        return name.replace("_per_s", "/s").replace("_", " ")
    return f"{name.removesuffix('_ms').upper()} {stat.replace('_', '.')}"


def words_of(metric: str) -> Words:
    """Words for ``NAME.STAT`` or a scalar; an unknown metric is called by its name."""
    name, _, stat = metric.partition(".")
    found = LATENCIES.get(name) or SCALARS.get(name)
    if found is None:
        return Words(label=metric, unit="", says="", more_is_better=None)
    label = f"{found.label}, {STATS.get(stat, stat)}" if stat else found.label
    return Words(
        label=label,
        unit=found.unit,
        says=found.says,
        scale=found.scale,
        more_is_better=found.more_is_better,
    )
