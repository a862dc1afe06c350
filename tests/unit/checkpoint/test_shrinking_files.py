"""Each in a process of its own: without the guard the system ends it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neuronc.checkpoint.shrinking_files import shrinking_files_noticed
from neuronc.errors import UsageError

PROGRAM = """
import mmap, os, sys, threading
from neuronc.checkpoint.shrinking_files import shrinking_files_noticed
from neuronc.errors import NeuroncError

path = sys.argv[1]
open(path, "wb").write(b"x" * 3 * mmap.PAGESIZE)
with open(path, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
def read():
    print(mapped[:2], mapped[mmap.PAGESIZE : mmap.PAGESIZE + 2], mapped[-2:])
try:
    with shrinking_files_noticed("the model"):
        read()
        os.truncate(path, 10)
        {work}
except NeuroncError as error:
    print(type(error).__name__, error.message)
{after}
"""


def run(place: Path, work: str, after: str = "") -> tuple[int, list[str]]:
    program = PROGRAM.format(work=work, after=after)
    command = [sys.executable, "-c", program, str(place / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout.splitlines()


TOLD = "InputError the model changed while it was read: a file became shorter"
ZEROS = rf"{b'xx'!r} {bytes(2)!r} {bytes(2)!r}"


@pytest.mark.parametrize(
    "work", ["read()", "t = threading.Thread(target=read); t.start(); t.join()"]
)
def test_zeros_are_read_and_the_block_ends_in_an_error(tmp_path: Path, work: str) -> None:
    code, lines = run(tmp_path, work)
    assert (code, lines) == (0, [rf"{b'xx'!r} {b'xx'!r} {b'xx'!r}", ZEROS, TOLD])


def test_what_the_system_finds_is_told_as_well(tmp_path: Path) -> None:
    # on tmpfs and others write() looks at the pages itself, and says EFAULT
    code, lines = run(tmp_path, "os.write(1, memoryview(mapped)[mmap.PAGESIZE:])")
    assert code == 0
    assert lines[-1] == TOLD


def test_behind_the_block_everything_is_as_before(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "pass", "print('after', flush=True); other[-1]")
    assert code == -signal.SIGBUS
    assert lines[-1] == "after"


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(UsageError, match="mine"), shrinking_files_noticed("x"):
        raise UsageError("mine")  # noqa: EM101
    with shrinking_files_noticed("x"):
        pass
