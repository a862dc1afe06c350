"""What only a whole process shows."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_LOSES = """
import sys, time
from neuronc.cli import app

class Loses:
    def __del__(self):
        raise KeyboardInterrupt
"""
_LOSES_AN_INTERRUPT = f"""{_LOSES}
def main(application, argv):
    Loses()
    try:
        time.sleep(20)
    except KeyboardInterrupt:
        return 130
    return 0

app.run = main
sys.exit(app.main([]))
"""


def test_ctrl_c_that_a_library_callback_swallowed_still_ends_the_program() -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _LOSES_AN_INTERRUPT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert time.monotonic() - begin < 15


_LOSES_ONE_AT_THE_END = f"""{_LOSES}
def main(application, argv):
    Loses()
    return 130

app.run = main
code = app.main([])
time.sleep(0.3)
sys.exit(code)
"""


def test_ctrl_c_is_not_sent_again_when_all_is_over() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOSES_ONE_AT_THE_END], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_closed_stdout_is_no_bug() -> None:
    command = f"exec {sys.executable} -m neuronc version >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "a bug" not in done.stderr
    assert done.returncode in (0, -signal.SIGPIPE)


_ENDS = """
import atexit, sys, threading, time
from neuronc.cli import process

class NeverTakenApart:
    def __del__(self):
        print("taken apart")

kept = NeverTakenApart()
atexit.register(print, "registered for the end")

def work():
    time.sleep(0.2)
    print("thread done")

def main():
    threading.Thread(target=work).start()
    sys.stdout.write("report, ")
    return 7

process.main = main
process.run_process()
"""


def test_the_end_of_the_process_waits_for_threads_and_does_what_was_registered() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENDS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "report, thread done\nregistered for the end\n"


_LOSES_ITS_LAST_WORDS = """
from neuronc.cli import process

def main():
    print("the last words")
    return {code}

process.main = main
process.run_process()
"""


@pytest.mark.parametrize(("code", "told"), [(0, 120), (3, 3)])
def test_output_lost_at_the_end_is_no_success(code: int, told: int) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-E", "-c", _LOSES_ITS_LAST_WORDS.format(code=code)],  # buffers
            stdout=full,
            check=False,
        )
    assert done.returncode == told
