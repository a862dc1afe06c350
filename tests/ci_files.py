"""The project's own workflow and Dockerfile, read as what runs them does."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "artifacts.yml"
DOCKERFILE = ROOT / "Dockerfile"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    text: str


def read_job() -> dict[str, Any]:
    """The only job of the workflow."""
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    (job,) = jobs.values()
    return job


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its expressions' values; KeyError for one that ``values`` lacks."""
    return _EXPRESSION.sub(lambda found: values[found[1]], text)


def read_dockerfile(text: str) -> list[Instruction]:
    """Every instruction; ValueError for a line that is none."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, blank, rest = line.partition(" ")
        if not blank or not name.isupper():
            message = f"{line!r} is no instruction"
            raise ValueError(message)
        found.append(Instruction(name=name, text=" ".join(rest.split())))
    return found


def neuronc_commands(text: str) -> list[list[str]]:
    """The words after ``neuronc`` of every command in ``text``, comments included."""
    joined = re.sub(r"\\\n", " ", text)
    return [found.split() for found in re.findall(r"(?<![\w./-])neuronc ([a-z][^\n|&;>]*)", joined)]
