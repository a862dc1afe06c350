"""The process that ``neuronc`` is, from its first line to its exit code."""

import atexit
import os
import sys
import threading
from typing import NoReturn

from neuronc.cli.app import main

_LOST_OUTPUT = 120
"""What Python exits with when the last of stdout could not be written."""


def run_process() -> NoReturn:
    """Run the process's command line and end the process with its exit code.

    All that is registered for the end is done, and nothing else: to take apart every module and
    object, as the interpreter does otherwise, takes 50 to 100 ms after the work is done. CPython ends
    the processes that multiprocessing forks in the same way (``multiprocessing/popen_fork.py``).
    """
    code = main()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or _LOST_OUTPUT
    os._exit(code)
