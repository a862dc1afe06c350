"""What `neuronc.artifact.check` says to one question."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["yes", "no", "unknown", "not checked"]
Fault = Literal["", "damaged", "cannot load"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One question and what was found.

    Attributes:
        question: In words.
        verdict: The answer.
        detail: Why.
        fault: What the command fails for; empty where the answer is fine, or not known.
        hint: The way out.
        warns: Whether the answer is worth a warning although the artifact may be used.
    """

    question: str
    verdict: Verdict
    detail: str
    fault: Fault = ""
    hint: str = ""
    warns: bool = False
