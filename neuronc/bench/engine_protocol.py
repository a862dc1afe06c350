"""What the benchmark needs from a session and an engine, and nothing more.

`neuronc.runtime` satisfies these Protocols; the benchmark imports none of it, so a stand-in with
a simulated clock can be measured with the very same code.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

RequestT = TypeVar("RequestT")
RequestT_co = TypeVar("RequestT_co", covariant=True)
RequestT_contra = TypeVar("RequestT_contra", contravariant=True)
SessionT_contra = TypeVar("SessionT_contra", contravariant=True)

Phase = Literal["prefill", "decode"]
PrefillPolicy = Literal["first", "alternate", "drain"]


class SessionLike(Protocol):
    """An open artifact."""

    @property
    def batch_size(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def prefill_buckets(self) -> tuple[int, ...]: ...
    @property
    def decode_buckets(self) -> tuple[int, ...]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def load_s(self) -> float: ...
    @property
    def samples_on_device(self) -> bool: ...
    def prefill_token(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> Any: ...
    def decode_tokens(
        self, token_ids: Any, positions: Any, *, bucket: int | None = None
    ) -> Any: ...
    def prefill(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> Any: ...
    def decode(self, token_ids: Any, positions: Any, *, bucket: int | None = None) -> Any: ...
    def next_chunk(self, num_done: int, num_tokens: int) -> tuple[int, int]: ...
    def prefill_bucket(self, num_tokens: int) -> int: ...
    def decode_bucket(self, position: int) -> int: ...


class StepLike(Protocol):
    """One call of a compiled program; times from `time.perf_counter_ns`."""

    @property
    def phase(self) -> Phase: ...
    @property
    def bucket(self) -> int: ...
    @property
    def slots(self) -> tuple[int, ...]: ...
    @property
    def request_ids(self) -> tuple[str, ...]: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...


class TokenLike(Protocol):
    """One generated token and the moment the host could read it."""

    @property
    def request_id(self) -> str: ...
    @property
    def token_id(self) -> int: ...
    @property
    def index(self) -> int: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def finish_reason(self) -> Literal["stop", "length"] | None: ...


class EngineLike(Protocol[RequestT_contra]):
    """Slots that fill and empty; one `step` is one call of a compiled program."""

    def submit(self, request: RequestT_contra, /) -> None: ...
    @property
    def has_work(self) -> bool: ...
    def step(self) -> tuple[TokenLike, ...]: ...


class EngineFactory(Protocol[SessionT_contra, RequestT_contra]):
    """The class `neuronc.runtime.engine.Engine`, or a stand-in."""

    def __call__(
        self,
        session: SessionT_contra,
        /,
        *,
        on_step: Callable[[StepLike], None],
        prefill_policy: PrefillPolicy,
    ) -> EngineLike[RequestT_contra]: ...


class RequestFactory(Protocol[RequestT_co]):
    """The class `neuronc.runtime.request.Request`, or a stand-in; sampling is left at greedy."""

    def __call__(
        self,
        *,
        request_id: str,
        prompt_ids: tuple[int, ...],
        max_new_tokens: int,
        stop_ids: frozenset[int],
    ) -> RequestT_co: ...
