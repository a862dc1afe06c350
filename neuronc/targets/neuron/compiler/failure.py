"""What a failed compile means, in words: the code explained, the last lines, and how to repeat it."""

import os
import re
import shlex
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from neuronc.errors import CompilerError, DeadlineError, HostMemoryError, NeuroncError
from neuronc.targets.neuron.compiler.command import LOG_FILE
from neuronc.targets.neuron.compiler.process import CONSOLE_LOG, CompilerRun
from neuronc.targets.neuron.error_codes import codes_in, error_codes

_TAIL_LINES = 12
_HEAD_BYTES, _TAIL_BYTES = 2**20, 4 * 2**20
_TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_TRANSIENT = re.compile(
    r"Resource temporarily unavailable|Text file busy|Cannot allocate thread|"
    r"Connection reset by peer"
)
_KILLED = re.compile(r"\[F137\]")
_BANNERS = {"[F134]": "it aborted", "[F139]": "it crashed (segmentation fault)"}
_GIB = 2**30


def is_transient(run: CompilerRun, log: str) -> bool:
    """Whether the same command may well succeed a moment later."""
    if run.exit_code in (None, 0):
        return False
    return run.exit_code == _TEMPORARY_FAILURE or _TRANSIENT.search(log) is not None


def failure(
    program: str,
    run: CompilerRun,
    folder: Path,
    argv: Sequence[str],
    *,
    keep: Path,
    timeout_s: float,
    bad_output: str = "",
) -> NeuroncError:
    """The error that tells why ``argv`` failed in ``folder``, which moves to ``keep`` for repeating it."""
    log = read_log(folder)
    kept = _keep(folder, keep)
    repeat = f"to repeat: cd {shlex.quote(str(kept))} && {shlex.join(argv)}"
    if run.exit_code is None:
        message = (
            f"program {program}: neuronx-cc was stopped after {run.wall_s:.0f} s;"
            f" --compile-timeout is {timeout_s:.0f} s"
        )
        return DeadlineError(f"{message}\n{_tail(log)}", hint=f"raise --compile-timeout; {repeat}")
    if run.exit_code == -signal.SIGKILL or _KILLED.search(log):
        return _out_of_memory(program, run, repeat)
    if bad_output:
        message = f"program {program}: neuronx-cc ended well, but {bad_output}"
        return CompilerError(f"{message}\n{_tail(log)}", hint=repeat)
    codes = [known for code in codes_in(log) if (known := error_codes().get(code))]
    told = "".join(f"\n{code.full_code}: {code.condition}. {code.cause}" for code in codes)
    remedies = [code.remedy for code in codes if code.remedy]
    message = f"program {program}: neuronx-cc {_how(run, log)}{told}\n{_tail(log)}"
    return CompilerError(message, hint="; ".join([*remedies, repeat]))


def read_log(folder: Path) -> str:
    """What the compiler printed, and its log file; of a long one its beginning and end."""
    paths = [folder / name for name in (CONSOLE_LOG, LOG_FILE)]
    return "\n".join(_ends_of(p) for p in paths if p.is_file() and not p.is_symlink())


def _ends_of(path: Path) -> str:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _HEAD_BYTES + _TAIL_BYTES:
            return file.read().decode(errors="replace")
        head = file.read(_HEAD_BYTES).decode(errors="replace")
        file.seek(size - _TAIL_BYTES)
        tail = file.read(_TAIL_BYTES).decode(errors="replace")
    left_out = size - _HEAD_BYTES - _TAIL_BYTES
    return f"{head}\n[... {left_out} bytes left out ...]\n{tail}"


def _out_of_memory(program: str, run: CompilerRun, repeat: str) -> HostMemoryError:
    import psutil

    memory = psutil.virtual_memory()
    message = (
        f"program {program}: neuronx-cc was killed for lack of host memory: it held"
        f" {run.peak_rss_bytes / _GIB:.1f} GiB at its peak; this machine has"
        f" {memory.total / _GIB:.1f} GiB, {memory.available / _GIB:.1f} GiB of them free now"
    )
    hint = f"pass --jobs 1, use smaller buckets, or compile on a larger machine; {repeat}"
    return HostMemoryError(message, hint=hint)


def _how(run: CompilerRun, log: str) -> str:
    code = run.exit_code or 0
    how = f"failed with exit code {code}"
    if code < 0:
        known = {s.value: s.name for s in signal.Signals}
        how = f"died of {known.get(-code, f'signal {-code}')}"
    meaning = next((told for banner, told in _BANNERS.items() if banner in log), "")
    return f"{how}; {meaning}" if meaning else how


def _tail(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return "\n".join(f"  {printable(line[:300])}" for line in lines[-_TAIL_LINES:])


def printable(text: str) -> str:
    """``text`` without what would steer a terminal."""
    return "".join(sign if sign.isprintable() or sign == "\t" else "?" for sign in text)


def _keep(folder: Path, kept: Path) -> Path:
    """Move the working folder to where the user can look at it; one per distinct compile."""
    try:
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, kept)
    except OSError:
        return folder
    return kept
