"""Programs made on a Ray cluster of two nodes: the same artifact, whatever becomes of a node."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuronc.cli.app import main
from tests.neuron_doubles import CompilerDouble
from tests.places import bucket, s3_server
from tests.ray_cluster import ray_cluster

__all__ = ["bucket", "s3_server"]

SIZES = ("--tp", "2", "--max-length", "32", "--prefill-buckets", "8", "--no-verify")
Capture = pytest.CaptureFixture[str]


def build(
    checkpoint: Path,
    out: Path,
    *argv: str,
    meanwhile: Callable[["subprocess.Popen[str]"], None] | None = None,
    env: dict[str, str] | None = None,
) -> dict[str, Any]:
    command = [sys.executable, "-m", "neuronc", "build", str(checkpoint), "-o", str(out)]
    with subprocess.Popen(
        [*command, *SIZES, *argv, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    ) as process:
        watch = threading.Thread(target=meanwhile or (lambda _: None), args=(process,))
        watch.start()
        text, errors = process.communicate(timeout=400)
        watch.join()
    assert process.returncode == 0, (text, errors)
    document: dict[str, Any] = json.loads(text)
    data: dict[str, Any] = document["data"]
    return data


@pytest.mark.slow
def test_a_cluster_makes_what_this_machine_makes_and_outlives_a_node(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    here = build(tiny_checkpoint, tmp_path / "here", "--cache", "off")
    killed = tmp_path / "killed"
    node = {"PYTHONPATH": str(_code_that_waits_for(killed, tmp_path))}
    with ray_cluster(node, node, env=dict(os.environ)) as cluster:
        ray = ("--executor", "ray", "--address", cluster.address)
        cache = tmp_path / "cache"

        def kill_one_that_works(process: "subprocess.Popen[str]") -> None:
            # Two programs have an owner, and a node has one CPU: both nodes are at work.
            while len(list(cache.glob("locks/*.owner"))) < 2:
                assert process.poll() is None
                time.sleep(0.02)
            cluster.kill(0)
            killed.touch()

        there = build(
            tiny_checkpoint, tmp_path / "there", *ray, "--cache", str(cache),
            meanwhile=kill_one_that_works,
        )  # fmt: skip
        assert there["made"] == here["made"] == ["prefill_8", "decode_32"]
        assert there["artifact_digest"] == here["artifact_digest"]
        again = build(tiny_checkpoint, tmp_path / "again", *ray, "--cache", str(cache), "--frozen")
        assert again["made"] == []


@pytest.mark.slow
def test_neffs_are_compiled_on_the_nodes_and_come_back_through_a_bucket(
    tiny_checkpoint: Path, tmp_path: Path, bucket: Any
) -> None:
    double = CompilerDouble(tmp_path / "bin")
    env = {**os.environ, "PATH": double.path}
    nodes = [{"XDG_CACHE_HOME": str(tmp_path / f"node{n}")} for n in range(2)]
    inf2 = ("--target", "inf2", "--cache", "s3://models/store")
    with ray_cluster(*nodes, env=env) as cluster:
        there = build(
            tiny_checkpoint, tmp_path / "there", *inf2, "--executor", "ray",
            "--address", cluster.address, env={**env, "XDG_CACHE_HOME": str(tmp_path / "driver")},
        )  # fmt: skip
    compiled = sorted(double.compiled())
    assert compiled == ["decode_32", "prefill_8"]
    assert list((tmp_path / "node0").rglob("entry.json"))
    assert list((tmp_path / "node1").rglob("entry.json"))
    # Another machine with an empty folder of its own finds all behind the URL.
    env["XDG_CACHE_HOME"] = str(tmp_path / "elsewhere")
    here = build(tiny_checkpoint, tmp_path / "here", *inf2, "--frozen", env=env)
    assert here["artifact_digest"] == there["artifact_digest"]
    assert sorted(double.compiled()) == compiled


@pytest.mark.slow
def test_an_error_on_a_node_is_told_as_here(
    tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    pytest.importorskip("ray")
    with ray_cluster({"PYTHONPATH": str(_other_code(tmp_path))}, env=dict(os.environ)) as cluster:
        argv = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "out"), *SIZES]
        argv += ["--cache", str(tmp_path / "cache"), "--executor", "ray"]
        code = run_apart([*argv, "--address", cluster.address, "--json"], capfd)
    assert code["error"]["exit_code"] == 5
    assert "has another code: " in code["error"]["message"]
    assert code["error"]["hint"] == "install the same versions on every node"
    assert not (tmp_path / "out").exists()


def _other_code(tmp_path: Path) -> Path:
    """A folder whose ``sitecustomize`` gives the code that makes programs another digest."""
    return _site(
        tmp_path,
        "from neuronc.cache import program_keys",
        "program_keys.code_digest = lambda patterns: 'of another version'",
    )


def _code_that_waits_for(sign: Path, tmp_path: Path) -> Path:
    """A folder whose ``sitecustomize`` lets nobody who owns a program go on before ``sign``.

    So a program is still being made when the node is killed, however fast this machine is.
    """
    return _site(
        tmp_path,
        "import contextlib, os, time",
        "from neuronc.cache import cache",
        "whole = cache.key_lock",
        "@contextlib.contextmanager",
        "def key_lock(*args, **options):",
        "    with whole(*args, **options):",
        "        end = time.monotonic() + 120",  # of a test that failed
        f"        while not os.path.exists({str(sign)!r}) and time.monotonic() < end:",
        "            time.sleep(0.01)",
        "        yield",
        "cache.key_lock = key_lock",
    )


def _site(tmp_path: Path, *lines: str) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("\n".join(lines))
    return site


def run_apart(argv: list[str], capfd: Capture) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "neuronc", *argv], capture_output=True, text=True, check=False
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_no_cluster_is_told(tiny_checkpoint: Path, tmp_path: Path, capfd: Capture) -> None:
    argv = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "out"), *SIZES, "--json"]
    cache = ("--cache", str(tmp_path / "cache"))
    document = run_apart([*argv, *cache, "--executor", "ray", "--address", "127.0.0.1:1"], capfd)
    assert document["error"]["exit_code"] == 5
    assert "no Ray cluster answers at '127.0.0.1:1'" in document["error"]["message"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--executor", "ray", "--cache", "off"), "hands programs over through the cache"),
        (("--address", "auto"), "the executor is local"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: tuple[str, ...], told: str, tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    argv = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "out"), *SIZES, "--json", *flags]
    assert main(argv) == 2
    assert told in json.loads(capfd.readouterr().out)["error"]["message"]
