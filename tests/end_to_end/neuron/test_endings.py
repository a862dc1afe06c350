"""Processes that end as nobody planned: told in words, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import psutil
import pytest

from neuronc.errors import ToolchainError
from neuronc.runtime.device_rank import import_nrtpy, visible_cores
from neuronc.targets.neuron.compiler.failure import failure, printable, read_log
from neuronc.targets.neuron.compiler.process import CompilerRun, run_compiler
from neuronc.targets.neuron.compiler.toolchain import find_compiler
from neuronc.targets.neuron.hlo.summary import summarize_hlo
from tests.neuron_doubles import CompilerDouble, nrtpy_site

ROOT = Path(__file__).parents[3]


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_told_to_end_takes_its_compiler_along(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path, number: signal.Signals
) -> None:
    compiler.tell(mode="hang")
    # Under nohup, SIGHUP would be ignored by whatever the tests start.
    heard = f"import signal, sys; signal.signal({number.value}, signal.SIG_DFL)"
    argv = ["compile", str(tiny_bundle), "-o", "art"]
    call = f"from neuronc.cli.app import main; sys.exit(main({argv!r}))"
    command = [sys.executable, "-c", f"{heard}; {call}"]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    ) as build:
        until = time.monotonic() + 60
        while not compiler.compiled() and time.monotonic() < until:
            time.sleep(0.1)
        started = below(build.pid)
        assert started
        build.send_signal(number)
        assert build.wait(30) == 130
    psutil.wait_procs(started, timeout=10)
    assert not [process for process in started if process.is_running()]
    assert not (tmp_path / "art").exists()
    assert not list(tmp_path.glob(".art*"))


def test_a_child_that_left_the_compilers_group_is_ended(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " start_new_session=True);"
        "open('child', 'w').write(str(p.pid)); time.sleep(600)"
    )
    run = run_compiler(
        [sys.executable, "-c", script],
        tmp_path,
        env=dict(os.environ),
        timeout_s=2.5,
        stop=Event(),
        on_beat=lambda *_: None,
    )
    assert run.exit_code is None
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child still runs")


def test_a_death_by_any_signal_is_told(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    run = CompilerRun(exit_code=-35, wall_s=1.0, peak_rss_bytes=0)
    kept = tmp_path / "kept"
    told = failure("decode_32", run, tmp_path / "work", ["neuronx-cc"], keep=kept, timeout_s=1)
    assert "neuronx-cc died of signal 35" in told.message


def test_a_long_log_is_kept_by_its_ends_and_cannot_steer_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "console.txt").write_bytes(b"first\n" + b"x" * (8 * 2**20) + b"\nlast")
    (tmp_path / "log-neuron-cc.txt").symlink_to("/etc/passwd")
    log = read_log(tmp_path)
    assert len(log) < 6 * 2**20
    assert log.startswith("first\n")
    assert log.endswith("\nlast")
    assert "bytes left out" in log
    assert "root:" not in log
    assert printable("a\x1b[31mb\tc") == "a?[31mb\tc"


def test_a_compiler_that_floods_its_version_is_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "neuronx-cc"
    fake.write_text(f"#!{sys.executable}\nprint('x' * 3_000_000)\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="no version") as told:
        find_compiler()
    assert len(told.value.message) < 1000


@pytest.mark.parametrize(
    ("text", "cores"), [("", [0, 1]), ("4-5", [4, 5]), ("2, 3-4", [2, 3]), ("1-8", [1, 2])]
)
def test_ranks_take_the_cores_that_they_are_given(
    monkeypatch: pytest.MonkeyPatch, text: str, cores: list[int]
) -> None:
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", text)
    assert visible_cores(2) == cores


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("3", "1 cores; the artifact has 2"),
        ("a", "'a' is neither a core nor a range"),
        ("0,", "'' is neither a core nor a range"),
        ("3-1", "'3-1' is neither a core nor a range"),
        ("0,2", "in increasing order, without gaps"),
        ("1,0", "in increasing order, without gaps"),
        ("0,0", "in increasing order, without gaps"),
        ("0-3,8", "in increasing order, without gaps"),
    ],
)
def test_cores_that_are_too_few_or_no_row_of_cores_are_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", text)
    with pytest.raises(ToolchainError, match=told) as caught:
        visible_cores(2)
    assert caught.value.exit_code == 5
    assert "each rank" in caught.value.hint or "unset NEURON_RT_VISIBLE_CORES" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise OSError('libnrt.so.1: cannot open shared object file')", "libnrt.so.1"),
        ("class NrtpyModel: pass", "lacks NrtpyTensor, configure, reset"),
    ],
)
def test_an_nrtpy_that_cannot_start_is_a_matter_of_the_toolchain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    (tmp_path / "nrtpy.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nrtpy", raising=False)
    with pytest.raises(ToolchainError, match=told):
        import_nrtpy()
    sys.modules.pop("nrtpy", None)


@pytest.mark.slow
def test_a_rank_that_died_between_two_calls_is_named(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    from neuronc.artifact.neffs import compile_bundle
    from neuronc.targets.neuron.settings import CompileOptions

    compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    script = tmp_path / "kill.py"
    script.write_text(
        "import json, os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from neuronc.errors import CompilerError\n"
        "from neuronc.runtime.session import Session\n"
        "if __name__ == '__main__':\n"
        "    session = Session.open(Path(sys.argv[1]), on='target', rank_processes=True)\n"
        "    os.kill(session.ranks._workers[0].pid, signal.SIGKILL)\n"
        "    session.ranks._workers[0].join()\n"
        "    begin = time.monotonic()\n"
        "    try:\n"
        "        session.prefill(0, [1, 2, 3])\n"
        "    except CompilerError as error:\n"
        "        message = error.message\n"
        "    session.close()\n"
        "    print(json.dumps([message, time.monotonic() - begin]))\n"
    )
    path = f"{nrtpy_site()}:{ROOT}"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "art")],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "JAX_NUM_CPU_DEVICES": "4"},
    )
    assert done.returncode == 0, done.stderr
    message, seconds = json.loads(done.stdout)
    assert message == "the process of rank 0 died"
    assert seconds < 8
    assert "Traceback" not in done.stderr


def test_a_program_with_fields_that_the_compiler_does_not_know_is_said_to_be_illegal(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    raw = (tiny_bundle / "programs/decode_32/neuron.hlo.pb").read_bytes()
    (tmp_path / "x.hlo.pb").write_bytes(raw)
    assert summarize_hlo(tmp_path / "x.hlo.pb").is_legal
    (tmp_path / "x.hlo.pb").write_bytes(raw + b"\xc2\xbb\x01\x01x")
    assert not summarize_hlo(tmp_path / "x.hlo.pb").is_legal
