"""What only a whole process shows."""

import signal
import subprocess
import sys
import time

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
