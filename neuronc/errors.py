"""Every error a user can cause, one class per exit code.

A message says what was expected and what was found, a hint says the way out. Anything that is
not a `NeuroncError` is a bug of ours and exits with 1.
"""


class NeuroncError(Exception):
    """Base of all errors that end a command with a message instead of a traceback.

    Attributes:
        message: Subject, expected, found; one or two lines.
        hint: What to do about it; may be empty.
    """

    exit_code = 1
    kind = "bug"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(NeuroncError):
    """Options that contradict each other, or an output place that cannot be written."""

    exit_code = 2
    kind = "usage"


class InputError(NeuroncError):
    """A checkpoint, recipe, split folder or artifact that is not what it should be."""

    exit_code = 3
    kind = "input"


class PlanError(NeuroncError):
    """Something does not fit: a dim over the ranks, a prompt into the cache, data on the disk."""

    exit_code = 4
    kind = "plan"


class ToolchainError(NeuroncError):
    """A tool, library or CPU feature that the work needs is missing or another version."""

    exit_code = 5
    kind = "toolchain"


class VerificationError(NeuroncError):
    """The compiled numbers differ from the original model's by more than the dtype explains."""

    exit_code = 6
    kind = "verification"


class CompilerError(NeuroncError):
    """Tracing, lowering or compiling a program failed."""

    exit_code = 7
    kind = "compiler"


class HostMemoryError(NeuroncError):
    """The host ran out of memory, or a worker was killed for it."""

    exit_code = 8
    kind = "host_memory"


class DeadlineError(NeuroncError):
    """Something took longer than the user allowed."""

    exit_code = 9
    kind = "timeout"


class FrozenError(NeuroncError):
    """Something would have to be compiled, and the user forbade it."""

    exit_code = 10
    kind = "frozen"


class RegressionError(NeuroncError):
    """A comparison of two benchmarks found one past a limit that a rule sets."""

    exit_code = 11
    kind = "regression"


class PartialError(NeuroncError):
    """Of several builds some failed; the others are there."""

    exit_code = 12
    kind = "partial"


class InconclusiveError(NeuroncError):
    """A comparison of two benchmarks whose repeats are too few, or too far apart, to tell."""

    exit_code = 13
    kind = "inconclusive"


class NoisyMachineError(NeuroncError):
    """The machine did other work during a benchmark that was asked to fail then."""

    exit_code = 14
    kind = "noisy_machine"


class BenchmarkError(NeuroncError):
    """A benchmark run that produced other output than it asked for, so its numbers mean nothing."""

    exit_code = 15
    kind = "benchmark"


def error_of(exit_code: int, message: str, *, hint: str) -> NeuroncError:
    """An error that another process ended with, as that process would have raised it."""
    kinds = (kind for kind in NeuroncError.__subclasses__() if kind.exit_code == exit_code)
    return next(kinds, CompilerError)(message, hint=hint)


EXIT_CODES: dict[int, str] = {
    0: "ok",
    1: "a bug in neuronc",
    2: "usage",
    3: "bad input (checkpoint, recipe, artifact)",
    4: "does not fit, or cannot be split so",
    5: "toolchain missing or incompatible",
    6: "verification failed",
    7: "compiler failed",
    8: "out of host memory",
    9: "timeout",
    10: "--frozen, and something would have to be compiled",
    11: "benchmark regression",
    12: "some of several builds failed",
    13: "comparison inconclusive",
    14: "machine too noisy (when asked to refuse)",
    15: "benchmark output invalid",
    130: "interrupted",
}
